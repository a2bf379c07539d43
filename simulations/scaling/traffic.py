"""Traffic whose rate is known at every moment: what a fleet is asked, and what a clairvoyant knows.

Owns the laws of a rate over time and the draw of arrivals from them. Rates are requests a second,
of all models together. Refuses to know who answers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulations.workloads.arrivals import Arrivals, Workload
from simulations.workloads.catalogue import Catalogue

# The rate is taken as constant for so long.
_STEP_S = 1.0


class Rate(Protocol):
    def at(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Requests a second at each of these times."""


@dataclass(frozen=True, slots=True)
class Line:
    """Straight from each point (seconds, rate) to the next; two at one time make a jump."""

    points: Sequence[tuple[float, float]]

    def at(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        rate = np.full(len(time_s), self.points[0][1])
        for (from_s, low), (to_s, high) in pairwise(self.points):
            inside = (time_s >= from_s) & (time_s < to_s)
            if inside.any():
                share = (time_s[inside] - from_s) / (to_s - from_s)
                rate[inside] = low + share * (high - low)
        rate[time_s >= self.points[-1][0]] = self.points[-1][1]
        return rate


@dataclass(frozen=True, slots=True)
class Day:
    """From the least to the most and back in every period, as a sine; it begins with the least."""

    least: float
    most: float
    period_s: float

    def at(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        turn = 2 * np.pi * time_s / self.period_s
        return self.least + (self.most - self.least) * (1 - np.cos(turn)) / 2


@dataclass(frozen=True, slots=True)
class Traffic:
    """shares: of each model in all requests, by name; they need not sum up to one.

    service_sigma: sigma of the log-normal factor of each request's execution; its mean is 1.
    """

    rate: Rate
    duration_s: float
    shares: Mapping[str, float]
    catalogue: Catalogue
    service_sigma: float = 0.0
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.shares)

    def offered(self, step_s: float) -> NDArray[np.float64]:
        """The work that is expected to come, in pods, for each step from the beginning on: that of
        the model that fills its instances most."""
        begin_s = np.arange(0.0, self.duration_s, step_s)
        fullest = max(
            share * self.catalogue[name].service_s / self.catalogue[name].instances
            for name, share in self._parts().items()
        )
        steps = max(1, round(step_s / _STEP_S))
        inside = (begin_s[:, None] + np.arange(steps) * _STEP_S).ravel()
        rate: NDArray[np.float64] = self.rate.at(inside).reshape(len(begin_s), steps).mean(axis=1)
        return rate * fullest

    def _parts(self) -> dict[str, float]:
        whole = sum(self.shares.values())
        return {name: share / whole for name, share in self.shares.items()}

    def arrivals(self) -> Arrivals:
        """A Poisson process of that rate; the same for the same seed."""
        random = np.random.default_rng(self.seed)
        begin_s = np.arange(0.0, self.duration_s, _STEP_S)
        length_s = np.minimum(_STEP_S, self.duration_s - begin_s)
        expected = np.concatenate([[0.0], np.cumsum(self.rate.at(begin_s) * length_s)])
        count = int(random.poisson(expected[-1]))
        drawn = np.sort(random.random(count)) * expected[-1]
        time_s = np.interp(drawn, expected, np.append(begin_s, self.duration_s))
        parts = self._parts()
        model = random.choice(len(parts), size=count, p=list(parts.values())).astype(np.int32)
        base_s = np.array([self.catalogue[name].service_s for name in parts])[model]
        sigma = self.service_sigma
        factor = np.exp(sigma * random.standard_normal(count) - sigma * sigma / 2)
        return Arrivals(time_s, model, np.ones(count), base_s * factor)

    def without_arrivals(self) -> Workload:
        """The models alone, for a pod to which a router sends its part."""

        def runs() -> Iterator[Arrivals]:
            return iter(())

        return Workload(self.names, self.duration_s, runs)
