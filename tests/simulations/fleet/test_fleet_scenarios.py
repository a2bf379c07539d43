"""Every fleet scenario that comes with the product says something, and what it says is true."""

from collections.abc import Mapping
from functools import cache

import pytest

from policies.policy import FleetWishes
from simulations.fleet.command import SHIPPED
from simulations.fleet.contest import contrasted, ours
from simulations.fleet.contestants import OURS, RATIOS
from simulations.fleet.outcome import figures
from simulations.fleet.scenario import load, parsed
from simulations.reading import ScenarioError
from simulations.scenario import Contrast

FILES = sorted(SHIPPED.glob("*.yaml"))
LOADED = {path.stem: load(path) for path in FILES}
# These take longer than a test may; `remora fleet-simulate` plays them.
LONG = {"steady", "thousand_pods"}
CONTRASTS = [
    pytest.param(name, contrast, id=f"{name}-{contrast.knob}")
    for name, scenario in LOADED.items()
    for contrast in scenario.contrasts
]

SMALL = """\
# A small one.
workload:
  zipf: {models: 9, rate: 2, duration: 60s}
fleet: {pods: 3, memory: 1.5}
gossip:
  loss: 0.1
  partitions: [{from: 10s, to: 20s}]
churn:
  - {at: 30s, kill: 1}
expectations:
  remora:
    failed: {exactly: 0, why: nothing happens}
contrasts:
  - {knob: fleet.let_go, value: 5m, figure: loads, becomes: more, why: it goes late}
"""


@cache
def figures_of(name: str) -> Mapping[str, float]:
    return figures(ours(LOADED[name]))


@pytest.mark.parametrize("name", sorted(LOADED.keys() - LONG))
def test_what_a_scenario_expects_of_ours_holds(name: str) -> None:
    """The rest, which takes longer, is seen by `remora fleet-simulate`."""
    expected = LOADED[name].expectations[OURS]
    failed = [
        f"{figure} is {figures_of(name)[figure]}, expected {each}: {each.why}"
        for figure, each in expected.items()
        if figure not in RATIOS and not each.holds(figures_of(name)[figure])
    ]
    assert expected
    assert not failed


@pytest.mark.parametrize("name", LOADED)
def test_a_scenario_begins_by_saying_what_it_shows(name: str) -> None:
    assert len(LOADED[name].about.split()) >= 12


@pytest.mark.parametrize(("name", "contrast"), CONTRASTS)
def test_another_value_of_the_knob_changes_the_figure_as_the_scenario_says(
    name: str, contrast: Contrast
) -> None:
    here = figures_of(name)[contrast.figure]
    other = figures(ours(contrasted(LOADED[name], contrast)))[contrast.figure]
    assert other > here if contrast.becomes == "more" else other < here


def test_every_knob_of_the_fleet_has_a_scenario_in_which_it_changes_the_result() -> None:
    turned = {c.knob for scenario in LOADED.values() for c in scenario.contrasts}
    knobs = {f"fleet.{name.removesuffix('_s')}" for name in FleetWishes.model_fields}
    assert knobs <= turned
    assert any(knob.startswith("models.") and knob.endswith(".copies") for knob in turned)


# What is wrong with a scenario.


def problems(text: str) -> str:
    with pytest.raises(ScenarioError) as raised:
        parsed(text, "bad.yaml")
    return str(raised.value)


def test_a_small_scenario_is_read() -> None:
    scenario = parsed(SMALL, "small.yaml")
    assert (scenario.name, scenario.about) == ("small", "A small one.")
    assert scenario.fleet.pods == 3
    assert scenario.gossip.cuts[0].to_s == 20
    setting = scenario.setting({})
    total = sum(profile.size_bytes for profile in setting.catalogue.values())
    assert setting.pod.device_bytes == round(total / 2)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("rate:", "rates:", "bad.yaml:3: workload.zipf.rates: unknown key; allowed: "),
        (
            "pods: 3",
            "pods: 0",
            "bad.yaml:4: fleet.pods: 0; allowed: a whole number from 1 up to 1000",
        ),
        ("memory: 1.5", "memory: 0", "bad.yaml:4: fleet.memory: 0; allowed: a number above 0"),
        (", memory: 1.5", "", "bad.yaml: pod: missing; allowed: a pod, as `pod: {device: 24GiB}`"),
        ("loss: 0.1", "loss: 1", "bad.yaml:6: gossip.loss: 1; allowed: a number from 0 up to 0.99"),
        ("to: 20s", "to: 10s", "an end after the beginning"),
        ("kill: 1", "notice: 1s", "exactly one of kill, drain, add and rollout"),
        ("remora:", "remorra:", "bad.yaml:11: expectations.remorra: no such contestant; allowed: "),
        ("failed:", "fail:", "bad.yaml:12: expectations.remora.fail: no such figure; allowed: "),
        ("figure: loads", "figure: load", "contrasts.0.figure.load: no such figure; allowed: "),
    ],
)
def test_each_mistake_is_named_with_its_place_and_what_is_allowed(
    before: str, after: str, said: str
) -> None:
    assert before in SMALL
    assert said in problems(SMALL.replace(before, after, 1))
