"""`remora simulate`: what it prints, and its exit status."""

import json
from pathlib import Path

import pytest

from simulations import commands
from tests.simulations.scenarios.worlds import SMALL, SMALL_FAST


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_it_says_which_expectations_hold(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.simulate(small) == 0
    said = capsys.readouterr().out
    assert "Two models take turns" in said
    assert "holds" in said
    assert "there is traffic" in said


def test_the_comment_is_wrapped_to_the_width_there_is_and_not_as_the_file_does(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    comment = "# one two three\n# four [five] 6\n#\n# and another paragraph\n"
    small.write_text(
        SMALL.replace("# Two models take turns, for there is memory for one.\n", comment)
    )
    commands.simulate(small)
    said = capsys.readouterr().out
    assert said.startswith("one two three four [five] 6\n\nand another paragraph\n")
    small.write_text(SMALL.replace("# Two models", "# Two models " + "on and " * 20))
    commands.simulate(small)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert 50 < len(first.strip()) <= 60
    assert second.startswith(("on", "and"))


def test_it_fails_when_an_expectation_does(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small.write_text(SMALL.replace("at_least: 20", "at_least: 20000"))
    assert commands.simulate(small) == 1
    assert "FAILS" in capsys.readouterr().out


def test_it_skips_with_a_word_where_data_is_absent(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.write_text(SMALL + "skip_without: ../no/such/trace\n")
    assert commands.simulate(small) == 0
    assert "small: skipped: ../no/such/trace is not on this machine" in capsys.readouterr().out


def test_it_tells_what_other_values_of_knobs_do(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contrast = "{knob: mode, value: observe, figure: failed, becomes: more, why: nobody loads}"
    small.write_text(SMALL + f"contrasts:\n  - {contrast}\n")
    assert commands.simulate(small, contrasts=True) == 0
    assert "nobody loads" in capsys.readouterr().out


def test_a_fast_scenario_runs_too(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small.write_text(SMALL_FAST)
    assert commands.simulate(small, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["policy"] == "remora"
    assert found["figures"]["load_s"] == found["figures"]["visible_cold_s"] > 0


def test_the_bound_is_told_where_an_expectation_needs_it(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.write_text(
        SMALL_FAST + "expectations: {load_to_bound: {at_least: 1, why: it is a bound}}\n"
    )
    assert commands.simulate(small, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["figures"]["load_to_bound"] >= 1
