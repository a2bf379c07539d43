"""Every scaling scenario that comes with the product says something, and what it says is true."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from policies.policy import Scaling
from simulations.reading import ScenarioError
from simulations.scaling.command import SHIPPED
from simulations.scaling.contest import contrasted, ours
from simulations.scaling.outcome import TO_CLAIRVOYANT, figures
from simulations.scaling.scenario import load, parsed
from simulations.scaling.signals import OURS
from simulations.scenario import Contrast

FILES = sorted(SHIPPED.glob("*.yaml"))
LOADED = {path.stem: load(path) for path in FILES}
CONTRASTS = [
    pytest.param(name, contrast, id=f"{name}-{contrast.knob}")
    for name, scenario in LOADED.items()
    for contrast in scenario.contrasts
]
# Knobs that change nothing here, and why.
WITHOUT_EFFECT = {"device_target": "simulated devices have no gauge of utilisation"}

SMALL = """\
# A small one.
traffic:
  duration: 60s
  rate: {line: [[0s, 5], [60s, 5]]}
  models: {a: {size: 2GiB, service: 50ms}}
pod: {device: 16GiB}
policy: {models: {a: {pin: true}}}
hpa: {minimum: 2, maximum: 4}
objective: {wait: 400ms}
outages:
  - {kind: cut-off, from: 10s, to: 20s}
expectations:
  remora:
    reversals: {exactly: 0, why: nothing happens}
contrasts:
  - {knob: scaling.down, value: 5m, figure: pod_hours, becomes: more, why: it falls late}
"""


@cache
def figures_of(name: str) -> Mapping[str, float]:
    return figures(ours(LOADED[name]))


@pytest.mark.parametrize("name", LOADED)
def test_what_a_scenario_expects_of_ours_holds(name: str) -> None:
    """The rest, which takes longer, is seen by `remora scale`."""
    expected = LOADED[name].expectations[OURS]
    failed = [
        f"{figure} is {figures_of(name)[figure]}, expected {each}: {each.why}"
        for figure, each in expected.items()
        if figure != TO_CLAIRVOYANT and not each.holds(figures_of(name)[figure])
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


def test_every_knob_of_scaling_has_a_scenario_in_which_it_changes_the_result() -> None:
    turned = {c.knob for scenario in LOADED.values() for c in scenario.contrasts}
    knobs = {name.removesuffix("_s") for name in Scaling.model_fields}
    assert {f"scaling.{name}" for name in knobs - set(WITHOUT_EFFECT)} == turned


# What is wrong with a scenario.


def problems(text: str) -> str:
    with pytest.raises(ScenarioError) as raised:
        parsed(text, "bad.yaml")
    return str(raised.value)


def test_a_small_scenario_is_read() -> None:
    scenario = parsed(SMALL, "small.yaml")
    assert (scenario.name, scenario.about) == ("small", "A small one.")
    assert scenario.setting.limits.maximum == 4
    assert scenario.setting.outages[0].to_s == 20
    assert scenario.setting.traffic.catalogue["a"].service_s == 0.05


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("rate:", "rates:", "bad.yaml:4: traffic.rates: unknown key; allowed: "),
        ("60s, 5", "60s, -5", "bad.yaml:4: traffic.rate.line.1.1: -5; allowed: a number from 0"),
        ("[0s, 5], [60s, 5]", "[60s, 5], [0s, 5]", "points in order of time"),
        ("{line: [[0s, 5], [60s, 5]]}", "{}", "bad.yaml:4: traffic.rate: {}; allowed: exactly one"),
        ("service: 50ms", "service: x", "bad.yaml:5: traffic.models.a.service: 'x'; allowed: a du"),
        ("16GiB", "some", "bad.yaml:6: pod.device: 'some'; allowed: an amount of memory"),
        ("{pin: true}", "{pint: true}", "bad.yaml:7: models.a.pint: unknown key; allowed: "),
        ("minimum: 2", "minimum: 9", "minimum at most maximum"),
        ("minimum: 2", "minimum: 0", "bad.yaml:8: hpa.minimum: 0; allowed: a whole number from 1"),
        ("wait: 400ms", "share: 0.9", "bad.yaml:9: objective.wait: missing; allowed: a duration"),
        ("cut-off", "cut", "bad.yaml:11: outages.0.kind: 'cut'; allowed: no-answer, cut-off, deaf"),
        ("remora:", "remorra:", "bad.yaml:13: expectations.remorra: no such signal; allowed: busy"),
        ("reversals:", "reversal:", "expectations.remora.reversal: no such figure; allowed: att"),
        ("figure: pod_hours", "figure: hours", "contrasts.0.figure.hours: no such figure; allowed"),
    ],
)
def test_each_mistake_is_named_with_its_place_and_what_is_allowed(
    before: str, after: str, said: str
) -> None:
    assert before in SMALL
    assert said in problems(SMALL.replace(before, after, 1))


def test_a_scenario_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"absent\.yaml: .*No such file"):
        load(tmp_path / "absent.yaml")
