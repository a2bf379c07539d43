"""What each model's past promises, in one batch: the forecast read from a history.

Owns the way from what is remembered to the arrays of `policies.forecast`, and back.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from policies import forecast
from policies.forecast import Spells
from policies.history import NOTHING, History, ModelHistory
from policies.policy import Policy

POOLED_EVERY_S = 60.0
"""What all models have in common changes slowly, and is drawn from them anew this often."""


@dataclass(frozen=True, slots=True)
class Outlook:
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
    pasts = {name: history.models.get(name, NOTHING) for name in names}
    used = [name for name, past in pasts.items() if past.last_use_s is not None]
    found = dict.fromkeys(names, NO_OUTLOOK)
    if not used:
        return found
    reached, ended = _tables(pasts[name].spells for name in used)
    over, held_s = forecast.life(reached, ended, _pool(history))
    age_s = np.array([_since(pasts[name].last_use_s, now_s) for name in used])
    visited_s = np.array([_since(pasts[name].visited_at_s, now_s) for name in used])
    rates = np.array([pasts[name].visit_rates for name in used])
    age = forecast.age_of(age_s)
    promised = forecast.promise(over, held_s, age)
    visits = forecast.visit_rate(rates, visited_s, np.array(policy.demand.visit_windows_s))
    kept = forecast.keep_rate(promised, visits)
    chances = forecast.chance(over, age, policy.horizon_s)
    known = forecast.known(reached)
    # Odd input foresees nothing.
    rows = np.nan_to_num(np.stack([kept, chances, known], axis=1), posinf=0, neginf=0).tolist()
    return found | {name: Outlook(*row) for name, row in zip(used, rows, strict=True)}


@np.errstate(all="ignore")
def with_visit(policy: Policy, past: ModelHistory, now_s: float) -> ModelHistory:
    """``past`` after a request at ``now_s``, which may begin a visit; `last_use_s` is the one
    before it."""
    if past.visited_at_s is not None and now_s - past.visited_at_s < forecast.VISIT_S:
        return past
    windows_s = np.array(policy.demand.visit_windows_s)
    fading = np.exp(-_since(past.visited_at_s, now_s) / windows_s)
    rates = np.array(past.visit_rates) * fading + 1 / windows_s
    spells = past.spells
    if past.last_use_s is not None:
        spells = spells.with_spell(_since(past.last_use_s, now_s))
    fast, slow, slowest = (float(f"{rate:.6g}") for rate in rates)
    return replace(past, visited_at_s=now_s, visit_rates=(fast, slow, slowest), spells=spells)


@np.errstate(all="ignore")
def with_pool(history: History) -> History:
    """``history`` with what its models have in common, where that has not been drawn of late."""
    now_s = history.at_s
    if now_s is None or 0 <= now_s - (history.pooled_at_s or -POOLED_EVERY_S) < POOLED_EVERY_S:
        return history
    spells = [past.spells for _, past in sorted(history.models.items()) if past.spells.reached]
    if not spells:
        return history
    pool = forecast.pooled(*_tables(spells))
    return replace(history, pooled_at_s=now_s, pool=tuple(float(f"{share:.4g}") for share in pool))


def _tables(spells: Iterable[Spells]) -> tuple[forecast.Floats, forecast.Floats]:
    rows = [each.rows for each in spells]
    return np.stack([reached for reached, _ in rows]), np.stack([ended for _, ended in rows])


def _pool(history: History) -> forecast.Floats:
    return np.array(history.pool) if len(history.pool) == forecast.AGES else forecast.UNKNOWN


def _since(at_s: float | None, now_s: float) -> float:
    return max(0.0, now_s - at_s) if at_s is not None else 0.0
