"""Lets contestants compete on a fleet's scenarios.

Owns which runs that takes, and puts what came of them in order. Refuses to know how a run works
(`simulations.fleet.run`) and where it happens (`simulations.sweep`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from policies.problems import Problem, near
from simulations.contested import finite
from simulations.fleet.contestants import CONTESTANTS, OURS, RANDOM_LRU, RATIOS, Contestant
from simulations.fleet.outcome import Outcome, figures
from simulations.fleet.run import simulate
from simulations.fleet.scenario import Scenario
from simulations.reading import ScenarioError
from simulations.scenario import Contrast
from simulations.sweep import Engine
from simulations.trial import Verdict

_Task = tuple[Scenario, Contestant]


@dataclass(frozen=True, slots=True)
class Entry:
    """One contestant on one scenario, with its figures."""

    label: str
    outcome: Outcome
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Contest:
    scenario: Scenario
    entries: tuple[Entry, ...]

    def verdicts(self, label: str) -> list[Verdict]:
        """What is expected of this contestant, with what came of it; of figures that need another
        contestant only where that one ran."""
        found = next(entry.figures for entry in self.entries if entry.label == label)
        return [
            Verdict(figure, found[figure], expected)
            for figure, expected in self.scenario.expectations.get(label, {}).items()
            if figure in found
        ]

    @property
    def holds(self) -> bool:
        return all(each.holds for entry in self.entries for each in self.verdicts(entry.label))

    def as_values(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario.name,
            "contestants": {
                entry.label: {
                    **finite(entry.figures),
                    "healed": [
                        [each.what, each.from_s, each.agreed_s]
                        for each in entry.outcome.spoken.healed
                    ],
                    "expectations": {
                        each.figure: each.holds for each in self.verdicts(entry.label)
                    },
                }
                for entry in self.entries
            },
        }


def contestants(said: str) -> list[Contestant]:
    """Those that ``said`` names between commas; all when it names nobody."""
    names = [name.strip() for name in said.split(",") if name.strip()] or list(CONTESTANTS)
    for name in names:
        if name not in CONTESTANTS:
            allowed = near(name, CONTESTANTS)
            raise ScenarioError([Problem("contestants", None, name, "no such one", allowed)])
    return [CONTESTANTS[name] for name in dict.fromkeys(names)]


def contests(
    scenarios: Sequence[Scenario], compete: Sequence[Contestant], engine: Engine
) -> list[Contest]:
    """Each of ``compete`` on each scenario."""
    tasks: list[_Task] = [(scenario, each) for scenario in scenarios for each in compete]
    found = iter(engine(_do, tasks))
    return [Contest(scenario, _entries([next(found) for _ in compete])) for scenario in scenarios]


def ours(scenario: Scenario) -> Outcome:
    """What ours makes of the scenario."""
    return _do((scenario, CONTESTANTS[OURS]))


def contrasted(scenario: Scenario, contrast: Contrast) -> Scenario:
    """The same scenario with the contrast's value for its knob."""
    return replace(scenario, decider=scenario.decider.with_values({contrast.knob: contrast.value}))


def _entries(outcomes: Sequence[Outcome]) -> tuple[Entry, ...]:
    against = next((each for each in outcomes if each.name == RANDOM_LRU), None)
    entries = []
    for each in outcomes:
        found = figures(each)
        if against is not None:
            found |= {name: read(each, against) for name, read in RATIOS.items()}
        entries.append(Entry(each.name, each, found))
    return tuple(entries)


def _do(task: _Task) -> Outcome:
    scenario, contestant = task
    setting = scenario.setting(contestant.values)
    return simulate(setting, contestant.routing, gossip=contestant.gossips, name=contestant.label)
