"""Rivals that count requests: LFU, GDSF, FaasCache's greedy-dual.

Owns those three. Refuses to know when requests came.
"""

import numpy as np

from simulations.residency.memory import Memory, Models, Sizes, Values, lowest
from simulations.residency.policy import AtMissesOnly, Decision


class LeastFrequent(AtMissesOnly):
    """LFU: who had the fewest requests leaves, of all it ever had; of equals the least recent."""

    name = "lfu"

    def __init__(self, sizes: Sizes, *, clean_up: bool = False) -> None:
        self._requests = np.zeros(len(sizes))
        self._used_s = np.full(len(sizes), -np.inf)
        self._clean_up = clean_up

    def hits(self, models: Models, time_s: Values, weight: Values) -> None:
        np.add.at(self._requests, models, weight)
        self._used_s[models] = time_s

    def miss(self, model: int, time_s: float, weight: float, memory: Memory) -> Decision:
        self._requests[model] += weight
        self._used_s[model] = time_s
        residents = np.flatnonzero(memory.resident)
        oldest_first = residents[np.argsort(self._used_s[residents], kind="stable")]
        value = self._requests[oldest_first]
        lacks = memory.lacks_bytes(model)
        return Decision(lowest(oldest_first, value, memory, lacks, self._clean_up))


class GreedyDual(AtMissesOnly):
    """Greedy-dual with frequency: the lowest clock + requests · gain per byte leaves.

    The clock is the value of the last that left, so that who is not asked for is overtaken
    however often it once was. The requests of a model that leaves are forgotten. An arrival
    counts for ``weight`` requests.

    GDSF (Cherkasova 1998) gains one request a byte; FaasCache (Fuerst and Sharma, ASPLOS 2021) the
    seconds of the load.
    """

    def __init__(
        self, name: str, sizes: Sizes, gain_per_byte: Values, *, clean_up: bool = False
    ) -> None:
        self.name = name
        self._gain = gain_per_byte
        self._requests = np.zeros(len(sizes))
        self._value = np.zeros(len(sizes))
        self._clock = 0.0
        self._clean_up = clean_up

    def hits(self, models: Models, time_s: Values, weight: Values) -> None:
        np.add.at(self._requests, models, weight)
        self._value[models] = self._clock + self._requests[models] * self._gain[models]

    def miss(self, model: int, time_s: float, weight: float, memory: Memory) -> Decision:
        residents = np.flatnonzero(memory.resident)
        value, lacks = self._value[residents], memory.lacks_bytes(model)
        victims = lowest(residents, value, memory, lacks, self._clean_up)
        if victims:
            self._clock = max(self._clock, float(self._value[victims].max()))
            self._requests[victims] = 0.0
        self._requests[model] += weight
        self._value[model] = self._clock + self._requests[model] * self._gain[model]
        return Decision(victims)


def gdsf(sizes: Sizes, *, clean_up: bool = False) -> GreedyDual:
    gain = 1.0 / np.maximum(sizes.size_bytes, 1.0)
    return GreedyDual("gdsf", sizes, gain, clean_up=clean_up)


def faascache(sizes: Sizes, *, clean_up: bool = False) -> GreedyDual:
    return GreedyDual("faascache", sizes, sizes.cost_per_byte, clean_up=clean_up)
