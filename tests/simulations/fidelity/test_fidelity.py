"""The whole comparison for a short while: real Triton, real sidecar, real Envoy."""

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from simulations.fidelity.command import as_json, compare
from simulations.fidelity.table import text
from tests.simulations.fidelity.settings import setting

SECONDS = 20.0


def test_a_played_timeline_comes_to_the_same_cold_starts_in_both(tmp_path: Path) -> None:
    # Two of four fit. The last comes when the first two have long been quiet.
    asks = [(0.5 + 0.25 * n, "ab"[n % 2]) for n in range(24)]
    asks += [(12.0 + 0.25 * n, "c") for n in range(24)]
    played = setting(asks, "abcd", SECONDS)
    told = compare(played, tmp_path, rounds=1)
    real, simulated = told.figures()
    assert real["requests"] == simulated["requests"] == len(asks)
    assert len(told.real.latency_s) == len(told.simulated.latency_s) == len(asks)
    assert real["failed"] == 0
    assert list(real) == list(simulated)
    assert all(math.isfinite(value) for value in (*real.values(), *simulated.values()))
    assert 3 <= real["cold starts"] <= 6
    assert abs(simulated["cold starts"] - real["cold starts"]) <= 2
    assert real["loads"] >= 3
    assert 0 < real["peak memory MiB"] <= told.budget_bytes / 2**20
    assert told.real.measured_bytes.max() > 60 * 2**20
    assert "within 10% of the real Triton?" in text(told)
    assert json.loads(as_json(told))["figures"]["loads"]["real"] == real["loads"]


def test_without_a_triton_the_command_says_why_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITONSERVER", str(tmp_path / "nowhere"))
    words = ["fidelity", "--seconds", "5", "--directory", str(tmp_path)]
    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 1
    assert "nowhere" in outcome.output
    assert not isinstance(outcome.exception, OSError)
