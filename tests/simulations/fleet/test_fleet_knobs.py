"""What the policy says of the fleet matters, in scenarios that come with the product."""

from functools import cache
from pathlib import Path

import pytest

from policies.policy import FleetWishes
from simulations.fleet.contest import contrasted, ours
from simulations.fleet.outcome import figures
from simulations.fleet.scenario import Scenario, load

FOLDER = Path(__file__).resolve().parents[3] / "simulations" / "scenarios" / "fleet"
SCENARIOS = {path.stem: load(path) for path in sorted(FOLDER.glob("*.yaml"))}
CONTRASTS = [
    pytest.param(name, number, id=f"{name}-{contrast.knob}")
    for name, scenario in SCENARIOS.items()
    for number, contrast in enumerate(scenario.contrasts)
]


@cache
def figures_of(scenario: str) -> dict[str, float]:
    return dict(figures(ours(SCENARIOS[scenario])))


@pytest.mark.parametrize(("name", "number"), CONTRASTS)
def test_another_value_of_the_knob_changes_the_figure_as_the_scenario_says(
    name: str, number: int
) -> None:
    scenario: Scenario = SCENARIOS[name]
    contrast = scenario.contrasts[number]
    here = figures_of(name)[contrast.figure]
    other = figures(ours(contrasted(scenario, contrast)))[contrast.figure]
    assert other > here if contrast.becomes == "more" else other < here


@pytest.mark.parametrize("name", ["hand_over", "copies"])
def test_what_ours_is_expected_to_do_it_does(name: str) -> None:
    expected = SCENARIOS[name].expectations["remora"]
    failed = {
        figure: figures_of(name)[figure]
        for figure, expectation in expected.items()
        if not expectation.holds(figures_of(name)[figure])
    }
    assert failed == {}


def test_every_knob_of_the_fleet_is_shown() -> None:
    shown = {contrast.knob for scenario in SCENARIOS.values() for contrast in scenario.contrasts}
    knobs = {f"fleet.{field.alias or name}" for name, field in FleetWishes.model_fields.items()}
    assert {*knobs, "models.*.copies"} <= shown
