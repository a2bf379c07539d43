"""The engines: what the processes that do the work are given, and how they end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.sweep import local

REPO = Path(__file__).resolve().parents[2]
THREADS = "OPENBLAS_NUM_THREADS"
INTERRUPTED = """
import os, sys, time
from simulations.sweep import local

def pause(where):
    if where == {at!r}:
        os.write(1, where.encode() + b"\\n")
        time.sleep(1 if where == "importing" else 600)

if __name__ == "__main__":
    try:
        with local(workers=2) as engine:
            list(engine(pause, ["working"] * 4))
    except KeyboardInterrupt:
        sys.exit(130)
pause("importing")
"""


def test_each_worker_computes_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(THREADS, raising=False)
    with local(workers=2) as engine:
        assert list(engine(os.getenv, [THREADS, THREADS])) == ["1", "1"]
    assert THREADS not in os.environ


def test_a_number_of_threads_that_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS, "3")
    with local(workers=2) as engine:
        assert list(engine(os.getenv, [THREADS])) == ["3"]
    assert os.environ[THREADS] == "3"


@pytest.mark.parametrize("at", ["importing", "working"])
def test_ctrl_c_ends_workers_without_a_word(tmp_path: Path, at: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED.format(at=at), "utf-8")
    run = subprocess.Popen(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == f"{at}\n"
    # As a terminal does it: to all processes at once.
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert (run.returncode, said) == (130, "")
