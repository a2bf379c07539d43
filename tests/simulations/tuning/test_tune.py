"""A search on a scenario small enough to be run a hundred times: the same result wherever its
runs happen, and a policy that can be used."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import LocalCluster

from policies.source import parse
from simulations import commands, sweep
from simulations.reading import ScenarioError
from simulations.scenario import parsed
from simulations.tuning.search import Search, total_runs
from simulations.tuning.space import Space

# Brakes so hard that nearly any other value is better.
BRAKED = """\
# Two models take turns, and a policy that hardly lets them.
workload:
  zipf: {models: 2, rate: 0.5, duration: 6m, exponent: 0, seed: 3}
  catalogue:
    models:
      "*": {size: 4GiB, load: 1s}
pod: {device: 6GiB}
policy:
  budget: 100%
  residency: {minimum: 55s}
"""
SPACE = """\
knobs:
  residency.minimum: {from: 1s, to: 60s, scale: log}
  residency.hysteresis: {from: 0, to: 2}
"""


@pytest.fixture
def braked(tmp_path: Path) -> Path:
    (tmp_path / "braked.yaml").write_text(BRAKED)
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path / "braked.yaml"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as found:
        yield found


def tuned(scenario: Path, name: str, **how: object) -> str:
    out = scenario.with_name(name)
    space = scenario.with_name("space.yaml")
    assert commands.tune(scenario, out, space=space, candidates=8, seed=5, **how) == 0  # type: ignore[arg-type]
    return out.read_text()


def test_what_was_found_is_a_policy_with_how_it_was_found(
    braked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tuned(braked, "tuned.yaml", workers=1)
    policy = parse(text)
    assert policy.budget == 1.0
    assert policy.residency.minimum_s < 55
    assert (
        "# Found by `remora tune` on the first half of the traffic of the scenario braked," in text
    )
    assert "#   residency.minimum" in text
    said = capsys.readouterr().out
    assert "judged on the second" in said


def test_what_was_found_is_better_on_the_half_that_was_not_searched_too() -> None:
    with sweep.local(1) as engine:
        space = Space.model_validate(
            {
                "knobs": {"residency.minimum": {"from": "1s", "to": "60s", "scale": "log"}},
                "objective": {"visible_cold_s": 1},
            }
        )
        found = Search(parsed(BRAKED), space, engine, lambda: None).tune(8, 5)
    assert found.after_first["visible_cold_s"] < found.before_first["visible_cold_s"]
    assert found.after_second["visible_cold_s"] < found.before_second["visible_cold_s"]


def test_the_halves_share_no_request() -> None:
    with sweep.local(1) as engine:
        space = Space.model_validate(
            {"knobs": {"tick": {"choices": ["1s"]}}, "objective": {"failed": 1}}
        )
        found = Search(parsed(BRAKED), space, engine, lambda: None).tune(2, 0)
    whole = sum(len(run) for run in _traffic(BRAKED))
    assert found.before_first["requests"] + found.before_second["requests"] == whole
    assert found.values == {}


def test_the_policy_as_it_was_stays_where_nothing_is_better(braked: Path) -> None:
    braked.with_name("space.yaml").write_text("knobs: {residency.minimum: {choices: [59s]}}\n")
    text = tuned(braked, "tuned.yaml", workers=1)
    assert "Nothing better was found" in text
    assert parse(text).residency.minimum_s == 55


def test_the_number_of_workers_changes_no_byte(braked: Path) -> None:
    alone = tuned(braked, "alone.yaml", workers=1)
    assert tuned(braked, "together.yaml", workers=2) == alone


def test_a_dask_cluster_finds_the_same(braked: Path, cluster: LocalCluster) -> None:
    alone = tuned(braked, "alone.yaml", workers=1)
    address = cluster.scheduler_address
    assert tuned(braked, "cluster.yaml", on="dask", scheduler=address) == alone


def test_the_number_of_runs_is_known_beforehand() -> None:
    seen = []
    with sweep.local(1) as engine:
        space = Space.model_validate(
            {"knobs": {"residency.hysteresis": {"from": 0, "to": 2}}, "objective": {"load_s": 1}}
        )
        search = Search(parsed(BRAKED), space, engine, lambda: seen.append(1))
        found = search.tune(4, 0)
    assert len(seen) == found.runs <= total_runs(4)


def test_a_residency_policy_has_nothing_to_search(tmp_path: Path) -> None:
    path = tmp_path / "fast.yaml"
    path.write_text(
        "workload: {zipf: {models: 2, rate: 1, duration: 1m}}\nspeed: fast\nbudget: 1\n"
    )
    with pytest.raises(ScenarioError, match="speed: fast; allowed: speed: faithful"):
        commands.tune(path, tmp_path / "out.yaml")


def _traffic(text: str) -> Iterator[list[int]]:
    from simulations import trial

    workload, _ = trial.traffic(parsed(text))
    return (run.model.tolist() for run in workload.runs())
