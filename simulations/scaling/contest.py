"""Lets signals compete on scaling scenarios, beside the scaler that knows the future.

Owns which runs that takes, and puts what came of them in order. Refuses to know how a run works
(`simulations.scaling.run`) and where it happens (`simulations.sweep`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from policies.problems import Problem, near
from simulations.contested import finite
from simulations.reading import ScenarioError
from simulations.scaling.clairvoyant import clairvoyant
from simulations.scaling.outcome import Outcome, figures
from simulations.scaling.run import Autoscaler, simulate
from simulations.scaling.scenario import Scenario
from simulations.scaling.signals import CLAIRVOYANT, OURS, TARGETS, signal
from simulations.scenario import Contrast
from simulations.sweep import Engine
from simulations.trial import Verdict


@dataclass(frozen=True, slots=True)
class Competitor:
    """target: None is the signal's own."""

    signal: str
    target: float | None = None

    @property
    def label(self) -> str:
        return self.signal if self.target is None else f"{self.signal}@{self.target:g}"


_Task = tuple[Scenario, Competitor | None]
"""One run; without a competitor those of the clairvoyant scaler."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One competitor on one scenario, with its figures."""

    label: str
    outcome: Outcome
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Contest:
    """entries: the clairvoyant scaler first, then as asked."""

    scenario: Scenario
    entries: tuple[Entry, ...]

    def verdicts(self, label: str) -> list[Verdict]:
        """What is expected of this signal, with what came of it."""
        found = next(entry.figures for entry in self.entries if entry.label == label)
        return [
            Verdict(figure, found[figure], expected)
            for figure, expected in self.scenario.expectations.get(label, {}).items()
        ]

    @property
    def holds(self) -> bool:
        return all(each.holds for entry in self.entries for each in self.verdicts(entry.label))

    def as_values(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario.name,
            "slo_s": self.scenario.setting.slo_s,
            "signals": {
                entry.label: {
                    "target": entry.outcome.target,
                    **finite(entry.figures),
                    "wanted": [list(change) for change in entry.outcome.wanted],
                    "expectations": {
                        each.figure: each.holds for each in self.verdicts(entry.label)
                    },
                }
                for entry in self.entries
            },
        }


def competitors(said: str) -> list[Competitor]:
    """Those that ``said`` names between commas, each with a target after an ``@`` or its own; all
    when it names nobody."""
    names = [name.strip() for name in said.split(",") if name.strip()] or list(TARGETS)
    return [_competitor(name) for name in dict.fromkeys(names)]


def _competitor(said: str) -> Competitor:
    name, at, target = said.partition("@")
    if name not in TARGETS:
        raise ScenarioError([Problem("signals", None, name, "no such signal", near(name, TARGETS))])
    if not at:
        return Competitor(name)
    try:
        value = float(target)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        allowed = f"a number above 0 after the @, as {name}@{TARGETS[name]:g}"
        raise ScenarioError([Problem("signals", None, said, "no target", allowed)])
    return Competitor(name, value)


def contests(
    scenarios: Sequence[Scenario], compete: Sequence[Competitor], engine: Engine
) -> list[Contest]:
    """Each of ``compete`` on each scenario."""
    # The clairvoyant's runs are several each, so they begin first.
    tasks: list[_Task] = [(scenario, None) for scenario in scenarios]
    tasks += [(scenario, each) for scenario in scenarios for each in compete]
    found = list(engine(_do, tasks))
    bests, others = found[: len(scenarios)], iter(found[len(scenarios) :])
    return [
        Contest(
            scenario,
            (
                Entry(CLAIRVOYANT, best, figures(best, best)),
                *(
                    Entry(each.label, outcome, figures(outcome, best))
                    for each, outcome in zip(compete, others, strict=False)
                ),
            ),
        )
        for scenario, best in zip(scenarios, bests, strict=True)
    ]


def ours(scenario: Scenario) -> Outcome:
    """What our signal makes of the scenario."""
    return _do((scenario, Competitor(OURS)))


def contrasted(scenario: Scenario, contrast: Contrast) -> Scenario:
    """The same scenario with the contrast's value for its knob."""
    decider = scenario.decider.with_values({contrast.knob: contrast.value})
    setting = replace(scenario.setting, policy=decider.policy)
    return replace(scenario, decider=decider, setting=setting)


def _do(task: _Task) -> Outcome:
    scenario, competitor = task
    setting = scenario.setting
    if competitor is None:
        return clairvoyant(setting, scenario.attainment)
    told = signal(competitor.signal, setting.policy, competitor.target)
    return simulate(setting, Autoscaler(told, setting.limits), competitor.label, told.target)
