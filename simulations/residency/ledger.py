"""Counts what a replay did: cold starts, waits, loads, prewarms, stays.

Owns the figures of an Outcome for residency alone. Refuses to know who decides, and why.
"""

from collections.abc import Sequence

import numpy as np

from simulations.outcome import Outcome, Stay
from simulations.residency.memory import Models, Sizes, Values


class Ledger:
    """The books of one replay; ``outcome`` closes them."""

    def __init__(self, names: Sequence[str], sizes: Sizes, keep_stays: bool) -> None:
        self._names, self._sizes, self._keep_stays = names, sizes, keep_stays
        self._load_s: list[float] = sizes.load_s.tolist()
        self._ready_s = np.full(len(sizes), -np.inf)
        self._entered_s = [0.0] * len(sizes)
        # Loaded by a prewarm, and nobody has asked since.
        self._unasked = np.zeros(len(sizes), np.bool_)
        # Unasked, or maybe not ready yet: an arrival that finds it is more than a request.
        self._watched = np.zeros(len(sizes), np.bool_)
        self._requests = self._cold_requests = self._visible_cold_s = self._failed = 0.0
        self._loaded_s = 0.0
        self._cold_starts = self._loads = self._evictions = 0
        self._prewarms = self._used_prewarms = 0
        self._waits: list[Values] = []
        self._wait_weights: list[Values] = []
        self._cold_waits: list[float] = []
        self._cold_weights: list[float] = []
        self._memory_s: list[float] = []
        self._memory_bytes: list[float] = []
        self._stays: list[Stay] = []

    def asked(self, weight: Values) -> None:
        """All arrivals of a run, whatever becomes of them."""
        self._requests += float(weight.sum())

    def hits(self, models: Models, time_s: Values, weight: Values) -> None:
        watched = self._watched[models].nonzero()[0]
        if len(watched):
            self._look(models[watched], time_s[watched], weight[watched])

    def _look(self, models: Models, time_s: Values, weight: Values) -> None:
        """Arrivals that may wait the rest of a load, or may be the first after a prewarm."""
        self._used(models, time_s)
        rest_s = self._ready_s[models] - time_s
        self._watched[models] = rest_s > 0
        late = (rest_s > 0).nonzero()[0]
        if len(late):
            self._waits.append(rest_s[late])
            self._wait_weights.append(weight[late])
            self._cold_requests += float(weight[late].sum())

    def _used(self, models: Models, time_s: Values) -> None:
        """Prewarms that are asked for now; one that is not ready yet makes a cold start."""
        for at in self._unasked[models].nonzero()[0].tolist():
            model = int(models[at])
            if not self._unasked[model]:
                continue
            self._unasked[model] = False
            self._used_prewarms += 1
            rest_s = float(self._ready_s[model] - time_s[at])
            if rest_s > 0:
                self._cold_starts += 1
                self._visible_cold_s += rest_s

    def cold_start(self, model: int, time_s: float, weight: float) -> None:
        wait_s = self._load_s[model]
        self._cold_requests += weight
        self._cold_starts += 1
        self._visible_cold_s += wait_s
        self._cold_waits.append(wait_s)
        self._cold_weights.append(weight)
        self._load(model, time_s)

    def prewarm(self, model: int, time_s: float) -> None:
        self._prewarms += 1
        self._unasked[model] = True
        self._load(model, time_s)

    def _load(self, model: int, time_s: float) -> None:
        ready_s = time_s + self._load_s[model]
        self._loads += 1
        self._loaded_s += self._load_s[model]
        self._ready_s[model] = ready_s
        self._watched[model] = True
        self._entered_s[model] = time_s

    def leave(self, model: int, time_s: float) -> None:
        self._evictions += 1
        self._unasked[model] = self._watched[model] = False
        if self._keep_stays:
            self._stay(model, time_s)
        self._ready_s[model] = -np.inf

    def _stay(self, model: int, to_s: float) -> None:
        from_s, ready_s = self._entered_s[model], float(self._ready_s[model])
        self._stays.append(Stay(self._names[model], from_s, min(ready_s, to_s), to_s))

    def failed(self, weight: float) -> None:
        self._failed += weight

    def memory(self, time_s: float, used_bytes: float) -> None:
        self._memory_s.append(time_s)
        self._memory_bytes.append(used_bytes)

    def outcome(self, policy: str, budget_bytes: int, duration_s: float) -> Outcome:
        if self._keep_stays:
            for model in np.flatnonzero(self._ready_s > -np.inf).tolist():
                self._stay(model, max(duration_s, self._entered_s[model]))
        warm = self._requests - self._cold_requests - self._failed
        return Outcome(
            policy=policy,
            budget_bytes=budget_bytes,
            duration_s=duration_s,
            requests=self._requests,
            cold_requests=self._cold_requests,
            cold_starts=self._cold_starts,
            visible_cold_s=self._visible_cold_s,
            load_s=self._loaded_s,
            loads=self._loads,
            prewarms=self._prewarms,
            used_prewarms=self._used_prewarms,
            evictions=self._evictions,
            failed=self._failed,
            wait_s=np.concatenate([[0.0], self._cold_waits, *self._waits]),
            wait_weight=np.concatenate([[warm], self._cold_weights, *self._wait_weights]),
            memory_s=np.array(self._memory_s),
            memory_bytes=np.array(self._memory_bytes),
            stays=tuple(sorted(self._stays, key=lambda stay: (stay.from_s, stay.model))),
        )
