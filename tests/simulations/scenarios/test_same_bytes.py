"""The same scenario and seed give the same bytes, whatever the hash seed and the workers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulations.scenarios.worlds import SMALL, SMALL_FAST

ROOT = Path(__file__).resolve().parents[3]

# Hash seed and workers.
ALONE, TOGETHER = ("0", "1"), ("1", "2")


def files(folder: Path, scenario: str, arguments: tuple[str, ...], how: tuple[str, str]) -> str:
    """What `remora` prints and writes in ``folder``, without what names the folder."""
    hash_seed, workers = how
    folder.mkdir()
    (folder / "small.yaml").write_text(scenario)
    (folder / "space.yaml").write_text("knobs: {residency.minimum: {from: 1s, to: 60s}}\n")
    command, *options = arguments
    several = () if command == "simulate" else ("--workers", workers)
    run = subprocess.run(
        [sys.executable, "-m", "daemon.cli", command, "small.yaml", *options, *several],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    written = [path for path in sorted(folder.iterdir()) if path.suffix != ".yaml"]
    written += [path for path in [folder / "tuned.yaml"] if path.exists()]
    return "\n".join([run.stdout, *(path.read_text() for path in written)])


@pytest.mark.parametrize("scenario", [SMALL, SMALL_FAST], ids=["faithful", "fast"])
@pytest.mark.parametrize(
    ("arguments", "holds"),
    [
        (("simulate",), "visible_cold_s"),
        (("simulate", "--json"), '"visible_cold_s"'),
        (("compare", "--markdown", "--budgets", "30,60"), r"\| small \| 60% \| "),
        (("compare", "--html", "r.html", "--json", "f.json", "--budgets", "60"), "<svg"),
        (("tune", "--out", "tuned.yaml", "--space", "space.yaml", "--candidates", "2"), "minimum"),
    ],
    ids=["simulate", "simulate-json", "compare-markdown", "compare-files", "tune"],
)
def test_neither_hash_seed_nor_workers_change_a_byte(
    tmp_path: Path, scenario: str, arguments: tuple[str, ...], holds: str
) -> None:
    alone, together = (
        files(tmp_path / "-".join(how), scenario, arguments, how) for how in (ALONE, TOGETHER)
    )
    assert alone == together
    assert re.search(holds, alone)
