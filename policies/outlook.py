"""What each model's past promises, in one batch: the forecast read from a history.

Owns the way from what is remembered to the arrays of `policies.forecast`, and back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies import forecast
from policies.forecast import Question, Reading, Spells
from policies.history import NOTHING, History, ModelHistory
from policies.policy import Policy

POOLED_EVERY_S = 60.0
"""What all models have in common changes slowly, and is drawn from them anew this often."""


class Outlook(NamedTuple):
    """What a model's past says of its next request.

    keep_rate: loads saved per second of keeping it. chance: of a request within the horizon.
    known: how far its own spells bear that out, from 0 to 1.
    """

    keep_rate: float
    chance: float
    known: float


NO_OUTLOOK = Outlook(0.0, 0.0, 0.0)


@np.errstate(all="ignore")
def outlooks(
    policy: Policy, history: History, names: Sequence[str], now_s: float
) -> dict[str, Outlook]:
    """The outlook of each of ``names``; nothing is foreseen of those that were never used."""
    found = dict.fromkeys(names, NO_OUTLOOK)
    pasts = {
        name: past
        for name in names
        if (past := history.models.get(name, NOTHING)).last_use_s is not None
    }
    if not pasts:
        return found
    age_s = _since([past.last_use_s for past in pasts.values()], now_s)
    visited_s = _since([past.visited_at_s for past in pasts.values()], now_s)
    question = Question(policy.horizon_s, history.pool)
    told = np.array(
        _readings([past.spells for past in pasts.values()], forecast.age_of(age_s), question)
    )
    rates = np.array([past.visit_rates for past in pasts.values()])
    visits = forecast.visit_rate(rates, visited_s, np.array(policy.demand.visit_windows_s))
    told[:, 0] = forecast.keep_rate(told[:, 0], visits)
    # Odd input foresees nothing.
    rows = np.nan_to_num(told, posinf=0, neginf=0).tolist()
    return found | dict(zip(pasts, map(Outlook._make, rows), strict=True))


def _readings(
    spells: Sequence[Spells], ages: NDArray[np.intp], question: Question
) -> list[Reading]:
    """What each of ``spells`` says; those that have not been asked it are read together."""
    found = [each.recall(age, question) for each, age in zip(spells, ages.tolist(), strict=True)]
    unread = [position for position, reading in enumerate(found) if reading is None]
    if unread:
        read = forecast.read([spells[position] for position in unread], ages[unread], question)
        for position, reading in zip(unread, read, strict=True):
            spells[position].keep(int(ages[position]), question, reading)
            found[position] = reading
    return [reading for reading in found if reading is not None]


@np.errstate(all="ignore")
def with_visits(policy: Policy, pasts: Sequence[ModelHistory], now_s: float) -> list[ModelHistory]:
    """Each of ``pasts`` after a request at ``now_s``, which may begin a visit; `last_use_s` is
    the one before it."""
    begun = [
        position
        for position, past in enumerate(pasts)
        if past.visited_at_s is None or not now_s - past.visited_at_s < forecast.VISIT_S
    ]
    found = list(pasts)
    if not begun:
        return found
    before = [pasts[position] for position in begun]
    rates, spells = _visit_rates(policy, before, now_s), _with_spells(before, now_s)
    for position, past, rate, each in zip(begun, before, rates, spells, strict=True):
        found[position] = replace(past, visited_at_s=now_s, visit_rates=rate, spells=each)
    return found


def _visit_rates(
    policy: Policy, before: Sequence[ModelHistory], now_s: float
) -> Iterator[tuple[float, float, float, float]]:
    windows_s = np.array(policy.demand.visit_windows_s)
    since_s = _since([past.visited_at_s for past in before], now_s)
    rates = np.array([past.visit_rates for past in before])
    rates = forecast.faded(rates, since_s, windows_s) + 1 / windows_s
    for row in rates.tolist():
        minutes, hour, day, week = (float(f"{rate:.6g}") for rate in row)
        yield minutes, hour, day, week


def _with_spells(before: Sequence[ModelHistory], now_s: float) -> Iterator[Spells]:
    """The life table of each, with the spell that ends now; a first request ends none."""
    idle = [past for past in before if past.last_use_s is not None]
    seconds = _since([past.last_use_s for past in idle], now_s)
    longer = iter(forecast.with_spells([past.spells for past in idle], seconds))
    for past in before:
        yield past.spells if past.last_use_s is None else next(longer)


@np.errstate(all="ignore")
def with_pool(history: History) -> History:
    """``history`` with what its models have in common, where that has not been drawn of late."""
    now_s = history.at_s
    if now_s is None or 0 <= now_s - (history.pooled_at_s or -POOLED_EVERY_S) < POOLED_EVERY_S:
        return history
    spells = [past.spells for _, past in sorted(history.models.items()) if past.spells.reached]
    if not spells:
        return history
    pool = forecast.pooled(*forecast.tables(spells))
    return replace(history, pooled_at_s=now_s, pool=tuple(float(f"{share:.4g}") for share in pool))


def _since(times_s: Sequence[float | None], now_s: float) -> forecast.Floats:
    """(n,) seconds since each; none since what has never been, and since what is yet to come."""
    ages_s: forecast.Floats = np.fmax(
        0.0, [0.0 if at_s is None else now_s - at_s for at_s in times_s]
    )
    return ages_s
