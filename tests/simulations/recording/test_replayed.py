"""What a real Prometheus counted is what every run of the recording is asked for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from daemon import imagining
from tests.simulations.recording.past import AWAY_S, BEGIN_S, HOUR_S, STEP_S, Written
from tests.simulations.recording.prometheus import Prometheus

# beta's second visit, and the half hour that nobody scraped.
FROM_H, TO_H = 20, 32

SCENARIO = """\
# What a Prometheus saw of two Tritons over half a day: three models, and memory for one.
workload:
  recording: {{path: past.parquet, aggregate: {aggregate}}}
  catalogue:
    models:
      "*": {{size: 4GiB, load: 5s}}
speed: {speed}
budget: 0.5
"""


def remora(*arguments: str) -> str:
    app = typer.Typer()
    for command in imagining.COMMANDS:
        app.command()(command)
    run = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert run.exit_code == 0, run.output
    return run.stdout


@pytest.fixture(scope="module")
def recording(prometheus: Prometheus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("recording") / "past.parquet"
    begin, end = (str(BEGIN_S + hours * HOUR_S) for hours in (FROM_H, TO_H))
    remora("record", prometheus.url, str(target), "--from", begin, "--to", end)
    return target


@pytest.fixture(scope="module")
def asked(written: Written) -> int:
    """Requests that Triton really had within the range."""
    first, last = (hours * HOUR_S // STEP_S for hours in (FROM_H, TO_H))
    seen = sum(n for (_, step), n in written.requests.items() if first <= step < last)
    assert FROM_H * HOUR_S < AWAY_S[0] < AWAY_S[1] < TO_H * HOUR_S
    return seen + written.away["alpha"]


@pytest.mark.parametrize("speed", ["fast", "faithful"])
@pytest.mark.parametrize("aggregate", ["false", "true"])
def test_a_recording_is_simulated_with_every_request_that_was_counted(
    recording: Path, asked: int, speed: str, aggregate: str
) -> None:
    path = recording.with_name(f"{speed}-{aggregate}.yaml")
    path.write_text(SCENARIO.format(speed=speed, aggregate=aggregate))
    figures: Mapping[str, float] = json.loads(remora("simulate", str(path), "--json"))["figures"]
    assert figures["requests"] == asked
    assert figures["failed"] == 0
    # gamma was there and never asked; alpha and beta have to take turns.
    assert figures["cold_starts"] >= 2
    assert figures["evictions"] >= 1


@pytest.mark.parametrize("speed", ["fast", "faithful"])
def test_policies_compete_on_a_recording_with_every_request_that_was_counted(
    recording: Path, asked: int, speed: str
) -> None:
    path, out = (recording.with_name(f"compared-{speed}{end}") for end in (".yaml", ".json"))
    path.write_text(SCENARIO.format(speed=speed, aggregate="true"))
    policies = "scenario,lru-seldon,belady" if speed == "fast" else "scenario,lru"
    arguments = ("--policies", policies, "--budgets", "40,50", "--workers", "1")
    remora("compare", str(path), *arguments, "--json", str(out))
    budgets: list[dict[str, Any]] = json.loads(out.read_text())["budgets"]
    requests = [entry["requests"] for each in budgets for entry in each["policies"].values()]
    assert requests == [asked] * 2 * (policies.count(",") + 1)
