"""What a byte is worth to each model: who leaves first, and whether a swap pays.

Owns the rankings by name. Each says what keeping a model is worth, and in which order
models leave. Refuses to know about devices, pins and limits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from policies.demand import rates
from policies.history import History, ModelHistory
from policies.policy import Policy, RankingName
from policies.snapshot import Model

# More waiting requests than this say nothing more, and could leave the range of floats.
_CROWD = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Standing:
    """One model (with the members only it needs) as a ranking sees it.

    size_bytes: what its absence would free, over all devices.
    absence_s: seconds from the first request until it could serve, were it absent: another
        has to leave, and it has to load.
    """

    model: Model
    past: ModelHistory
    size_bytes: int
    absence_s: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """A way to value models.

    worth: value of having it resident, in a unit of the ranking's own.
    per_byte: models leave by worth per byte, and the worths of several victims add up;
        otherwise they leave by worth itself and only the best of them counts.
    """

    worth: Callable[[Policy, Standing, History, float], float]
    per_byte: bool

    def density(self, worth: float, size_bytes: int) -> float:
        return worth / max(1, size_bytes) if self.per_byte else worth

    def pays(self, incoming: float, victims: Sequence[float], hysteresis: float) -> bool:
        """Whether ``incoming`` is worth clearly more than what would leave for it."""
        lost = sum(victims) if self.per_byte else max(victims, default=0.0)
        return incoming > lost * (1 + hysteresis)


def expected_cold(policy: Policy, standing: Standing, history: History, now_s: float) -> float:
    """Weighted cold seconds that its absence would cost over the policy's horizon.

    The chance of a request within the horizon, times the seconds of an absence, times those
    who would see it: the first request waits all of it, the ones that come meanwhile half of
    it on average. Requests that wait already are certain, and count for what they have waited
    too, so that nobody is passed over for ever. Requests that came and do not wait are no
    more certain than those of a resident, or two models with the same rate would take turns.
    """
    model, absence_s = standing.model, standing.absence_s
    rate = max(rates(policy, standing.past, now_s))
    chance = 1.0 if model.waiting > 0 else -math.expm1(-rate * policy.horizon_s)
    seconds = chance * absence_s * (1 + rate * absence_s / 2)
    seconds += min(max(0, model.waiting), _CROWD) * (absence_s + max(0.0, model.oldest_wait_s))
    return policy.weight(model.name) * seconds


def greedy_dual(policy: Policy, standing: Standing, history: History, now_s: float) -> float:
    """Greedy-dual by frequency, cost and size: the credit left since its latest use."""
    return max(0.0, standing.past.credit - history.inflation)


def least_frequent(policy: Policy, standing: Standing, history: History, now_s: float) -> float:
    """How often it was used, ever (LFU)."""
    return policy.weight(standing.model.name) * standing.past.uses


def least_recent(policy: Policy, standing: Standing, history: History, now_s: float) -> float:
    """How recently it was used (LRU): 1 for now, falling with age."""
    last_s = standing.past.last_use_s
    return 0.0 if last_s is None else 1 / (1 + max(0.0, now_s - last_s))


RANKINGS: Mapping[RankingName, Ranking] = {
    RankingName.EXPECTED_COLD: Ranking(expected_cold, per_byte=True),
    RankingName.GREEDY_DUAL: Ranking(greedy_dual, per_byte=False),
    RankingName.LFU: Ranking(least_frequent, per_byte=False),
    RankingName.LRU: Ranking(least_recent, per_byte=False),
}
