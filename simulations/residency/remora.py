"""Our own ranking, as the production plan has it, over arrays of all models at once.

Owns the arrays that `policies.forecast` is asked with, and when they are brought up to date.
Refuses to know how a forecast is made; that is `policies.forecast`, the same as in production.

The served model has to be resident here, so at a miss nothing is weighed but who leaves: the
lowest keep rate times load seconds per byte, with victim clean-up.

A model that comes at regular times is loaded for its turn before anybody asks, if that pays. An
absent model's past does not change, so when its turn will be near is known as soon as it leaves.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from policies import forecast
from policies.policy import Policy
from simulations.residency.memory import Memory, Models, Sizes, Values, lowest
from simulations.residency.policy import NEVER_S, Decision, Wake

# What a prewarm has to be worth is production's, as it is by default.
_PRODUCTION = Policy()
_WINDOWS_S = np.array(_PRODUCTION.demand.visit_windows_s)
# Production draws what all models have in common anew this often, too.
_POOLED_EVERY_S = 60.0
_NONE, _NEVER = np.empty(0, np.int32), np.empty(0)
# A run of hits is taken in stretches of this length, in which a model has few visits.
_STRETCH_S = 2 * forecast.VISIT_S


class Remora:
    """The forecast's keep rate, by load seconds per byte, and prewarms of regular models."""

    def __init__(self, sizes: Sizes, *, clean_up: bool = True, prewarm: bool = True) -> None:
        self.name = "remora" if prewarm else "remora-no-prewarm"
        models, ages = len(sizes), forecast.AGES
        self._cost_per_byte = sizes.cost_per_byte
        self._clean_up, self._prewarm = clean_up, prewarm
        self._load_s = sizes.load_s
        # When each absent model would have to load for its next turn.
        self._due_s = np.full(models, NEVER_S)
        self.wake_s = NEVER_S
        self._reached, self._ended = np.zeros((models, ages)), np.zeros((models, ages))
        self._over, self._held_s = np.zeros((models, ages + 1)), np.zeros((models, ages + 1))
        # Rows of the life table that are older than what is known.
        self._stale = np.ones(models, np.bool_)
        self._used_s = np.full(models, -np.inf)
        self._visited_s = np.full(models, -np.inf)
        self._rates = np.zeros((models, len(_WINDOWS_S)))
        self._pool, self._pooled_s = forecast.UNKNOWN, -np.inf
        # The latest run of hits, looked at together with the miss after it, which saves a fifth.
        # Until then nobody leaves, so that nothing becomes due by it.
        self._latest: tuple[Models, Values] | None = None

    def hits(self, models: Models, time_s: Values, weight: Values) -> None:
        self._catch_up()
        self._latest = models, time_s

    def _catch_up(self) -> None:
        if self._latest is not None:
            self._take(*self._latest)
            self._latest = None

    def _take(self, models: Models, time_s: Values) -> None:
        """Arrivals in order of time, in stretches in which nobody has many visits."""
        if time_s[-1] - time_s[0] <= _STRETCH_S:
            self._stretch(models, time_s)
            return
        bounds = np.arange(time_s[0], time_s[-1], _STRETCH_S)[1:]
        cuts = [0, *np.searchsorted(time_s, bounds).tolist(), len(models)]
        for first, last in pairwise(cuts):
            if first < last:
                self._stretch(models[first:last], time_s[first:last])

    def _stretch(self, models: Models, time_s: Values) -> None:
        """Arrivals of a few seconds: which of them begin a visit, and how long was idle before."""
        order = np.argsort(models, kind="stable")
        model, at_s = models[order], time_s[order]
        first = np.concatenate(([True], model[1:] != model[:-1]))
        before_s = np.concatenate(([0.0], at_s[:-1]))
        before_s[first] = self._used_s[model[first]]
        self._used_s[model] = at_s
        left = np.arange(len(model))
        # One visit of each model in each round, for the next one is told from the one before.
        while len(left := left[self._begins_visit(model[left], at_s[left])]):
            one = left[np.concatenate(([True], model[left[1:]] != model[left[:-1]]))]
            self._visits(model[one], at_s[one], at_s[one] - before_s[one])

    def _begins_visit(self, models: Models, time_s: Values) -> NDArray[np.bool_]:
        begins: NDArray[np.bool_] = time_s - self._visited_s[models] >= forecast.VISIT_S
        return begins

    def _visits(self, models: Models, time_s: Values, idle_s: Values) -> None:
        """A visit to each of ``models``, each at most once, after ``idle_s`` without requests."""
        known = np.isfinite(idle_s)
        rows = models[known].astype(np.intp)
        if len(rows):
            forecast.remember(self._reached, self._ended, rows, idle_s[known])
        away_s = (time_s - self._visited_s[models])[:, None]
        faded = self._rates[models] * np.exp(-away_s / _WINDOWS_S)
        self._rates[models] = faded + 1 / _WINDOWS_S
        self._visited_s[models] = time_s
        self._stale[models] = True

    def miss(self, model: int, time_s: float, weight: float, memory: Memory) -> Decision:
        models, times_s = self._latest or (_NONE, _NEVER)
        self._take(np.append(models, np.int32(model)), np.append(times_s, time_s))
        self._latest = None
        victims = self._victims(model, time_s, memory)
        self._changes(model, victims, time_s)
        return Decision(victims)

    def _victims(self, model: int, time_s: float, memory: Memory) -> list[int]:
        lacks = memory.lacks_bytes(model)
        if lacks <= 0:
            return []
        residents = np.flatnonzero(memory.resident)
        value = self.keep_rates(residents, time_s) * self._cost_per_byte[residents]
        return lowest(residents, value, memory, lacks, self._clean_up)

    def _changes(self, comes: int, victims: list[int], time_s: float) -> None:
        """``comes`` needs no prewarm any more; each of ``victims`` may, for its next turn.

        One that leaves when it would have to load for it, or later, was here in its turn, and is
        not brought again.
        """
        self._due_s[comes] = NEVER_S
        if victims and self._prewarm:
            ages = forecast.turn(self._reached[victims], self._ended[victims])
            due_s = self._used_s[victims] + forecast.EDGES_S[ages] - self._load_s[victims]
            self._due_s[victims] = np.where((ages >= 0) & (due_s > time_s), due_s, NEVER_S)
        self.wake_s = float(self._due_s.min(initial=NEVER_S))

    def wake(self, time_s: float, memory: Memory) -> Wake:
        """Loads the model that is due, if it fits or is worth more than who has to leave for it."""
        self._catch_up()
        model = int(self._due_s.argmin())
        # Of those that are due at one moment, the next one is weighed as soon as there is another.
        self._due_s = np.maximum(self._due_s, np.nextafter(time_s, NEVER_S))
        victims = self._victims(model, time_s, memory)
        if not self._pays(model, victims, time_s):
            self._changes(model, [], time_s)
            return Wake()
        self._changes(model, victims, time_s)
        return Wake(tuple(victims), (model,))

    def _pays(self, model: int, victims: list[int], time_s: float) -> bool:
        """Whether ``model`` is worth more than all ``victims``, as production weighs a swap."""
        if not victims:
            return True
        worth = self._worths(np.array([model, *victims], np.intp), time_s)
        return bool(worth[0] > float(worth[1:].sum()) * (1 + _PRODUCTION.residency.hysteresis))

    def _worths(self, models: NDArray[np.intp], time_s: float) -> Values:
        """(k,) cold seconds within the horizon, were each of ``models`` absent: by the spells it
        has had, as far as they are known, and else by how many visits its rate would bring."""
        self._refresh(models, time_s)
        horizon_s = _PRODUCTION.horizon_s
        age = forecast.age_of(time_s - self._used_s[models])
        chance = forecast.chance(self._over[models], age, horizon_s)
        visits = forecast.visit_rate(
            self._rates[models], time_s - self._visited_s[models], _WINDOWS_S
        )
        known = forecast.known(self._reached[models])
        surmised = -np.expm1(-visits * horizon_s)
        worths: Values = self._load_s[models] * (known * chance + (1 - known) * surmised)
        return worths

    def keep_rates(self, models: NDArray[np.intp], time_s: float) -> Values:
        """(k,) loads saved per second of keeping each of ``models``, which all have been used."""
        self._refresh(models, time_s)
        age = forecast.age_of(time_s - self._used_s[models])
        promised = forecast.promise(self._over[models], self._held_s[models], age)
        visits = forecast.visit_rate(
            self._rates[models], time_s - self._visited_s[models], _WINDOWS_S
        )
        return forecast.keep_rate(promised, visits)

    def _refresh(self, models: NDArray[np.intp], time_s: float) -> None:
        """Brings the life tables of ``models`` up to what is known now."""
        if time_s - self._pooled_s >= _POOLED_EVERY_S:
            self._pool, self._pooled_s = forecast.pooled(self._reached, self._ended), time_s
            self._stale[:] = True
        stale = models[self._stale[models]]
        if len(stale):
            rows = self._reached[stale], self._ended[stale]
            self._over[stale], self._held_s[stale] = forecast.life(*rows, self._pool)
            self._stale[stale] = False
