"""When a tick needs no whole plan, because the plan is known to do nothing.

Owns that argument. It rests on what a plan looks at: when no absent model is called for, the
production plan can only take in what residents were asked for and who waits for a load under way,
unless time itself makes it act (idle unloads, weekly windows, regular turns, failures to be
forgiven, copies that the fleet can spare). So after a plan that found nothing to do and nothing to
hold, ticks only take in demand, by the production `advance`, until the next regular turn of an
absent model or the next copy to spare, or until something else happens: an absent model is asked
for, a load or an unload ends, anything fails, the gauge of used memory moves, or what is known of
the fleet.

A policy with a knob that is not listed here may act on time alone, so for it every tick is
planned in full, until somebody has thought about that knob.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from policies.demand import advance, is_busy, turn_s
from policies.history import History, ModelHistory
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
    # Of who asks, and not of plans; nobody outside counts for an imagined pod.
    "prometheus": frozenset({"query", "label", "window", "history"}),
    "residency": frozenset({"minimum", "cooldown", "idle_unload", "hysteresis"}),
    "churn": frozenset({"evictions", "window"}),
    "loads": frozenset({"concurrent", "timeout", "peak_factor", "forgive", "backoff"}),
    "unloads": frozenset({"drain", "stuck"}),
    "versions": frozenset({"roll_in", "settle"}),
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
    "scaling": frozenset(),
    "fleet": frozenset({"hand_over", "let_go"}),
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


def at_rest_until_s(policy: Policy, snapshot: Snapshot, history: History) -> float:
    """Before which moment time alone changes nothing, after a plan that found nothing to do.

    At any moment it may while something leaves, or a resident has failures to be forgiven. Else
    it does when an absent model has to load for its next turn, or a resident has been of no use for
    long enough. A turn that began before the plan
    was none to load for, or the plan would have said so, and does not become one.
    """
    until_s = math.inf
    if history.leaving:
        return -math.inf
    for name, past in history.models.items():
        if past.resident_since_s is not None:
            if past.failures:
                return -math.inf
            until_s = min(until_s, _let_go_s(policy, snapshot, name, past))
        elif policy.prewarm and name in snapshot.models:
            turn = turn_s(snapshot.models[name], past, snapshot.unload_s)
            if turn is not None and turn[0] > snapshot.now_s:
                until_s = min(until_s, turn[0])
    return until_s


def _let_go_s(policy: Policy, snapshot: Snapshot, name: str, past: ModelHistory) -> float:
    """When a resident has been unused for so long that the fleet may spare it; infinity when that
    is no matter of time. What was so at the plan, and did not leave, is none either."""
    model, let_go_s = snapshot.models.get(name), policy.fleet.let_go_s
    if model is None or model.copies is None or let_go_s is None or not policy.routes_by_model:
        return math.inf
    since_s = past.resident_since_s or 0.0
    used_s = since_s if past.last_use_s is None else past.last_use_s
    at_s = max(
        since_s + max(let_go_s, policy.minimum_s(name)),
        used_s + max(let_go_s, policy.demand.fast_s),
    )
    return at_s if at_s > snapshot.now_s else math.inf


def taken_in(
    policy: Policy, snapshot: Snapshot, changed: Mapping[str, Model], history: History
) -> History:
    """What `advance` makes of ``history`` with the ``changed`` models in ``snapshot``.

    The records of the others, and of residents that nobody uses, stay the same objects. Where
    nothing changed, time still does: what all models have in common is drawn anew every so often.
    """
    told = {
        name: model
        for name, model in changed.items()
        if model.arrivals > 0 or model.served > 0 or model.waiting or is_busy(model)
    }
    known = {name: history.models[name] for name in told if name in history.models}
    part = advance(policy, replace(snapshot, models=told), replace(history, models=known))
    # What all models have in common is drawn from all of them, and not from the part.
    whole = replace(part, models={**history.models, **part.models})
    return with_pool(replace(whole, pool=history.pool, pooled_at_s=history.pooled_at_s))
