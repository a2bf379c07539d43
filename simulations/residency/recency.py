"""Rivals that go by when a model was last asked for: LRU as Seldon and ModelMesh do it, LRU-2.

Owns those three. Refuses to know sizes and loads, except where ModelMesh's churn rule does.
"""

import numpy as np

from simulations.residency.memory import Memory, Models, Sizes, Values, lowest
from simulations.residency.policy import AtMissesOnly, Decision


class LeastRecent(AtMissesOnly):
    """LRU as Seldon Core 2 has it: the least recently used leave, one by one, until it fits."""

    name = "lru-seldon"

    def __init__(self, sizes: Sizes, *, clean_up: bool = False) -> None:
        # Arrivals are numbered, for of those of one moment the clock does not tell the last.
        self._turn = 0
        self._used = np.zeros(len(sizes), np.int64)
        self._clean_up = clean_up

    def hits(self, models: Models, time_s: Values, weight: Values) -> None:
        # Where a model comes more than once, the last of its turns stays.
        self._used[models] = np.arange(self._turn, self._turn + len(models))
        self._turn += len(models)

    def miss(self, model: int, time_s: float, weight: float, memory: Memory) -> Decision:
        self._used[model] = self._turn
        self._turn += 1
        residents = np.flatnonzero(memory.resident)
        lacks = memory.lacks_bytes(model)
        return Decision(lowest(residents, self._used[residents], memory, lacks, self._clean_up))


class ModelMesh(AtMissesOnly):
    """LRU as KServe ModelMesh has it, with its churn rule.

    A full pod whose least recently used model was used less than ten times the load time ago
    refuses the load. ModelMesh then asks its other pods; here is one pod, so that the request has
    failed, which is what its users report. Such requests cost no load: read its load seconds
    together with ``failed``, for who refuses enough goes below any bound.
    """

    name = "lru-modelmesh"

    def __init__(self, sizes: Sizes, *, churn_loads: float = 10.0, clean_up: bool = False) -> None:
        self._recency = LeastRecent(sizes, clean_up=clean_up)
        self._used_s = np.full(len(sizes), -np.inf)
        self._youngest_s = churn_loads * sizes.load_s

    def hits(self, models: Models, time_s: Values, weight: Values) -> None:
        self._recency.hits(models, time_s, weight)
        self._used_s[models] = time_s

    def miss(self, model: int, time_s: float, weight: float, memory: Memory) -> Decision:
        if memory.lacks_bytes(model) > 0:
            oldest_s = float(self._used_s[memory.resident].min())
            if time_s - oldest_s < self._youngest_s[model]:
                return Decision(refused=True)
        self._used_s[model] = time_s
        return self._recency.miss(model, time_s, weight, memory)


class LeastRecentTwice(AtMissesOnly):
    """LRU-2 (O'Neil, O'Neil, Weikum 1993): who was asked for the last time but one longest ago.

    Models asked for only once go first, by that one time. What was known stays known after a
    model has left.
    """

    name = "lru-2"

    def __init__(self, sizes: Sizes, *, clean_up: bool = False) -> None:
        self._used_s = np.full(len(sizes), -np.inf)
        self._before_s = np.full(len(sizes), -np.inf)
        self._place = np.zeros(len(sizes), np.intp)
        self._clean_up = clean_up

    def hits(self, models: Models, time_s: Values, weight: Values) -> None:
        place = np.arange(len(models))
        self._before_s[models] = self._used_s[models]
        self._place[models] = place
        # Those that come again later in this run: the last but one is within it.
        earlier = np.flatnonzero(self._place[models] != place)
        self._before_s[models[earlier]] = time_s[earlier]
        self._used_s[models] = time_s

    def miss(self, model: int, time_s: float, weight: float, memory: Memory) -> Decision:
        residents = np.flatnonzero(memory.resident)
        once_first = residents[np.argsort(self._used_s[residents], kind="stable")]
        lacks = memory.lacks_bytes(model)
        victims = lowest(once_first, self._before_s[once_first], memory, lacks, self._clean_up)
        self._before_s[model] = self._used_s[model]
        self._used_s[model] = time_s
        return Decision(victims)
