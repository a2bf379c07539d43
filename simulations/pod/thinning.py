"""When a tick needs no whole plan, because the plan is known to do nothing.

Owns that argument. It rests on what a plan looks at: when no absent model is called for, the
production plan can only take in what residents were asked for and who waits for a load under way,
unless time itself makes it act (idle unloads, weekly windows, regular turns, failures to be
forgiven). So after a plan that found nothing to do and nothing to hold, ticks only take in demand,
by the production `advance`, until something else happens: an absent model is asked for, a load or
an unload ends, anything fails, or the gauge of used memory moves.

A policy with a knob that is not listed here may act on time alone, so for it every tick is
planned in full, until somebody has thought about that knob.
"""

from collections.abc import Mapping
from dataclasses import replace

from policies.demand import advance, is_busy
from policies.history import History
from policies.outlook import with_pool
from policies.policy import Policy
from policies.snapshot import Model, Snapshot

_THOUGHT_ABOUT: Mapping[str, frozenset[str]] = {
    "preset": frozenset(),
    "mode": frozenset(),
    "tick": frozenset(),
    "budget": frozenset(),
    "headroom": frozenset(),
    "devices": frozenset(),
    "restart_above": frozenset(),
    "ranking": frozenset(),
    "horizon": frozenset(),
    "prewarm": frozenset(),
    "demand": frozenset({"fast", "slow", "want"}),
    "residency": frozenset({"minimum", "cooldown", "idle_unload", "hysteresis"}),
    "churn": frozenset({"evictions", "window"}),
    "loads": frozenset({"concurrent", "timeout", "peak_factor", "forgive", "backoff"}),
    "unloads": frozenset({"drain", "stuck"}),
    "front_door": frozenset(
        {
            "wait",
            "patience",
            "waiters",
            "waiters_per_model",
            "held",
            "retry_wait",
            "lease",
            "access_sample",
        }
    ),
    "footprints": frozenset({"file_factor", "assume"}),
    "models": frozenset(),
}


def may_thin(policy: Policy) -> bool:
    """Whether a plan by ``policy`` that found nothing to do finds nothing until something
    happens."""
    if policy.residency.idle_unload_s is not None:
        return False
    for wishes in policy.models.values():
        if wishes.idle_unload_s is not None or isinstance(wishes.pin, tuple) or wishes.calls:
            return False
    for key, value in policy.model_dump(by_alias=True).items():
        if key not in _THOUGHT_ABOUT:
            return False
        inner = _THOUGHT_ABOUT[key]
        if inner and not value.keys() <= inner:
            return False
    return True


def is_at_rest(policy: Policy, history: History) -> bool:
    """Whether time alone changes nothing in it: no resident has failures to be forgiven, and no
    absent model a next turn to be loaded for."""
    return not history.leaving and not any(
        past.failures
        if past.resident_since_s is not None
        else policy.prewarm and past.spells.turn_s is not None
        for past in history.models.values()
    )


def taken_in(
    policy: Policy, snapshot: Snapshot, changed: Mapping[str, Model], history: History
) -> History:
    """What `advance` makes of ``history`` with the ``changed`` models in ``snapshot``.

    The records of the others, and of residents that nobody uses, stay the same objects.
    """
    told = {
        name: model
        for name, model in changed.items()
        if model.arrivals > 0 or model.waiting or is_busy(model)
    }
    known = {name: history.models[name] for name in told if name in history.models}
    part = advance(policy, replace(snapshot, models=told), replace(history, models=known))
    # What all models have in common is drawn from all of them, and not from the part.
    whole = replace(part, models={**history.models, **part.models})
    return with_pool(replace(whole, pool=history.pool, pooled_at_s=history.pooled_at_s))
