"""Rivals that know the future: what could have been reached, not what anybody could do.

Owns Belady's rule for models that differ in size and load, and the best set that never changes.
"""

import numpy as np

from simulations.residency.memory import Chosen, Memory, Models, Sizes, Values, lowest
from simulations.residency.policy import AtMissesOnly, Decision
from simulations.workloads.arrivals import Workload, joined


class Belady(AtMissesOnly):
    """Who is asked for again the latest leaves, a byte of it weighing by what it saves: the
    largest (next use − now) · size / load. Not optimal where sizes differ, but near the bound."""

    name = "belady"

    def __init__(self, sizes: Sizes, workload: Workload, *, clean_up: bool = True) -> None:
        every = joined(list(workload.runs()))
        order = np.argsort(every.model, kind="stable")
        asked = np.bincount(every.model, minlength=len(sizes))
        # Each model's times one after the other, and an endless one after the last of each.
        self._next = np.concatenate(([0], np.cumsum(asked + 1)[:-1])).astype(np.intp)
        self._time_s = np.insert(every.time_s[order], np.cumsum(asked), np.inf)
        self._cost_per_byte = sizes.cost_per_byte
        self._clean_up = clean_up

    def hits(self, models: Models, time_s: Values, weight: Values) -> None:
        np.add.at(self._next, models, 1)

    def miss(self, model: int, time_s: float, weight: float, memory: Memory) -> Decision:
        self._next[model] += 1
        lacks = memory.lacks_bytes(model)
        if lacks <= 0:
            return Decision()
        residents = np.flatnonzero(memory.resident)
        away_s = np.maximum(self._time_s[self._next[residents]] - time_s, 1e-9)
        value = self._cost_per_byte[residents] / away_s
        return Decision(lowest(residents, value, memory, lacks, self._clean_up))


class BestStatic(AtMissesOnly):
    """The set that, kept from its first request to the end, saves most load seconds, by hindsight.

    Some memory stays beside it, in which all others take turns by recency, since a model has to
    be resident to be served. Which set and how much beside it is chosen by a knapsack for
    several sizes of that room, exact to one part in 2**14 of the budget.
    """

    name = "static"

    def __init__(self, sizes: Sizes, workload: Workload, budget_bytes: int) -> None:
        model = joined(list(workload.runs())).model
        model = model[sizes.size_bytes[model] <= budget_bytes]
        # An arrival right after one of the same model needs no memory held in between.
        fresh = model[np.concatenate(([True], model[1:] != model[:-1]))] if len(model) else model
        saved_s = np.bincount(fresh, minlength=len(sizes)) * sizes.load_s
        self.kept = _best_set(sizes.size_bytes, saved_s, budget_bytes)
        self._used_s = np.full(len(sizes), -np.inf)

    def hits(self, models: Models, time_s: Values, weight: Values) -> None:
        self._used_s[models] = time_s

    def miss(self, model: int, time_s: float, weight: float, memory: Memory) -> Decision:
        self._used_s[model] = time_s
        others = np.flatnonzero(memory.resident & ~self.kept)
        return Decision(
            lowest(others, self._used_s[others], memory, memory.lacks_bytes(model), False)
        )


_ROOM_SHARES = (0.5, 0.75, 0.9, 0.97, 1.0)
_GRAINS = 1 << 14


def _best_set(size_bytes: Values, saved_s: Values, budget_bytes: int) -> Chosen:
    """(n,) bool: who is kept. Whoever is asked for and not kept fits beside them."""
    asked = np.flatnonzero(saved_s > 0)
    best_s, best = -1.0, np.zeros(len(size_bytes), np.bool_)
    if not len(asked):
        return best
    for room in np.quantile(size_bytes[asked], _ROOM_SHARES, method="higher"):
        # Larger models than the room beside the set can only be in it.
        forced = asked[size_bytes[asked] > room]
        free = budget_bytes - room - float(size_bytes[forced].sum())
        if free < 0:
            continue
        rest = asked[size_bytes[asked] <= room]
        chosen = rest[_knapsack(size_bytes[rest], saved_s[rest], free)]
        kept_s = float(saved_s[forced].sum() + saved_s[chosen].sum())
        if kept_s > best_s:
            best_s, best = kept_s, np.zeros(len(size_bytes), np.bool_)
            best[forced] = best[chosen] = True
    return best


def _knapsack(size_bytes: Values, value: Values, room_bytes: float) -> Models:
    """Indices of those that fit together and are worth most; sizes rounded up to a grain."""
    grain = max(1.0, room_bytes / _GRAINS)
    takes = np.ceil(size_bytes / grain).astype(np.int64)
    room = int(room_bytes / grain)
    best = np.zeros(room + 1)
    taken = np.zeros((len(takes), room + 1), np.bool_)
    for each, size in enumerate(takes.tolist()):
        if size > room:
            continue
        with_it = best[: room + 1 - size] + value[each]
        better = with_it > best[size:]
        taken[each, size:] = better
        best[size:] = np.where(better, with_it, best[size:])
    chosen = []
    for each in range(len(takes) - 1, -1, -1):
        if taken[each, room]:
            chosen.append(each)
            room -= int(takes[each])
    return np.array(chosen[::-1], np.int32)
