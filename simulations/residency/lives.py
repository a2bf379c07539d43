"""What our forecast goes by, of every model, as of each moment of a replay.

Owns the arrays that `policies.forecast` is asked with, and when they are brought up to date.
Refuses to know how a forecast is made, which is `policies.forecast`, the same as in production,
and what it is for.

A visit teaches the same whoever is resident, so what each will have taught is worked out for a
whole stretch of them at once. Each visit leaves a row of its own behind, and a model's row is that
of the latest visit that has been played: nothing is known of a visit before its time.
"""

from bisect import bisect_left
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from policies import forecast
from policies.policy import Policy
from simulations.residency.memory import Models, Values
from simulations.residency.visits import MOST, Visits, Watch

Rows = NDArray[np.intp]

_WINDOWS_S = np.array(Policy().demand.visit_windows_s)
# Production draws what all models have in common anew this often, too.
_POOLED_EVERY_S = 60.0
# With a row that is needed, so many are brought up to date of visits that come next: a call takes
# about as long as so many rows.
_AHEAD = 32


class Lives:
    """The life tables and rates of all models, and what has been read from them."""

    def __init__(self, models: int) -> None:
        ages, rows = forecast.AGES, models + MOST
        self.used_s = np.full(models, -np.inf)
        self._watch = Watch(models)
        self._stretches: Iterator[Visits] = iter(())
        # The stretch at hand, the rows of its visits, and how many of them have been played.
        self._model: Models = np.empty(0, np.int32)
        self._next_row: Rows = np.empty(0, np.intp)
        self._places: list[int] = []
        self._passed = 0
        # How many arrivals of the run have been played, and before which the stretch ends.
        self._played = self._end = 0
        # Which row is each model's now, and which after the stretch at hand.
        self._row, self._last_row = np.arange(models), np.arange(models)
        self._free_row = models
        self._reached, self._ended = np.zeros((rows, ages)), np.zeros((rows, ages))
        self._rates = np.zeros((rows, len(_WINDOWS_S)))
        self._visited_s = np.full(rows, -np.inf)
        self._turn = np.full(rows, -1)
        # What is read from a life table, where it is not stale.
        self._over, self._held_s = np.zeros((rows, ages + 1)), np.zeros((rows, ages + 1))
        self._stale = np.ones(rows, np.bool_)
        # What a life table promises at one age; -1 is none.
        self._promised, self._promised_age = np.zeros(rows), np.full(rows, -1)
        self._pool, self._pooled_s = forecast.UNKNOWN, -np.inf

    # --- what has been played ------------------------------------------------------------------

    def begin(self, models: Models, time_s: Values) -> None:
        """These arrivals come next, in this order; all before them have been played."""
        self._catch_up()
        self._stretches = self._watch.stretches(models, time_s)
        self._played = self._end = 0

    def several(self, models: Models, time_s: Values) -> None:
        """The next arrivals have come."""
        self.used_s[models] = time_s
        self._played += len(models)

    def one(self, model: int, time_s: float) -> None:
        """The next arrival has come."""
        self.used_s[model] = time_s
        self._played += 1

    def _catch_up(self) -> None:
        """Gives each model the row of its latest visit that has been played."""
        while self._played > self._end:
            self._pass(len(self._places))
            self._learn(next(self._stretches))
        until = bisect_left(self._places, self._played, self._passed)
        if until > self._passed:
            self._pass(until)

    def _pass(self, until: int) -> None:
        passed = slice(self._passed, until)
        # Of several visits of a model the last one's row stays.
        self._row[self._model[passed]] = self._next_row[passed]
        self._passed = until

    def _learn(self, visits: Visits) -> None:
        """Works out what each of ``visits`` will leave behind."""
        if self._free_row + len(visits) > len(self._turn):
            self._make_room()
        rows = np.arange(self._free_row, self._free_row + len(visits))
        self._free_row += len(visits)
        for nth in range(int(visits.nth.max(initial=-1)) + 1):
            which = (visits.nth == nth).nonzero()[0]
            models, row = visits.model[which], rows[which]
            self._visit(self._last_row[models], row, visits.time_s[which], visits.idle_s[which])
            self._last_row[models] = row
        self._turn[rows] = forecast.turn(self._reached[rows], self._ended[rows])
        self._stale[rows], self._promised_age[rows] = True, -1
        self._model, self._next_row, self._end = visits.model, rows, visits.end
        self._places, self._passed = visits.place.tolist(), 0

    def _visit(self, before: Rows, after: Rows, time_s: Values, idle_s: Values) -> None:
        """A visit to each of the models of rows ``before``, after ``idle_s`` without requests."""
        self._reached[after], self._ended[after] = self._reached[before], self._ended[before]
        known = np.isfinite(idle_s)
        if known.any():
            forecast.remember(self._reached, self._ended, after[known], idle_s[known])
        away_s = (time_s - self._visited_s[before])[:, None]
        faded = self._rates[before] * np.exp(-away_s / _WINDOWS_S)
        self._rates[after] = faded + 1 / _WINDOWS_S
        self._visited_s[after] = time_s

    def _make_room(self) -> None:
        """Forgets the rows that are no model's any more; between two stretches."""
        models = len(self._row)
        for table in (
            *(self._reached, self._ended, self._rates, self._visited_s, self._turn),
            *(self._over, self._held_s, self._stale, self._promised, self._promised_age),
        ):
            table[:models] = table[self._row]
        self._row, self._last_row = np.arange(models), np.arange(models)
        self._free_row = models

    # --- what it tells ---------------------------------------------------------------------------

    def turn_s(self, model: int) -> float | None:
        """When the spell that ``model`` is in ends, if it comes at regular times."""
        self._catch_up()
        age = int(self._turn[self._row[model]])
        return None if age < 0 else float(self.used_s[model] + forecast.EDGES_S[age])

    def keep_rates(self, models: Rows, time_s: float) -> Values:
        """(k,) loads saved per second of keeping each of ``models``, which all have been used."""
        rows = self._current_rows(models, time_s)
        age = forecast.age_of(time_s - self.used_s[models])
        # A promise holds for as long as nobody comes and the spell stays in its age.
        changed = (self._promised_age[rows] != age).nonzero()[0]
        if len(changed):
            row, at = rows[changed], age[changed]
            self._refresh(row)
            tables = self._over.take(row, axis=0), self._held_s.take(row, axis=0)
            self._promised[row] = forecast.promise(*tables, at)
            self._promised_age[row] = at
        return forecast.keep_rate(self._promised[rows], self._visit_rates(rows, time_s))

    def chances(self, models: Rows, time_s: float, within_s: float) -> Values:
        """(k,) the chance that somebody asks for each of ``models`` within ``within_s``: by the
        spells it has had, as far as they are known, and else by how many visits its rate would
        bring."""
        rows = self._current_rows(models, time_s)
        self._refresh(rows)
        age = forecast.age_of(time_s - self.used_s[models])
        chance = forecast.chance(self._over.take(rows, axis=0), age, within_s)
        known = forecast.known(self._reached[rows])
        surmised = -np.expm1(-self._visit_rates(rows, time_s) * within_s)
        chances: Values = known * chance + (1 - known) * surmised
        return chances

    def _visit_rates(self, rows: Rows, time_s: float) -> Values:
        away_s = time_s - self._visited_s[rows]
        return forecast.visit_rate(self._rates.take(rows, axis=0), away_s, _WINDOWS_S)

    def _current_rows(self, models: Rows, time_s: float) -> Rows:
        """Of each of ``models``, with what all models have in common by now."""
        self._catch_up()
        if time_s - self._pooled_s >= _POOLED_EVERY_S:
            every = self._reached[self._row], self._ended[self._row]
            self._pool, self._pooled_s = forecast.pooled(*every), time_s
            self._stale[:], self._promised_age[:] = True, -1
        return self._row[models]

    def _refresh(self, rows: Rows) -> None:
        """Brings the life tables of ``rows`` up to what is known now."""
        if not len(self._stale[rows].nonzero()[0]):
            return
        ahead = self._next_row[self._passed : self._passed + _AHEAD]
        both = np.concatenate((rows, ahead))
        stale = both[self._stale[both]]
        tables = self._reached.take(stale, axis=0), self._ended.take(stale, axis=0)
        self._over[stale], self._held_s[stale] = forecast.life(*tables, self._pool)
        self._stale[stale] = False
