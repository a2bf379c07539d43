"""What a pod that has just started is told of the past: requests that others have counted.

Owns the way from counts in stretches of time to the records that seeing the requests would have
left, by what learns live (`policies.forecast`), and how they join what was learned here since.
Refuses to know who counted: a model's history is the same whoever has seen it.

A count says how many requests came in a stretch, and not when. They are spread evenly, so that
timers stay regular. But a model that comes by chance, about once in a stretch, would seem to come
at regular times too. So where one stretch follows another and their counts differ, the gaps are
those of chance, by a fixed sequence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from policies import forecast
from policies.demand import rates
from policies.forecast import Floats
from policies.history import NOTHING, History, ModelHistory
from policies.policy import Policy

_MOST_VISITS = 12
"""Spells that one stretch teaches of a model; a minute has no more visits than that."""
_STEADY = 2
"""After so many stretches with as many requests as the one before, a model comes steadily."""
_GOLDEN = (5**0.5 - 1) / 2
_SPREAD = 0.7548776662466927


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests by model and stretch; arrays of one length, in no order.

    model: index into ``names``. from_s: where the stretch begins. length_s: how long it is.
    requests: above 0. Stretches of one model do not overlap.
    """

    names: Sequence[str]
    model: NDArray[np.intp]
    from_s: Floats
    length_s: Floats
    requests: Floats

    def __len__(self) -> int:
        return len(self.model)

    def chosen(self, which: NDArray[np.intp] | slice) -> "Counts":
        return Counts(
            self.names,
            self.model[which],
            self.from_s[which],
            self.length_s[which],
            self.requests[which],
        )


class _Tables:
    """What is learned of each model, as arrays."""

    def __init__(self, policy: Policy, models: int) -> None:
        self.windows_s = np.array(policy.demand.visit_windows_s)
        self.rate_windows_s = np.array([policy.demand.fast_s, policy.demand.slow_s])
        self.reached = np.zeros((models, forecast.AGES))
        self.ended = np.zeros((models, forecast.AGES))
        self.visit_rates = np.zeros((models, len(self.windows_s)))
        self.rates = np.zeros((models, len(self.rate_windows_s)))
        self.uses = np.zeros(models)
        # The latest moment taken in, the latest request, and when the latest visit began.
        self.rated_s = np.full(models, -np.inf)
        self.used_s = np.full(models, -np.inf)
        self.visited_s = np.full(models, -np.inf)
        # Of the latest stretch of each: its end, its requests, and how many before had as many.
        self.until_s = np.full(models, -np.inf)
        self.latest = np.zeros(models)
        self.alike = np.zeros(models)
        # How many gaps have been drawn.
        self.drawn = np.zeros(models)

    def take(
        self, models: NDArray[np.intp], time_s: Floats, requests: Floats, until_s: Floats
    ) -> None:
        """``requests`` of each of ``models`` from ``time_s`` on, the last before ``until_s``."""
        share_s = np.maximum(0.0, until_s - time_s)
        is_visit = time_s - self.visited_s[models] >= forecast.VISIT_S
        idle_s = np.maximum(0.0, time_s - self.used_s[models])
        known = is_visit & np.isfinite(idle_s)
        forecast.remember(self.reached, self.ended, models[known], idle_s[known])
        # So many visits as requests and time allow.
        visits = np.where(is_visit, np.clip(share_s / forecast.VISIT_S, 1, requests), 0.0)
        since_s = np.maximum(0.0, time_s - self.rated_s[models])
        self.visit_rates[models] = (
            forecast.faded(self.visit_rates[models], since_s, self.windows_s)
            + visits[:, None] / self.windows_s
        )
        self.rates[models] = (
            forecast.faded(self.rates[models], since_s, self.rate_windows_s)
            + requests[:, None] / self.rate_windows_s
        )
        self.uses[models] += requests
        self.rated_s[models] = time_s
        self.visited_s[models] = np.where(is_visit, time_s, self.visited_s[models])
        self.used_s[models] = time_s + share_s * (1 - 1 / np.maximum(1.0, requests))

    def is_steady(self, models: NDArray[np.intp], stretch: Counts) -> NDArray[np.bool_]:
        """(k,) whether each stands alone after a pause, or comes as often as in the two before."""
        requests = np.rint(stretch.requests)
        follows = np.abs(stretch.from_s - self.until_s[models]) < 1e-3 * stretch.length_s
        again = follows & (requests == self.latest[models])
        self.alike[models] = np.where(again, self.alike[models] + 1, 0)
        self.latest[models] = requests
        self.until_s[models] = stretch.from_s + stretch.length_s
        steady: NDArray[np.bool_] = ~follows | (self.alike[models] >= _STEADY)
        return steady

    def gaps(self, models: NDArray[np.intp], number: int) -> Floats:
        """(k, number) gaps between requests that come by chance, of mean 1: the quantiles of an
        exponential distribution, in an order that does not repeat itself."""
        nth = self.drawn[models][:, None] + np.arange(1, number + 1)
        self.drawn[models] += number
        shares = (models[:, None] * _SPREAD + nth * _GOLDEN) % 1.0
        found: Floats = -np.log1p(-shares)
        return found


