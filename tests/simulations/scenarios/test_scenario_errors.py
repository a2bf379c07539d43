"""What is wrong with a scenario is said with its file, line, key, value and what is allowed."""

from pathlib import Path

import pytest

from simulations import trial
from simulations.reading import ScenarioError
from simulations.scenario import load, parsed
from simulations.workloads.arrivals import WorkloadError
from tests.simulations.scenarios.worlds import SMALL, SMALL_FAST


def problems(text: str) -> str:
    with pytest.raises(ScenarioError) as raised:
        parsed(text, "bad.yaml")
    return str(raised.value)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("pod:", "pot:", "bad.yaml:7: pot: unknown key; allowed: budget, "),
        ("device:", "devise:", "bad.yaml:7: pod.devise: unknown key; allowed: "),
        ("6GiB", "6 apples", "bad.yaml:7: pod.device: '6 apples'; allowed: an amount of memory"),
        ("rate: 0.2", "rate: -1", "bad.yaml:3: workload.zipf.rate: -1; allowed: a number above 0"),
        ("4GiB", "0", "bad.yaml:6: workload.catalogue.models.*.size: 0; allowed: an amount"),
        ("100%", "0%", "bad.yaml:9: budget: '0%'; allowed: a percentage above 0%"),
        ("minimum: 10s", "minimum: x", "bad.yaml:10: residency.minimum: 'x'; allowed: a duration"),
        ("requests:", "request:", "bad.yaml:12: expectations.request: no such figure; allowed: "),
        (", why: there is traffic", "", "bad.yaml:12: expectations.requests.why: missing; allowed"),
        ("at_least: 20, ", "", "bad.yaml:12: expectations.requests: {'why': 'there is traffic'}; "),
        (
            "at_least: 20",
            "at_least: many",
            "expectations.requests.at_least: 'many'; allowed: a num",
        ),
        ("pod: {device: 6GiB}\n", "", "bad.yaml: pod: missing; allowed: a pod, as"),
        ("pod:", "speed: slow\npod:", "bad.yaml:7: speed: 'slow'; allowed: fast, faithful"),
        ("zipf:", "journal: {path: x}\n  zipf:", "bad.yaml:2: workload: "),
    ],
)
def test_each_mistake_is_named_with_its_place_and_what_is_allowed(
    before: str, after: str, said: str
) -> None:
    assert before in SMALL
    assert said in problems(SMALL.replace(before, after, 1))


def test_every_problem_is_told_at_once() -> None:
    said = problems(SMALL.replace("6GiB", "x").replace("rate: 0.2", "rate: x"))
    assert len(said.splitlines()) == 2


def test_a_key_that_is_nearly_right_is_suggested() -> None:
    assert "did you mean device?" in problems(SMALL.replace("device:", "devise:"))


def test_a_policy_that_is_no_preset_ranking_or_file_is_refused_with_what_there_is() -> None:
    text = SMALL.replace("policy:\n  budget: 100%\n  residency: {minimum: 10s}", "policy: no.yaml")
    assert "bad.yaml:8: policy: 'no.yaml'; allowed: expected-cold, " in problems(text)


def test_only_residency_policies_decide_at_the_fast_speed() -> None:
    assert "bad.yaml:6: policy: 'lru'; allowed: remora, " in problems(SMALL_FAST + "policy: lru\n")


def test_contrasts_of_knobs_are_refused_where_there_are_no_knobs() -> None:
    contrast = "contrasts: [{knob: tick, value: 2s, figure: loads, becomes: more, why: so}]\n"
    assert "bad.yaml:6: contrasts: " in problems(SMALL_FAST + contrast)


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"nothing\.yaml: \(file\): No such file"):
        load(tmp_path / "nothing.yaml")


def test_a_path_that_no_file_can_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ScenarioError, match=r"a\0b: \(file\): .*; allowed: a readable file of UTF-8"
    ):
        load(tmp_path / "a\0b")
    said = problems(SMALL.replace("zipf:", 'journal: {path: "a\\0b"}\n  zipf:'))
    assert "workload.journal.path: 'a\\x00b'; allowed: a path without NUL bytes" in said


def test_a_file_that_is_not_yaml_is_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("workload:\n  zipf: [\n")
    with pytest.raises(ScenarioError, match=r"bad\.yaml:3: \(file\)"):
        load(tmp_path / "bad.yaml")


def test_a_trace_that_is_absent_is_an_error_of_the_workload(tmp_path: Path) -> None:
    text = "workload: {table: {path: nothing.csv}}\nbudget: 0.5\nspeed: fast\n"
    with pytest.raises(WorkloadError, match=r"nothing\.csv: cannot be read"):
        trial.run(parsed(text, base=tmp_path))


def test_a_knob_that_no_policy_has_is_refused_by_its_name() -> None:
    scenario = parsed(SMALL)
    with pytest.raises(ScenarioError, match=r"residency\.minimun: unknown key"):
        scenario.decider.with_values({"residency.minimun": "1s"})


def test_a_policy_file_is_found_beside_its_scenario(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("ranking: lru\n")
    text = SMALL.replace(
        "policy:\n  budget: 100%\n  residency: {minimum: 10s}", "policy: mine.yaml"
    )
    (tmp_path / "scenario.yaml").write_text(text)
    decider = load(tmp_path / "scenario.yaml").decider
    assert (decider.label, decider.policy.ranking) == ("mine", "lru")
