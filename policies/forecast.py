"""When a model will be asked for again, and what keeping it until then is worth per second.

Owns the life table of idle spells and what is read from it. Refuses to know what a model costs
to load, how large it is, and whether it is here.

A model's requests come in visits: requests within `VISIT_S` of the one that was counted before
are one visit. Between visits it is idle, and its life table says, for each age of a spell, how
many spells have reached that age and how many of those ended there, because somebody came. A
table of spells by length alone would forget the rare long ones while a model is busy; here only
what a spell has passed through is brought up to date.

All functions take arrays over models and ages at once, for a plan asks about every model, and a
replay of a long trace does so a million times.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

VISIT_S = 5.0
"""Requests closer than this are one visit: nobody leaves and comes back in between."""
_STEPS_PER_OCTAVE = 4
_OCTAVES = 18
EDGES_S: Floats = np.concatenate(
    [[0.0], VISIT_S * 2.0 ** (np.arange(_STEPS_PER_OCTAVE * _OCTAVES + 1) / _STEPS_PER_OCTAVE)]
)
"""(AGES + 1,), where each age begins; the last ends after two weeks."""
AGES = len(EDGES_S) - 1
_WIDTHS_S: Floats = np.diff(EDGES_S)

_KEPT = 0.98
"""What a spell leaves of the memory of those before it."""
_POOLED = 0.5
"""How many spells of its own outweigh what is known of all models together."""
_TELLING = 2.0
"""So many spells of its own make what they say half known."""
_LOST = 1.0
"""Spells that never end, of which every model is thought to have had one."""
_REGULAR_SPELLS = 3
_REGULAR_SHARE = 0.35
"""A model comes at regular times when at least so many spells were remembered, and at least
this share of them ended at one age."""
# Counts are kept to three digits.
_COARSE = 0.01
_REMEMBERED = (1 - _KEPT**_REGULAR_SPELLS) / (1 - _KEPT) - _COARSE
"""What so many spells leave in the table."""
_SURMISE = 0.1
"""The chance that a spell ends at an age of which nothing is known."""

_WINDOW_SHARES: Floats = np.array([0.02, 0.08, 0.3, 0.6])
_TIMELY = 2 / 3
"""How much more the moment counts than the rate: its exponent, of one."""


class Reading(NamedTuple):
    """What a life table says of a spell that has reached some age.

    promised: requests per second of keeping the model (see `promise`). chance: of a request
    within some seconds. known: how far the model's own spells bear that out, from 0 to 1.
    """

    promised: float
    chance: float
    known: float


class Question(NamedTuple):
    """What is asked of many tables at once: how far ahead, and in the light of which `pooled`."""

    within_s: float
    pool: tuple[float, ...]


@dataclass(frozen=True)
class Spells:
    """One model's life table; ages it has never reached are left out at the end.

    reached, ended: spells that came to each age, and those that ended there.
    """

    reached: tuple[float, ...] = ()
    ended: tuple[float, ...] = ()

    @cached_property
    def rows(self) -> tuple[Floats, Floats]:
        """Both as arrays of AGES; no field, so that it makes no difference to equality."""
        return _row(self.reached), _row(self.ended)

    @cached_property
    @np.errstate(all="ignore")
    def turn_s(self) -> tuple[float, float] | None:
        """Between which ages a spell of a model that comes at regular times ends; None for
        one that does not."""
        if not self.reached or not self.reached[0] >= _REMEMBERED:
            return None
        reached, ended = self.rows
        top = int(turn(reached[None], ended[None])[0])
        return None if top < 0 else (float(EDGES_S[top]), float(EDGES_S[top + 1]))

    @cached_property
    def _kept(self) -> dict[int, tuple[Question, Reading]]:
        """Readings by age. They follow from the table and the question, so keeping them changes
        nothing but how soon they are there."""
        return {}

    def recall(self, age: int, question: Question) -> Reading | None:
        """The reading that was kept for a spell that has reached ``age``."""
        kept = self._kept.get(age)
        return kept[1] if kept is not None and kept[0] == question else None

    def keep(self, age: int, question: Question, reading: Reading) -> None:
        if self.reached:
            # A spell only grows older. The empty table is every newcomer's, at many ages at once.
            self._kept.clear()
        self._kept[age] = question, reading


NO_SPELLS = Spells()


def _row(counts: tuple[float, ...]) -> Floats:
    row = np.zeros(AGES)
    row[: len(counts)] = counts[:AGES]
    return row


def tables(several: Iterable[Spells]) -> tuple[Floats, Floats]:
    """(n, AGES) twice: reached and ended, one row for each of ``several``."""
    rows = [each.rows for each in several]
    return np.array([reached for reached, _ in rows]), np.array([ended for _, ended in rows])


def read(several: Sequence[Spells], ages: NDArray[np.intp], question: Question) -> list[Reading]:
    """What each life table says of a spell that has reached its age of ``ages``."""
    reached, ended = tables(several)
    pool = np.array(question.pool) if len(question.pool) == AGES else UNKNOWN
    over, held_s = life(reached, ended, pool)
    columns = promise(over, held_s, ages), chance(over, ages, question.within_s), known(reached)
    return [Reading(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def with_spells(several: Sequence[Spells], seconds: Floats) -> list[Spells]:
    """Each of ``several`` with one more ended spell, of as many ``seconds``."""
    if not several:
        return []
    reached, ended = tables(several)
    last = age_of(seconds)
    remember(reached, ended, np.arange(len(last)), seconds)
    # Only what a spell has passed through is brought up to date; the rest is coarse already.
    return [
        Spells(
            _coarse(now_reached[:passed]) + before.reached[passed:AGES],
            _coarse(now_ended[:passed]) + before.ended[passed:AGES],
        )
        for before, now_reached, now_ended, passed in zip(
            several, reached.tolist(), ended.tolist(), (last + 1).tolist(), strict=True
        )
    ]


def spells_of(reached: Floats, ended: Floats) -> Spells:
    """The life table of one model from rows of AGES, without the ages it has never reached."""
    ages = int(np.count_nonzero(reached))
    return Spells(_coarse(reached[:ages].tolist()), _coarse(ended[:ages].tolist()))


def succeeded(before: Spells, since: Spells) -> Spells:
    """The table of the spells of both, those of ``since`` being the later ones."""
    (reached, ended), (now_reached, now_ended) = before.rows, since.rows
    # Each spell since has left this much of those before, at the ages that it passed through.
    left = np.clip(1 - (1 - _KEPT) * now_reached, 0, 1)
    return spells_of(reached * left + now_reached, ended * left + now_ended)


def _coarse(counts: Iterable[float]) -> tuple[float, ...]:
    """Three digits, more than such a count means."""
    return tuple([float(f"{count:.3g}") for count in counts])


def age_of(seconds: Floats) -> NDArray[np.intp]:
    """The index of the age that each of ``seconds`` lies in."""
    # Tables often have few rows, for which np.clip and its like take longest.
    return np.minimum(np.maximum(EDGES_S.searchsorted(seconds, side="right") - 1, 0), AGES - 1)


def remember(reached: Floats, ended: Floats, models: NDArray[np.intp], seconds: Floats) -> None:
    """Takes ended spells into the tables, in place.

    reached, ended: (n, AGES). models: (k,), rows, each at most once. seconds: (k,).
    """
    last = age_of(seconds)
    passed = np.arange(AGES) <= last[:, None]
    reached[models] = np.where(passed, reached[models] * _KEPT + 1, reached[models])
    ended[models] = np.where(passed, ended[models] * _KEPT, ended[models])
    ended[models, last] += 1


def turn(reached: Floats, ended: Floats) -> NDArray[np.intp]:
    """(n,) the age at which the spells of each end, of those that come at regular times; -1 for
    the others.

    reached, ended: (n, AGES).
    """
    top = ended.argmax(axis=1)
    share = ended[np.arange(len(top)), top] >= _REGULAR_SHARE * ended.sum(axis=1)
    is_regular = (reached[:, 0] >= _REMEMBERED) & (top > 0) & share
    return np.where(is_regular, top, -1)


def pooled(reached: Floats, ended: Floats) -> Floats:
    """(AGES,) the chance that a spell ends at each age, over all models; for `life`.

    reached, ended: (n, AGES).
    """
    chances: Floats = (ended.sum(axis=0) + _SURMISE) / (reached.sum(axis=0) + 1)
    return chances


UNKNOWN: Floats = np.full(AGES, _SURMISE)
"""What `pooled` says before the first spell."""


def life(reached: Floats, ended: Floats, pool: Floats) -> tuple[Floats, Floats]:
    """(n, AGES + 1) twice: the share of spells over by each edge, and the mean seconds that a
    spell has lasted by then."""
    ends = (ended + _POOLED * pool) / (reached + _POOLED + _LOST)
    lasting = np.ones((len(ends), AGES + 1))
    np.cumprod(1 - ends, axis=1, out=lasting[:, 1:])
    held_s = np.zeros((len(ends), AGES + 1))
    np.cumsum(_WIDTHS_S * (lasting[:, 1:] + lasting[:, :-1]) / 2, axis=1, out=held_s[:, 1:])
    return 1 - lasting, held_s


def promise(over: Floats, held_s: Floats, age: NDArray[np.intp]) -> Floats:
    """(n,) requests per second of keeping it, if it is kept for the best while from now on.

    over, held_s: rows of `life`. age: (n,), of the spell that each is in. The best while is
    the one with the most chance of a request for the time it is kept: for a timer, until
    shortly after its next turn, however far that is.
    """
    at = np.arange(len(age)), age
    hits = over - over[at][:, None]
    seconds = held_s - held_s[at][:, None]
    # Ages that are past, and those that no spell reaches, promise nothing.
    per_s = hits / np.where(seconds > 0, seconds, np.inf)
    best: Floats = np.maximum.reduce(per_s, axis=1)
    return best


def chance(over: Floats, age: NDArray[np.intp], within_s: float) -> Floats:
    """(n,) the chance of a request within ``within_s``, for spells that have reached ``age``."""
    each = np.arange(len(age))
    lasted = 1 - over[each, age]
    until = EDGES_S[age] + within_s
    edge = age_of(until)
    part = np.minimum((until - EDGES_S[edge]) / _WIDTHS_S[edge], 1)
    low, high = over[each, edge], over[each, edge + 1]
    ending = low + part * (high - low) - (1 - lasted)
    sure: Floats = np.minimum(np.maximum(ending / np.maximum(lasted, 1e-12), 0.0), 1.0)
    return sure


def known(reached: Floats) -> Floats:
    """(n,) how far its own spells bear out what a life table says of a model, from 0 to 1."""
    spells = reached[:, 0]
    share: Floats = spells / (spells + _TELLING)
    return share


def faded(rates: Floats, since_s: Floats, windows_s: Floats) -> Floats:
    """(n, w) exponential averages ``rates`` over ``windows_s`` (w,), ``since_s`` (n,) later."""
    later: Floats = rates * np.exp(-since_s[:, None] / windows_s)
    return later


def visit_rate(rates: Floats, age_s: Floats, windows_s: Floats) -> Floats:
    """(n,) visits per second of late.

    rates: (n, 4), exponential averages over ``windows_s`` (4,) as of the latest visit, which
    was ``age_s`` (n,) ago.
    """
    # Summed row by row: a matrix product may round a row by the company it is in.
    rate: Floats = (faded(rates, age_s, windows_s) * _WINDOW_SHARES).sum(axis=1)
    return rate


def keep_rate(promised: Floats, visits: Floats) -> Floats:
    """(n,) what keeping a model earns per second, in loads that are saved.

    The life table knows when, the rate of visits how often; each errs where the other does
    not, and a geometric mean of both ranks models better than either.
    """
    earned: Floats = promised**_TIMELY * visits ** (1 - _TIMELY)
    return earned