@np.errstate(all="ignore")
def remembered(policy: Policy, counts: Counts) -> dict[str, ModelHistory]:
    """The record of each model as of its latest request, had a pod seen what ``counts`` tells."""
    tables = _Tables(policy, len(counts.names))
    ordered = counts.chosen(np.lexsort((counts.model, counts.from_s)))
    begins = np.flatnonzero(np.diff(ordered.from_s, prepend=-np.inf) > 0).tolist()
    for begin, end in pairwise([*begins, len(ordered)]):
        _take_stretch(tables, ordered.chosen(slice(begin, end)))
    return {
        name: _record(tables, row)
        for row, name in enumerate(counts.names)
        if np.isfinite(tables.used_s[row])
    }


def _take_stretch(tables: _Tables, stretch: Counts) -> None:
    models, length_s, requests = stretch.model, stretch.length_s, stretch.requests
    visits = np.clip(np.rint(requests), 1, np.maximum(1, length_s / forecast.VISIT_S))
    visits = np.minimum(np.floor(visits), _MOST_VISITS)
    places = _places(tables, stretch, visits)
    for nth in range(places.shape[1]):
        which = (visits > nth).nonzero()[0]
        at_s = stretch.from_s[which] + places[which, nth] * length_s[which]
        each, end_s = visits[which], stretch.from_s[which] + length_s[which]
        until_s = np.minimum(at_s + length_s[which] / each, end_s)
        tables.take(models[which], at_s, requests[which] / each, until_s)


def _places(tables: _Tables, stretch: Counts, visits: Floats) -> Floats:
    """(k, most visits) where in its stretch each visit is, from 0 to 1; only so many of a row
    count."""
    most = int(visits.max(initial=0))
    nth = np.arange(most)
    even = (nth + 0.5) / visits[:, None]
    gaps = tables.gaps(stretch.model, most + 1)
    gaps[np.arange(most + 1) > visits[:, None]] = 0.0
    by_chance = gaps.cumsum(axis=1)[:, :most] / gaps.sum(axis=1, keepdims=True)
    steady = tables.is_steady(stretch.model, stretch)
    return np.where(steady[:, None], even, by_chance)


def _record(tables: _Tables, row: int) -> ModelHistory:
    fast, slow = (_rounded(rate) for rate in tables.rates[row].tolist())
    minutes, hour, day, week = (_rounded(rate) for rate in tables.visit_rates[row].tolist())
    return ModelHistory(
        fast_rate=fast,
        slow_rate=slow,
        rate_at_s=float(tables.rated_s[row]),
        uses=_rounded(tables.uses[row]),
        last_use_s=float(tables.used_s[row]),
        # Rates of visits fade from this moment on.
        visited_at_s=float(tables.rated_s[row]),
        visit_rates=(minutes, hour, day, week),
        spells=forecast.spells_of(tables.reached[row], tables.ended[row]),
    )


def _rounded(number: float) -> float:
    return float(f"{number:.6g}")


def seeded(policy: Policy, history: History, before: Mapping[str, ModelHistory]) -> History:
    """``history`` with what ``before`` knows of the time before it; both may know a model.

    before: of `remembered`, from counts that end before ``history`` began.
    """
    if not before:
        return history
    joined = {
        name: _joined(policy, past, history.models.get(name, NOTHING))
        for name, past in before.items()
    }
    # What all models have in common is drawn anew by the next plan.
    return replace(history, models={**history.models, **joined}, pooled_at_s=None)


@np.errstate(all="ignore")
def _joined(policy: Policy, before: ModelHistory, since: ModelHistory) -> ModelHistory:
    """Sums of what fades, each as of the later moment; the spell between the two, of which only
    one end is known, teaches nothing."""
    if since.last_use_s is None or since.rate_at_s is None or since.visited_at_s is None:
        return replace(
            since,
            fast_rate=before.fast_rate,
            slow_rate=before.slow_rate,
            rate_at_s=before.rate_at_s,
            uses=since.uses + before.uses,
            last_use_s=before.last_use_s,
            visited_at_s=before.visited_at_s,
            visit_rates=before.visit_rates,
            spells=before.spells,
        )
    fast, slow = rates(policy, before, since.rate_at_s)
    away_s = max(0.0, since.visited_at_s - (before.visited_at_s or 0.0))
    faded = forecast.faded(
        np.array([before.visit_rates]),
        np.array([away_s]),
        np.array(policy.demand.visit_windows_s),
    )
    visits = faded[0] + np.array(since.visit_rates)
    minutes, hour, day, week = (_rounded(rate) for rate in visits.tolist())
    return replace(
        since,
        fast_rate=_rounded(since.fast_rate + fast),
        slow_rate=_rounded(since.slow_rate + slow),
        uses=since.uses + before.uses,
        visit_rates=(minutes, hour, day, week),
        spells=forecast.succeeded(before.spells, since.spells),
    )
