"""A rival that unloads and prewarms by the clock: the hybrid histogram of idle times.

Owns the policy of Shahrad et al. (Serverless in the Wild, ATC 2020), fitted to a budget. Refuses
to know sizes and loads.

Each model has a histogram of its idle times, in minutes up to four hours. Where it is
representative (the counts of its bins differ enough), the model leaves once it is idle, comes
back shortly before the 5th percentile of its idle times, and leaves again after the 99th; where
that 5th percentile lies within the first minute, it just stays that long. All others stay for the
four hours.

Two things are not as in the paper. Models whose idle times mostly lie beyond the histogram,
which it forecasts with ARIMA, are kept like those without enough samples. And memory, which it
does not limit, is limited here: nobody leaves before the room is needed. Then those leave first
whose keep-alive has ended, and after them the others, the least recently used first of each; a
prewarm makes nobody leave but the former. To unload each model once it is idle, as the paper
does, cost 1.1 to 3.2 times the loads of LRU on the Azure trace of 500 functions, at 10 to 50 % of
their size.
"""

import numpy as np
from numpy.typing import NDArray

from simulations.residency.memory import Memory, Models, Sizes, Values, lowest
from simulations.residency.policy import Decision, Wake

_MINUTE_S = 60.0
_BINS = 240
_HEAD, _TAIL, _MARGIN = 0.05, 0.99, 0.1
_WAKES_S = 10.0
# The paper's threshold of the coefficient of variation of a histogram's bins.
_REPRESENTATIVE = 2.0
_SAMPLES = 3


class IdleHistogram:
    """Wakes often enough that a prewarm is not late by much, and learns what is new then."""

    name = "idle-histogram"

    def __init__(self, sizes: Sizes) -> None:
        models = len(sizes)
        self.wake_s = _WAKES_S
        self._used_s = np.full(models, -np.inf)
        self._spells = np.zeros((models, _BINS))
        self._beyond = np.zeros(models)
        self._fresh = np.zeros(models, np.bool_)
        self._prewarm_s = np.zeros(models)
        self._keep_s = np.full(models, _BINS * _MINUTE_S)

    def begin(self, models: Models, time_s: Values) -> None:
        """It learns as it goes."""

    def hits(self, models: Models, time_s: Values, weight: Values) -> None:
        order = np.argsort(models, kind="stable")
        model, at_s = models[order], time_s[order]
        before_s = np.concatenate(([0.0], at_s[:-1]))
        first = np.concatenate(([True], model[1:] != model[:-1]))
        before_s[first] = self._used_s[model[first]]
        self._ended(model, at_s - before_s)
        self._used_s[models] = time_s

    def _ended(self, models: Models, idle_s: Values) -> None:
        known = np.isfinite(idle_s)
        models, bins = models[known], (idle_s[known] / _MINUTE_S).astype(np.intp)
        within = bins < _BINS
        np.add.at(self._spells, (models[within], bins[within]), 1.0)
        np.add.at(self._beyond, models[~within], 1.0)
        self._fresh[models] = True

    def miss(self, model: int, time_s: float, weight: float, memory: Memory) -> Decision:
        self._ended(np.array([model], np.int32), np.array([time_s - self._used_s[model]]))
        self._used_s[model] = time_s
        lacks = memory.lacks_bytes(model)
        return Decision(self._leaving(time_s, memory, lacks, np.flatnonzero(memory.resident)))

    def _over(self, time_s: float) -> NDArray[np.bool_]:
        """Whose keep-alive has ended."""
        over: NDArray[np.bool_] = time_s - self._used_s > self._keep_s
        return over

    def _leaving(
        self, time_s: float, memory: Memory, lacks_bytes: float, candidates: NDArray[np.intp]
    ) -> list[int]:
        oldest_first = candidates[np.argsort(self._used_s[candidates], kind="stable")]
        kept = (~self._over(time_s)[oldest_first]).astype(np.float64)
        return lowest(oldest_first, kept, memory, lacks_bytes, False)

    def wake(self, time_s: float, memory: Memory) -> Wake:
        self.wake_s = time_s + _WAKES_S
        self._learn(np.flatnonzero(self._fresh))
        self._fresh[:] = False
        idle_s, over = time_s - self._used_s, self._over(time_s)
        expected = (self._prewarm_s > 0) & (idle_s >= self._prewarm_s) & ~over
        load = np.flatnonzero(expected & ~memory.resident)
        if not len(load):
            return Wake()
        # Those whose idle times began to end last are still the likeliest to be asked for.
        latest = load[np.argsort(idle_s[load] - self._prewarm_s[load], kind="stable")]
        gone = np.flatnonzero(memory.resident & over)
        free = memory.budget_bytes - memory.used_bytes
        takes = np.cumsum(memory.sizes.size_bytes[latest])
        fits = takes <= free + float(memory.sizes.size_bytes[gone].sum())
        if not fits[0]:
            return Wake()
        leave = self._leaving(time_s, memory, float(takes[fits][-1]) - free, gone)
        return Wake(tuple(leave), tuple(latest[fits].tolist()))

    def _learn(self, models: NDArray[np.intp]) -> None:
        """When each of ``models`` comes back and leaves, in seconds of idleness."""
        spells = self._spells[models]
        samples = spells.sum(axis=1)
        spread = spells.std(axis=1) / np.maximum(spells.mean(axis=1), 1e-12)
        told = (
            (samples >= _SAMPLES) & (spread >= _REPRESENTATIVE) & (samples > self._beyond[models])
        )
        share = np.cumsum(spells, axis=1) / np.maximum(samples, 1.0)[:, None]
        head = (share >= _HEAD).argmax(axis=1)
        tail = (share >= _TAIL).argmax(axis=1) + 1
        self._prewarm_s[models] = np.where(told, head * _MINUTE_S * (1 - _MARGIN), 0.0)
        keep = np.where(told, tail * (1 + _MARGIN), _BINS) * _MINUTE_S
        self._keep_s[models] = keep
