"""Every scenario that comes with the product says something, and what it says is true."""

from collections.abc import Iterator, Mapping
from enum import EnumMeta
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from policies.policy import Policy, Window
from simulations import scenario as scenarios
from simulations import trial
from simulations.comparison.figures import figures
from simulations.outcome import Outcome
from simulations.scenario import Contrast, Scenario

FILES = sorted((Path(__file__).resolve().parents[3] / "simulations" / "scenarios").glob("*.yaml"))
LOADED = {path.stem: scenarios.load(path) for path in FILES}
CONTRASTS = [
    pytest.param(name, contrast, id=f"{name}-{contrast.knob}-{number}")
    for name, scenario in LOADED.items()
    for number, contrast in enumerate(scenario.contrasts)
]

# Knobs that change nothing here, and why.
WITHOUT_EFFECT = {
    "restart_above": "a restart of Triton is only ever advised",
    "prometheus.query": "nobody outside counts the requests of an imagined pod",
    "prometheus.label": "nobody outside counts the requests of an imagined pod",
    "prometheus.window": "nobody outside counts the requests of an imagined pod",
    "prometheus.history": "nobody outside counts the requests of an imagined pod",
    "front_door.held": "simulated requests have no bodies",
    "front_door.lease": "there are no simulated streams",
    "front_door.access_sample": "a simulated door writes no journal",
    "footprints.file_factor": "the catalogue knows each model's size",
    "footprints.assume": "the catalogue knows each model's size",
    "loads.backoff.unavailable.factor": "Triton's own absence is not the model's, nor counted up",
}


def present(name: str) -> Scenario:
    scenario = LOADED[name]
    if scenario.is_absent:
        pytest.skip(f"{scenario.skip_without} is not on this machine")
    return scenario


@cache
def outcome_of(name: str) -> Outcome:
    return trial.run(present(name))


@pytest.mark.parametrize("name", LOADED)
def test_what_a_scenario_expects_holds(name: str) -> None:
    scenario = present(name)
    outcome = outcome_of(name)
    bound_s = trial.bound_s(scenario) if scenario.needs_bound else None
    failed = [
        f"{verdict.figure} is {verdict.value}, expected {verdict.expected}: {verdict.expected.why}"
        for verdict in trial.verdicts(scenario, outcome, bound_s)
        if not verdict.holds
    ]
    assert not failed
    assert scenario.expectations


@pytest.mark.parametrize("name", LOADED)
def test_a_scenario_begins_by_saying_what_it_shows(name: str) -> None:
    assert len(LOADED[name].about.split()) >= 12


@pytest.mark.parametrize(("name", "contrast"), CONTRASTS)
def test_another_value_of_the_knob_changes_the_figure_as_the_scenario_says(
    name: str, contrast: Contrast
) -> None:
    scenario = present(name)
    here = figures(outcome_of(name))[contrast.figure]
    other = figures(trial.run(trial.contrasted(scenario, contrast)))[contrast.figure]
    assert other > here if contrast.becomes == "more" else other < here


def test_every_knob_has_a_scenario_in_which_it_changes_the_result() -> None:
    shown = {knob for scenario in LOADED.values() for knob in _shown(scenario)}
    # How many pods there are, and what they are to each other, is no question of one pod:
    # simulations/scenarios/scaling and simulations/scenarios/fleet show those.
    known = {knob for knob in _knobs(Policy, "") if not knob.startswith(("scaling.", "fleet."))}
    known.remove("models.*.copies")
    assert known - shown - set(WITHOUT_EFFECT) == set()
    assert shown - known == set()


def test_no_knob_is_excused_that_a_scenario_shows() -> None:
    shown = {knob for scenario in LOADED.values() for knob in _shown(scenario)}
    assert set(WITHOUT_EFFECT) & shown == set()
    assert set(WITHOUT_EFFECT) <= set(_knobs(Policy, ""))


def test_some_scenarios_show_what_bad_looks_like() -> None:
    bad = [name for name, scenario in LOADED.items() if "hat bad looks like" in scenario.about]
    assert len(bad) >= 3


def _knobs(kind: type[BaseModel], prefix: str) -> Iterator[str]:
    """Every key that a policy may have; ``*`` stands for the name of a model or a device."""
    for name, field in kind.model_fields.items():
        key = prefix + str(field.alias or name)
        within = list(_within(field.annotation, key))
        for inner, below in within:
            yield from _knobs(inner, f"{below}.")
        if not within or any(inner is Window for inner, _ in within):
            yield key


def _within(annotation: Any, key: str) -> Iterator[tuple[type[BaseModel], str]]:
    """The sections that stand at ``key``, and what they are called there."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, key
        return
    inner = get_args(annotation)
    if len(inner) == 2 and isinstance(inner[0], EnumMeta):
        members: Mapping[str, Any] = inner[0].__members__
        for member in members.values():
            yield from _within(inner[1], f"{key}.{member.value}")
    elif len(inner) == 2 and inner[0] is str:
        yield from _within(inner[1], f"{key}.*")
    else:
        for form in inner:
            yield from _within(form, key)


def _shown(scenario: Scenario) -> Iterator[str]:
    """The knobs that a scenario's contrasts turn, by the names that `_knobs` gives."""
    for contrast in scenario.contrasts:
        knob = _without_names(contrast.knob)
        if isinstance(contrast.value, list):
            yield from _differing(scenario, contrast, knob)
        else:
            yield knob


def _without_names(knob: str) -> str:
    parts = knob.split(".")
    return ".".join([parts[0], "*", *parts[2:]]) if parts[0] in ("models", "devices") else knob


def _differing(scenario: Scenario, contrast: Contrast, knob: str) -> Iterator[str]:
    """The keys in which a window differs from the one of the scenario itself."""
    here: Any = scenario.decider.written
    for part in contrast.knob.split("."):
        here = here[part]
    written: Mapping[str, Any] = here[0]
    other: Mapping[str, Any] = contrast.value[0]
    yield from (f"{knob}.{key}" for key in sorted(other) if written.get(key) != other[key])
