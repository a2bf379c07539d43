"""`remora scale`: what it prints and writes, and how it ends."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from simulations.reading import ScenarioError
from simulations.scaling.contest import Competitor, competitors
from simulations.scaling.signals import TARGETS

SMALL = """\
# Two minutes of little.
traffic:
  duration: 2m
  rate: {line: [[0s, 8]]}
  models: {a: {size: 2GiB, service: 50ms}}
pod: {device: 16GiB}
policy: {models: {a: {pin: true}}}
objective: {wait: 400ms}
expectations:
  remora: {reversals: {exactly: 0, why: nothing happens}}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, "utf-8")
    return path


def scaled(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["scale", "--workers", "1", *map(str, arguments)])
    return result.exit_code, result.output


def test_every_signal_runs_beside_the_clairvoyant(scenario: Path) -> None:
    status, output = scaled(scenario)
    assert status == 0
    assert "Two minutes of little." in output
    assert all(name in output for name in ("clairvoyant", *TARGETS))
    assert "nothing happens" in output


def test_an_expectation_that_does_not_hold_is_the_exit_status(scenario: Path) -> None:
    scenario.write_text(SMALL.replace("exactly: 0", "exactly: 7"), "utf-8")
    status, output = scaled(scenario, "--signals", "remora")
    assert status == 1
    assert "FAILS" in output


def test_the_same_scenario_gives_the_same_bytes(scenario: Path, tmp_path: Path) -> None:
    written = []
    for name in ("one.json", "two.json"):
        assert scaled(scenario, "--signals", "remora,busy@0.5", "--json", tmp_path / name)[0] == 0
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    (values,) = json.loads(written[0])
    assert list(values["signals"]) == ["clairvoyant", "remora", "busy@0.5"]
    assert values["signals"]["busy@0.5"]["target"] == 0.5
    assert values["signals"]["remora"]["expectations"] == {"reversals": True}


def test_a_table_in_markdown_has_a_line_for_each(scenario: Path) -> None:
    status, output = scaled(scenario, "--signals", "remora", "--markdown")
    assert status == 0
    lines = [line for line in output.splitlines() if line.startswith("| small")]
    assert [line.split(" | ")[1] for line in lines] == ["clairvoyant", "remora"]


def test_signals_are_named_with_a_target_or_without() -> None:
    assert competitors("busy, remora@0.6") == [Competitor("busy"), Competitor("remora", 0.6)]
    assert [each.signal for each in competitors("")] == list(TARGETS)


@pytest.mark.parametrize("said", ["bussy", "busy@", "busy@x", "busy@0", "busy@nan", "busy@inf"])
def test_a_signal_that_nobody_knows_is_named(said: str) -> None:
    with pytest.raises(ScenarioError, match=r"^signals: .*; allowed: "):
        competitors(said)


def test_what_cannot_be_read_ends_the_command_with_its_reason(tmp_path: Path) -> None:
    status, output = scaled(tmp_path / "absent.yaml")
    assert status == 1
    assert "absent.yaml" in output
