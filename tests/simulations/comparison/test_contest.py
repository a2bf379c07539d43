"""Policies that compete on a small scenario, in this process and in others."""

import json
from pathlib import Path
from typing import get_args

import pytest

from simulations import commands, sweep
from simulations.comparison.contest import compare, deciders
from simulations.reading import ScenarioError
from simulations.scenario import parsed
from simulations.trial import Half
from simulations.workloads.arrivals import WorkloadError
from tests.simulations.scenarios.worlds import SMALL, SMALL_FAST

FAST = parsed(SMALL_FAST, name="small")


def test_no_policy_that_serves_everybody_loads_less_than_the_bound() -> None:
    with sweep.local(1) as engine:
        names = ["remora", "lru-seldon", "belady", "static"]
        found = compare(FAST, deciders(FAST, names), [0.2, 0.4], engine)
    assert [(e.budget.share, e.policy) for e in found.entries] == [
        (share, name) for share in (0.2, 0.4) for name in names
    ]
    for entry in found.entries:
        assert entry.outcome.failed > 0 or entry.figures["load_to_bound"] >= 1 - 1e-9


def test_a_larger_budget_has_a_lower_bound() -> None:
    with sweep.local(1) as engine:
        found = compare(FAST, deciders(FAST, ["remora"]), [0.2, 0.4], engine)
    tight, loose = (budget.bound_s for budget in found.budgets)
    assert tight is not None
    assert loose is not None
    assert tight >= loose > 0


def test_other_processes_change_no_byte() -> None:
    names = ["remora", "lru-seldon"]
    said = []
    for workers in (1, 2):
        with sweep.local(workers) as engine:
            said.append(compare(FAST, deciders(FAST, names), [0.3], engine).as_json())
    assert said[0] == said[1]


def test_at_the_faithful_speed_every_policy_gets_the_same_budget() -> None:
    scenario = parsed(SMALL)
    with sweep.local(1) as engine:
        found = compare(scenario, deciders(scenario, ["scenario", "frugal"]), [0.8], engine)
    assert {entry.outcome.budget_bytes for entry in found.entries} == {round(0.8 * 2 * 4 * 2**30)}


def test_a_name_that_means_nobody_is_refused_with_those_that_mean_somebody() -> None:
    with pytest.raises(ScenarioError, match=r"'lruu'; allowed: remora, .*or the path of a policy"):
        deciders(FAST, ["lruu"])


def test_traffic_that_cannot_be_used_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("time,model\n0,a\n-1,b\n")
    (tmp_path / "bad.yaml").write_text(
        "workload: {table: {path: bad.csv}}\nspeed: fast\nbudget: 1\n"
    )
    with pytest.raises(WorkloadError, match=r"bad\.csv, line 3"):
        commands.compare([tmp_path / "bad.yaml"], policies="remora", workers=2)


@pytest.mark.parametrize("budgets", ["0", "10,x", "101", ""])
def test_budgets_are_percentages(tmp_path: Path, budgets: str) -> None:
    with pytest.raises(ScenarioError, match="percentages above 0 up to 100"):
        commands.compare([tmp_path / "any.yaml"], budgets=budgets)


def test_the_command_writes_a_report_and_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, report, figures = (tmp_path / name for name in ("small.yaml", "r.html", "f.json"))
    path.write_text(SMALL_FAST)
    chosen = "remora,lru-seldon"
    status = commands.compare(
        [path], policies=chosen, budgets="20,40", html=report, json_out=figures, workers=1
    )
    assert status == 0
    assert "lru-seldon" in capsys.readouterr().out
    assert report.read_text().count("<svg") == 5
    assert len(json.loads(figures.read_text())["budgets"]) == 2


def test_halves_have_the_requests_of_the_whole_between_them(tmp_path: Path) -> None:
    path, figures = tmp_path / "small.yaml", tmp_path / "f.json"
    path.write_text(SMALL_FAST)
    requests = []
    for half in (None, *get_args(Half)):
        commands.compare(
            [path], policies="remora", budgets="40", half=half, json_out=figures, workers=1
        )
        (budget,) = json.loads(figures.read_text())["budgets"]
        requests.append(budget["policies"]["remora"]["requests"])
    whole, first, second = requests
    assert first > 0
    assert second > 0
    assert first + second == whole


def test_one_command_makes_one_table_of_several_scenarios(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "one.yaml", tmp_path / "two.yaml", tmp_path / "absent.yaml"]
    for path in paths:
        path.write_text(SMALL_FAST)
    paths[2].write_text(SMALL_FAST + "skip_without: nowhere\n")
    status = commands.compare(paths, policies="remora", budgets="30", markdown=True, workers=1)
    said = capsys.readouterr().out
    assert status == 0
    assert said.count("| one |") == said.count("| two |") == 1
    assert "absent: skipped: nowhere is not on this machine" in said
