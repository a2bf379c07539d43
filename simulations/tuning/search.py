"""Searches a policy's values: many candidates on little traffic, fewer and fewer on more of it.

Owns the search: successive halving over Sobol points, then once more around the best. It sees the
scenario that it is given, and that is the first half of one. Refuses to know where the runs happen.

The result depends on the scenario, the space and the seed alone. Each round's candidates are
drawn before it begins, and its results are taken in their order, whoever was first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulations import trial
from simulations.comparison.figures import figures
from simulations.scenario import Scenario
from simulations.sweep import Engine
from simulations.tuning.space import Space

Values = Mapping[str, Any]
Figures = Mapping[str, float]
Points = NDArray[np.float64]

# How much of the traffic a round sees, and one in how many of its candidates goes on.
_ROUNDS = ((0.25, 4), (0.5, 4), (1.0, 1))
_AROUND = 0.15
"""Half a side of the box around the best in which the second search looks."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """point: in the unit cube; None for the policy as it was, which stays to the end."""

    values: Values
    point: Points | None
    score: float = float("inf")


@dataclass(slots=True)
class Search:
    """seen: called once for each run that is over.

    best: the values that were best so far; nothing where that is the policy as it was.
    share: how much of the traffic they were best on; 0 before anybody was.
    """

    scenario: Scenario
    space: Space
    engine: Engine
    seen: Callable[[], None]
    runs: int = 0
    best: Values = field(default_factory=dict)
    share: float = 0.0

    def tune(self, candidates: int, seed: int) -> Values:
        """The best values found. candidates: of each search, rounded up to a power of two.

        Raises ScenarioError: a knob that the policy does not have, or a value it refuses.
        """
        sides = len(self.space.knobs)
        before = _Candidate({}, None)
        points = _sobol(sides, candidates, seed)
        best = self._best([before, *self._at(points)])
        centre = _middle(sides) if best.point is None else best.point
        around = centre + _AROUND * (2 * _sobol(sides, max(2, candidates // 2), seed + 1) - 1)
        return self._best([before, best, *self._at(np.clip(around, 0.0, 1.0))]).values

    def _at(self, points: Points) -> list[_Candidate]:
        return [_Candidate(self.space.values(point), point) for point in points]

    def _best(self, candidates: Sequence[_Candidate]) -> _Candidate:
        for share, one_in in _ROUNDS:
            part = replace(self.scenario, window=_share(self.scenario.window, share))
            found = self._measure([(part, each.values) for each in candidates])
            scored = [
                replace(each, score=self.space.score(its))
                for each, its in zip(candidates, found, strict=True)
            ]
            # Among equals the earlier one: the policy as it was before any candidate.
            ranked = sorted(scored, key=lambda each: each.score)
            kept = ranked[: max(1, -(-len(ranked) // one_in))]
            candidates = kept + [e for e in ranked[len(kept) :] if not e.values]
            if share >= self.share:
                self.best, self.share = ranked[0].values, share
        return min(candidates, key=lambda each: each.score)

    def _measure(self, tasks: Sequence[tuple[Scenario, Values]]) -> list[Figures]:
        runs = [
            replace(scenario, decider=scenario.decider.with_values(values))
            for scenario, values in tasks
        ]
        found = []
        for each in self.engine(figures_of, runs):
            found.append(each)
            self.runs += 1
            self.seen()
        return found


def total_runs(candidates: int) -> int:
    """How many runs a search with so many candidates takes, at most."""
    total = 0
    for count in (_power(candidates) + 1, _power(max(2, candidates // 2)) + 2):
        for _, one_in in _ROUNDS:
            total += count
            count = -(-count // one_in) + 1
    return total


def figures_of(scenario: Scenario) -> Figures:
    return figures(trial.run(scenario))


def _share(window: tuple[float, float] | None, share: float) -> tuple[float, float]:
    from_s, to_s = window or (0.0, 0.0)
    return from_s, from_s + share * (to_s - from_s)


def _power(count: int) -> int:
    return 1 << max(1, (count - 1).bit_length())


def _sobol(sides: int, count: int, seed: int) -> Points:
    """(count rounded up to a power of two, sides), spread evenly over the unit cube."""
    # Only who tunes needs scipy.
    from scipy.stats import qmc  # type: ignore[import-untyped]

    sampler = qmc.Sobol(sides, scramble=True, seed=seed)
    points: Points = sampler.random_base2(_power(count).bit_length() - 1)
    return points


def _middle(sides: int) -> Points:
    return np.full(sides, 0.5)
