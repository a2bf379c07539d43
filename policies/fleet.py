"""The load of all pods together, told to each in its part: `steadied()`.

Owns what only the sum can be asked: that it falls slowly, and where a rise will lead. A pod's own
average falls as fast as it rises, or the pods that stand would keep claiming the work that a new
one has taken over, and the fleet would grow by what is not there.

What is served for a pod is its share of the steadied sum, so the mean stays linear in what is
offered and falls as one over the replicas.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from policies.policy import Policy

# From so many leads to the next it is asked how much was added.
_LASTING = 5
# By how much of the sum at most.
_MOST = 0.5
# Pods that claim more than this are not believed.
_BELIEVED = 1e6
# So many marks within a lead tell its mean.
_MARKS = 4


@dataclass(frozen=True, slots=True)
class FleetHistory:
    """What is remembered of the sum between two looks.

    level: the sum that falls slowly, as of at_s.
    marks: the sum at moments of the last few leads, the oldest first: (seconds, sum).
    """

    at_s: float | None = None
    level: float = 0.0
    marks: tuple[tuple[float, float], ...] = ()


def steadied(
    policy: Policy, loads: Mapping[str, float], history: FleetHistory, now_s: float
) -> tuple[dict[str, float], FleetHistory]:
    """The load to serve for each pod of one Deployment, and what to remember.

    loads: by pod, as each tells it. Those of whom it is unknown are not in it, and those whose load
        is none are passed over; what they had of the sum falls slowly.
    """
    known = {pod: load for pod, load in loads.items() if 0 <= load <= _BELIEVED}
    total = math.fsum(known[pod] for pod in sorted(known))
    if not known:
        return {}, history
    level = total
    if history.at_s is not None and history.level > total:
        level += (history.level - total) * _fade(policy.scaling.down_s, now_s - history.at_s)
    marks = _with_mark(policy, history.marks, now_s, total)
    floor = total + _rise(policy, marks, now_s, total)
    served = _shared(known, total, max(level, floor))
    return served, FleetHistory(now_s, level, marks)


def _fade(window_s: float, since_s: float) -> float:
    return math.exp(-max(0.0, since_s) / window_s) if window_s > 0 else 0.0


def _shared(known: Mapping[str, float], total: float, whole: float) -> dict[str, float]:
    if total > 0:
        return {pod: load * (whole / total) for pod, load in known.items()}
    return dict.fromkeys(known, whole / len(known))


def _with_mark(
    policy: Policy, marks: tuple[tuple[float, float], ...], now_s: float, total: float
) -> tuple[tuple[float, float], ...]:
    lead_s = policy.scaling.lead_s
    if lead_s <= 0:
        return ()
    if marks and now_s - marks[-1][0] < lead_s / _MARKS:
        return marks
    oldest_s = now_s - (_LASTING + 1) * lead_s
    return (*(mark for mark in marks if mark[0] > oldest_s), (now_s, total))


def _rise(
    policy: Policy, marks: tuple[tuple[float, float], ...], now_s: float, total: float
) -> float:
    """What the sum will have risen by after one more lead, if it goes on as it did.

    Told by the second least of five rises from one lead to the next. A step is in two of them at
    most, and foretells nothing; chance seldom makes four of five. An average over a window tells
    of a steady rise what was true a window ago, so that is made up for too.
    """
    lead_s = policy.scaling.lead_s
    if lead_s <= 0:
        return 0.0
    means = []
    for back in range(_LASTING, -1, -1):
        from_s, to_s = now_s - (back + 1) * lead_s, now_s - back * lead_s
        inside = [sum_ for at_s, sum_ in marks if from_s < at_s <= to_s]
        if not inside:
            return 0.0
        means.append(math.fsum(inside) / len(inside))
    lasting = sorted(later - earlier for earlier, later in pairwise(means))[1]
    ahead = 1 + policy.scaling.window_s / lead_s
    return min(max(0.0, lasting * ahead), _MOST * total)
