"""What a run came to, real or simulated, in one form.

Owns the form and its figures. Knows nothing of where a run took place.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from policies.actions import Action, Load
from simulations.testbed.traffic import Outcome

QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Event:
    """A decision to load or unload ``model``; at_s from the start of the traffic."""

    at_s: float
    action: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """One run.

    requests: all that were sent. failed: those that got no right answer.
    latency_s: (n,) float64, of those answered, in the order in which they were due, from when
        each was due. cold: (n,) bool, which of them did not find their model ready.
    cold_starts: absences of a model in which it was asked for, however many waited.
    load_s: seconds of all loads.
    memory_s, memory_bytes: (k,) when the memory promised to models changed, and to what.
    measured_s, measured_bytes: (m,) what the models' processes really took; empty where there
        are none.
    """

    requests: int
    failed: int
    latency_s: NDArray[np.float64] = field(repr=False)
    cold: NDArray[np.bool_] = field(repr=False)
    cold_starts: int
    load_s: float
    events: tuple[Event, ...] = field(repr=False)
    memory_s: NDArray[np.float64] = field(repr=False)
    memory_bytes: NDArray[np.float64] = field(repr=False)
    measured_s: NDArray[np.float64] = field(repr=False, default_factory=lambda: np.empty(0))
    measured_bytes: NDArray[np.float64] = field(repr=False, default_factory=lambda: np.empty(0))

    def figures(self, seconds: float) -> dict[str, float]:
        """Every figure by name; a latency of nobody is 0."""
        unloads = [event for event in self.events if event.action == "unload"]
        return {
            "requests": self.requests,
            "failed": self.failed,
            "cold starts": self.cold_starts,
            "cold requests": int(self.cold.sum()),
            "loads": sum(event.action == "load" for event in self.events),
            "load s": self.load_s,
            "unloads": len(unloads),
            "evictions": sum(event.reason == "evicted" for event in unloads),
            **_quantiles("latency", self.latency_s),
            **_quantiles("cold latency", self.latency_s[self.cold]),
            "mean memory MiB": self.mean_bytes(seconds) / 2**20,
            "peak memory MiB": float(self.memory_bytes.max(initial=0.0)) / 2**20,
        }

    def mean_bytes(self, seconds: float) -> float:
        """Promised memory, averaged over the time of the traffic."""
        until_s = np.append(self.memory_s[1:], seconds)
        lasts_s = np.clip(until_s, 0, seconds) - np.clip(self.memory_s, 0, seconds)
        return float((lasts_s * self.memory_bytes).sum() / seconds) if len(lasts_s) else 0.0

    def memory_at(self, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return _stepped(self.memory_s, self.memory_bytes, at_s)

    def measured_at(self, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return _stepped(self.measured_s, self.measured_bytes, at_s)


def _stepped(
    time_s: NDArray[np.float64], value: NDArray[np.float64], at_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The latest of ``value`` at each of ``at_s``; 0 before the first."""
    before = np.searchsorted(time_s, at_s, side="right")
    found: NDArray[np.float64] = np.concatenate(([0.0], value))[before]
    return found


def _quantiles(name: str, latency_s: NDArray[np.float64]) -> dict[str, float]:
    values_s = np.quantile(latency_s, QUANTILES) if len(latency_s) else np.zeros(len(QUANTILES))
    return {
        f"{name} p{100 * quantile:.0f} ms": 1000 * float(value_s)
        for quantile, value_s in zip(QUANTILES, values_s, strict=True)
    }


def cold_starts(outcomes: Sequence[Outcome]) -> int:
    """How often a model was found absent, by what its requests went through.

    All who wait for one load are let in together, so the waits of one absence overlap, and two
    waits that do not overlap are of two absences.
    """
    count, until_s = 0, dict[str, float]()
    for outcome in sorted(outcomes, key=lambda each: each.began_s):
        if outcome.cold:
            model = outcome.arrival.model
            count += outcome.began_s >= until_s.get(model, 0.0)
            until_s[model] = max(until_s.get(model, 0.0), outcome.ended_s)
    return count


def events(plans: Iterable[tuple[float, Sequence[Action]]]) -> Iterator[Event]:
    """Of plans and when they were made: one that is decided again until it is done counts once."""
    before: Sequence[Action] = ()
    for at_s, actions in plans:
        for action in actions:
            if action not in before:
                kind = "load" if isinstance(action, Load) else "unload"
                yield Event(at_s, kind, action.model, action.reason.value)
        before = actions
