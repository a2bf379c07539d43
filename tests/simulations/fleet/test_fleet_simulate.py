"""`remora fleet-simulate`: what it prints and writes, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from simulations.fleet.contest import contestants
from simulations.fleet.contestants import CONTESTANTS
from simulations.reading import ScenarioError

ROOT = Path(__file__).resolve().parents[3]

SMALL = """\
# Four pods, and nearly everything that can happen to them, within a minute and a half.
workload:
  zipf: {models: 24, rate: 2, exponent: 0.9, duration: 90s, seed: 1}
  catalogue: {models: {"*": {size: 1GiB, load: 1s, service: 20ms}}}
fleet: {pods: 4, memory: 1.5, start: 5s}
gossip: {loss: 0.05, partitions: [{from: 30s, to: 45s}], outages: [{from: 60s, to: 65s}]}
churn:
  - {at: 20s, kill: 1}
  - {at: 25s, add: 1}
  - {at: 50s, drain: 1, notice: 5s}
warm_up: 10s
expectations:
  remora: {failed: {at_most: 5, why: only what a pod was killed with}}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, "utf-8")
    return path


def simulated(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["fleet-simulate", "--workers", "1", *map(str, arguments)])
    return result.exit_code, result.output


def test_every_contestant_has_a_row_and_expectations_their_reason(scenario: Path) -> None:
    status, output = simulated(scenario)
    assert status == 0
    assert "Four pods, and nearly everything" in output
    assert all(name in output for name in CONTESTANTS)
    assert "only what a pod was killed with" in output


def test_an_expectation_that_does_not_hold_is_the_exit_status(scenario: Path) -> None:
    scenario.write_text(SMALL.replace("at_most: 5", "at_least: 5000"), "utf-8")
    status, output = simulated(scenario, "--contestants", "remora")
    assert status == 1
    assert "FAILS" in output


def test_a_table_in_markdown_has_a_line_for_each(scenario: Path) -> None:
    status, output = simulated(scenario, "--contestants", "no-gossip,lru-random", "--markdown")
    assert status == 0
    lines = [line for line in output.splitlines() if line.startswith("| small")]
    assert [line.split(" | ")[1] for line in lines] == ["no-gossip", "lru-random"]


def test_neither_hash_seed_nor_workers_change_a_byte(scenario: Path) -> None:
    written = []
    for hash_seed, workers in (("0", "1"), ("1", "2")):
        out = scenario.with_name(f"{hash_seed}.json")
        arguments = ["--contestants", "remora,lru-random", "--json", str(out)]
        arguments += ["--workers", workers]
        printed = subprocess.run(
            [sys.executable, "-m", "daemon.cli", "fleet-simulate", scenario.name, *arguments],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            cwd=scenario.parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        written.append((printed, out.read_text()))
    assert written[0] == written[1]
    (values,) = json.loads(written[0][1])
    assert list(values["contestants"]) == ["remora", "lru-random"]
    assert values["contestants"]["remora"]["expectations"] == {"failed": True}


def test_a_contestant_that_nobody_knows_is_named() -> None:
    with pytest.raises(ScenarioError, match="contestants: remorra: no such one; allowed: "):
        contestants("remorra")
    assert [each.label for each in contestants("")] == list(CONTESTANTS)
