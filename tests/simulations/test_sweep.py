"""The engines: what the processes that do the work are given."""

import os

import pytest

from simulations.sweep import local

THREADS = "OPENBLAS_NUM_THREADS"


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
