"""What came of a Deployment's run: how many pods, how steadily, for what service.

Owns the figures by which signals are compared, and how each is defined.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simulations.scaling.replica import Requests


@dataclass(frozen=True, slots=True)
class Lifetime:
    """From when a pod took a node's room until it gave it back."""

    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One signal on one scenario.

    slo_s: how long a request may wait beyond its own execution.
    wait_s: of every request, from the one that waited least; infinite where nobody answered.
    wanted: (seconds, replicas) in the beginning and at each change.
    """

    signal: str
    target: float
    duration_s: float
    slo_s: float
    wait_s: NDArray[np.float64] = field(repr=False)
    wanted: Sequence[tuple[float, int]]
    lifetimes: Sequence[Lifetime] = field(repr=False)

    @property
    def attainment(self) -> float:
        """The share of requests that waited for no longer than they may; 1 without requests."""
        if not len(self.wait_s):
            return 1.0
        return int(np.searchsorted(self.wait_s, self.slo_s, side="right")) / len(self.wait_s)

    @property
    def reversals(self) -> int:
        """How often the wanted replicas rose after a fall, or fell after a rise."""
        rises = [after > before for (_, before), (_, after) in pairwise(self.wanted)]
        return sum(later is not earlier for earlier, later in pairwise(rises))

    @property
    def pod_hours(self) -> float:
        return sum(each.to_s - each.from_s for each in self.lifetimes) / 3600

    def wait_quantile_s(self, share: float) -> float:
        """The wait that ``share`` of the requests did not exceed; 0 without requests."""
        if not len(self.wait_s):
            return 0.0
        return float(self.wait_s[max(0, int(np.ceil(share * len(self.wait_s))) - 1)])


FIGURES: Mapping[str, Callable[[Outcome], float]] = {
    "replicas_least": lambda outcome: float(min(count for _, count in outcome.wanted)),
    "replicas_most": lambda outcome: float(max(count for _, count in outcome.wanted)),
    "replicas_last": lambda outcome: float(outcome.wanted[-1][1]),
    "changes": lambda outcome: float(len(outcome.wanted) - 1),
    "reversals": lambda outcome: float(outcome.reversals),
    "attainment": lambda outcome: outcome.attainment,
    "pod_hours": lambda outcome: outcome.pod_hours,
    "p50_s": lambda outcome: outcome.wait_quantile_s(0.5),
    "p99_s": lambda outcome: outcome.wait_quantile_s(0.99),
    "requests": lambda outcome: float(len(outcome.wait_s)),
    "failed": lambda outcome: float(np.isinf(outcome.wait_s).sum()),
}

TO_CLAIRVOYANT = "hours_to_clairvoyant"
"""Pod-hours as a multiple of those of the clairvoyant scaler."""


def figures(outcome: Outcome, clairvoyant: Outcome | None = None) -> dict[str, float]:
    found = {name: read(outcome) for name, read in FIGURES.items()}
    if clairvoyant is not None and clairvoyant.pod_hours > 0:
        found[TO_CLAIRVOYANT] = outcome.pod_hours / clairvoyant.pod_hours
    return found


def sorted_waits(requests: Sequence[Requests]) -> NDArray[np.float64]:
    parts = [each.wait_s for each in requests]
    return np.sort(np.concatenate(parts)) if parts else np.empty(0)
