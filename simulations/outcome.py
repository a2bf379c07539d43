"""What came of a run, whoever decided and however finely it was imagined.

Owns the figures that policies are compared by, and how each is defined. Visible cold seconds
and load seconds stay apart: a prewarm that nobody asks for is a load all the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Stay:
    """One model's time in memory: from the start of its load to the end of its unload."""

    model: str
    from_s: float
    ready_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy on one workload and one budget.

    policy: its name. budget_bytes: of the one device.
    requests: all, by weight. cold_requests: those that did not find their model ready.
    cold_starts: times that a model was asked for and was not ready, however many waited.
    visible_cold_s: seconds from the first request of each cold start until its model was ready.
    load_s: seconds of all loads, whoever asked for them; loads: how many; prewarms: those begun
        before anybody asked; used_prewarms: those somebody asked for before they left again.
    evictions: unloads to make room. failed: requests never served.
    wait_s: (n,) float64 with wait_weight (n,): each request's seconds from arrival to answer
        beyond its own execution, and how many requests share it. Only of those served.
    served: (m,) bool, of all in order of arrival, whose waits these are; empty where all are.
    memory_s, memory_bytes: (k,) when reserved memory changed, and to what.
    stays: in order of from_s; empty where the run did not keep them.
    """

    policy: str
    budget_bytes: int
    duration_s: float
    requests: float
    cold_requests: float
    cold_starts: int
    visible_cold_s: float
    load_s: float
    loads: int
    prewarms: int
    used_prewarms: int
    evictions: int
    failed: float
    wait_s: NDArray[np.float64] = field(repr=False)
    wait_weight: NDArray[np.float64] = field(repr=False)
    memory_s: NDArray[np.float64] = field(repr=False)
    memory_bytes: NDArray[np.float64] = field(repr=False)
    served: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_), repr=False)
    stays: tuple[Stay, ...] = field(default=(), repr=False)
    notes: Mapping[str, float] = field(default_factory=dict)

    def wait_quantile_s(self, share: float) -> float:
        """The wait that ``share`` of the requests (0 to 1) did not exceed; 0 without requests."""
        if not len(self.wait_s):
            return 0.0
        order = np.argsort(self.wait_s, kind="stable")
        below = np.cumsum(self.wait_weight[order])
        at = int(np.searchsorted(below, share * below[-1], side="left"))
        return float(self.wait_s[order][min(at, len(order) - 1)])

    @property
    def churn_per_hour(self) -> float:
        """Evictions per hour."""
        return self.evictions / (self.duration_s / 3600) if self.duration_s > 0 else 0.0
