"""Which arrivals begin a visit, and how long their models were idle before.

Owns telling them apart, for many arrivals at once. Refuses to know what is learnt from a visit;
how far apart two of them are is the forecast's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.forecast import VISIT_S
from simulations.residency.memory import Models, Values

MOST = 1 << 12
"""No stretch has more arrivals."""
# It lasts so long, in which a model has few visits, or longer where it has few arrivals.
_STRETCH_S, _FEW = 6 * VISIT_S, 256


@dataclass(frozen=True, slots=True)
class Visits:
    """The visits of one stretch of arrivals, in their order.

    end: where the stretch ends in its run. place: (v,) of each visit's first arrival in the run.
    model: (v,). time_s: (v,) when it begins. idle_s: (v,) since the model's arrival before,
    infinite without one. nth: (v,) which of its model's visits of the stretch it is, from 0.
    """

    end: int
    place: NDArray[np.intp]
    model: Models
    time_s: Values
    idle_s: Values
    nth: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.place)


class Watch:
    """Remembers of each model when it was asked for last, and when its latest visit began."""

    def __init__(self, models: int) -> None:
        self._used_s = np.full(models, -np.inf)
        self._visited_s = np.full(models, -np.inf)
        # Keys this short are sorted by their digits, in a sixth of the time.
        self._key = np.uint16 if models <= 1 << 16 else np.int32

    def stretches(self, models: Models, time_s: Values) -> Iterator[Visits]:
        """The visits of a run of arrivals, stretch by stretch; each is looked for when asked."""
        first = 0
        while first < len(models):
            last = int(np.searchsorted(time_s, time_s[first] + _STRETCH_S, side="right"))
            last = min(max(last, first + _FEW), first + MOST, len(models))
            yield self._stretch(first, models[first:last], time_s[first:last])
            first = last

    def _stretch(self, begin: int, models: Models, time_s: Values) -> Visits:
        order = models.astype(self._key).argsort(kind="stable")
        model, at_s = models[order], time_s[order]
        first = _first_of_each(model)
        before_s = np.empty_like(at_s)
        before_s[1:] = at_s[:-1]
        before_s[first] = self._used_s[model[first]]
        self._used_s[model] = at_s
        # One visit of each model in each round, for the next one is told from the one before.
        rounds: list[NDArray[np.intp]] = []
        left = np.arange(len(model))
        while len(left := left[at_s[left] - self._visited_s[model[left]] >= VISIT_S]):
            one = left[_first_of_each(model[left])]
            self._visited_s[model[one]] = at_s[one]
            rounds.append(one)
        found = np.concatenate([left, *rounds])
        nth = np.repeat(np.arange(len(rounds)), [len(one) for one in rounds])
        place = order[found]
        by_place = place.argsort(kind="stable")
        found, place = found[by_place], place[by_place]
        return Visits(
            begin + len(models),
            begin + place,
            model[found],
            at_s[found],
            at_s[found] - before_s[found],
            nth[by_place],
        )


def _first_of_each(sorted_models: Models) -> NDArray[np.bool_]:
    """(n,) whether another model stands before it."""
    first = np.ones(len(sorted_models), np.bool_)
    np.not_equal(sorted_models[1:], sorted_models[:-1], out=first[1:])
    return first
