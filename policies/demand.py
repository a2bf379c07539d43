"""How much is coming: rates remembered between ticks, and what they promise.

Owns the taking in of a snapshot into the history (`advance`) and the reading of rates.
A rate is an exponential average of impulses: each request adds 1/window, and the sum
decays with the window, so nothing needs to be touched while nothing happens.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from policies.history import NOTHING, History, ModelHistory
from policies.memory import footprint
from policies.outlook import with_pool, with_visits
from policies.policy import Policy
from policies.snapshot import ErrorClass, Model, ModelState, Snapshot
from policies.work import Work, averaged, with_work

# A load nobody has timed yet: one second to start, then two gigabytes a second.
PRIOR_START_S = 1.0
PRIOR_BYTES_PER_S = 2e9
_LIKELY_INSIDE = 0.5


class _Use(NamedTuple):
    """What a record takes in when its model is used."""

    arrivals: float
    inflation: float
    work: Work


def advance(policy: Policy, snapshot: Snapshot, history: History) -> History:
    """The history after taking in ``snapshot``; records of quiet models stay the same objects.

    A snapshot taken while Triton was unreachable teaches nothing.
    """
    if not snapshot.reachable:
        return history
    now_s = snapshot.now_s
    changed = _changed(policy, snapshot, history)
    models = {
        name: past
        for name in snapshot.models
        if (past := changed.get(name) or history.models.get(name)) is not None
    }
    models |= {
        name: past
        for name, past in history.models.items()
        if name not in snapshot.models and _still_matters(policy, past, now_s)
    }
    earliest_s = now_s - policy.churn.window_s
    evictions_s = tuple(at_s for at_s in history.evictions_s if at_s > earliest_s)
    present = replace(history, at_s=now_s, models=models, evictions_s=evictions_s)
    return with_pool(_with_meters(policy, snapshot, present))


def _with_meters(policy: Policy, snapshot: Snapshot, history: History) -> History:
    """``history`` with what is told of the pod as a whole."""
    now_s, before_s = snapshot.now_s, history.metered_at_s
    used = {
        name: averaged(policy, history.utilisation.get(name, 0.0), share, now_s - before_s)
        for name, device in snapshot.devices.items()
        if (share := device.utilisation) is not None and before_s is not None
    }
    return replace(
        history,
        began_s=now_s if history.began_s is None else history.began_s,
        metered_at_s=now_s if snapshot.metered else before_s,
        utilisation={**history.utilisation, **used} if used else history.utilisation,
    )


def _changed(policy: Policy, snapshot: Snapshot, history: History) -> Mapping[str, ModelHistory]:
    """The records of those models that something may have happened to."""
    now_s, pasts = snapshot.now_s, history.models
    stirred = {
        name: model
        for name, model in snapshot.models.items()
        if not _is_quiet(model, pasts.get(name, NOTHING))
    }
    through = _arrivals_through_callers(policy, stirred)
    lent = _busy_through_callers(policy, stirred)
    changed: dict[str, ModelHistory] = {}
    used: dict[str, float] = {}
    works: dict[str, Work] = {}
    since_s = _metered_for_s(snapshot, history)
    for name, model in stirred.items():
        present = _with_state(policy, model, pasts.get(name, NOTHING), now_s)
        if since_s is not None and (model.arrivals > 0 or model.served > 0):
            here_s = _resident_s(present, now_s)
            works[name] = with_work(policy, model, present.work, here_s, now_s, since_s)
        if present.left_for is not None:
            stays = model.state is ModelState.READY and name not in history.leaving
            if stays or _has_come(snapshot, present.left_for):
                present = replace(present, left_for=None)
        arrivals = max(0.0, model.arrivals - through.get(name, 0.0))
        is_in_use = is_busy(model) and (name not in lent or model.leases > 0)
        if arrivals > 0 or model.waiting or is_in_use:
            used[name] = arrivals
        elif name in works:
            present = replace(present, work=works[name])
        if present is not NOTHING or name in used:
            changed[name] = present
    visited = with_visits(policy, [changed[name] for name in used], now_s)
    for (name, arrivals), past in zip(used.items(), visited, strict=True):
        work = works.get(name, past.work)
        use = _Use(arrivals, history.inflation, work)
        changed[name] = _with_use(policy, stirred[name], past, use, now_s)
    return changed


def _metered_for_s(snapshot: Snapshot, history: History) -> float | None:
    """Seconds that the counts of ``snapshot`` stand for; None where it has none."""
    if not snapshot.metered or history.metered_at_s is None:
        return None
    since_s = snapshot.now_s - history.metered_at_s
    return since_s if since_s > 0 else None


def _is_quiet(model: Model, past: ModelHistory) -> bool:
    """Nothing came, and nothing about it is other than ``past`` says already."""
    if (
        model.arrivals > 0
        or model.served > 0
        or model.waiting
        or model.failure is not None
        or model.revision != past.revision
        or past.left_for is not None
    ):
        return False
    if model.state is not ModelState.READY:
        has_left = model.state is not ModelState.UNLOADING or past.left_at_s is not None
        return past.resident_since_s is None and has_left
    is_used = model.in_flight or model.pending or model.leases
    changes = past.resident_since_s is None or past.restore or past.swapped or past.failures
    return not is_used and not changes


def rates(policy: Policy, past: ModelHistory, now_s: float) -> tuple[float, float]:
    """Requests per second over the fast and the slow window, as of ``now_s``."""
    if past.rate_at_s is None:
        return 0.0, 0.0
    age_s, demand = max(0.0, now_s - past.rate_at_s), policy.demand
    fast = past.fast_rate if past.fast_rate > 0 else 0.0
    slow = past.slow_rate if past.slow_rate > 0 else 0.0
    return fast * math.exp(-age_s / demand.fast_s), slow * math.exp(-age_s / demand.slow_s)


def expected_rate(model: Model) -> float:
    """Requests per second that are said to come to ``model`` here; 0 where nothing is known.

    What is said is of the whole fleet, so it counts only in the pod that routers send the model's
    requests to, or in a pod that knows of no others. Those that have come are part of it: it
    stands beside the rates that were counted here, and is never added to them.
    """
    rate = model.expected_rate
    is_sent_here = model.copies is None or model.copies.rank == 0
    return rate if rate is not None and is_sent_here and 0 < rate < math.inf else 0.0


def load_time_s(model: Model) -> float:
    """Expected seconds of one load: learned, else a prior that grows with the size."""
    if model.load_s is not None and math.isfinite(model.load_s) and model.load_s > 0:
        return model.load_s
    return PRIOR_START_S + sum(footprint(model).values()) / PRIOR_BYTES_PER_S


def absence_s(model: Model, unload_s: float | None) -> float:
    """Seconds that pass, were ``model`` absent, from a request until it could serve: another has
    to leave, which takes ``unload_s`` as far as that is known, and it has to load."""
    is_known = unload_s is not None and 0 <= unload_s < math.inf
    return load_time_s(model) + (unload_s if is_known and unload_s else 0.0)


def turn_s(model: Model, past: ModelHistory, unload_s: float | None) -> tuple[float, float] | None:
    """From when on it has to load for its next turn, and when that has passed; None for a model
    that does not come at regular times."""
    if past.last_use_s is None or past.spells.turn_s is None:
        return None
    from_age_s, to_age_s = past.spells.turn_s
    from_s = past.last_use_s + from_age_s - absence_s(model, unload_s)
    return from_s, past.last_use_s + to_age_s


def is_wanted(policy: Policy, model: Model, past: ModelHistory, now_s: float) -> bool:
    """Whether requests for an absent model call for it: some wait, or came of late."""
    if model.waiting > 0:
        return True
    if past.last_use_s is None or past.last_use_s + policy.demand.want_s < now_s:
        return False
    # Requests it has itself served before it left do not call it back.
    return past.left_at_s is None or past.last_use_s > past.left_at_s


def _arrivals_through_callers(policy: Policy, models: Mapping[str, Model]) -> Mapping[str, float]:
    """Requests that reached a member only because its ensemble or caller was asked."""
    through: dict[str, float] = {}
    # In the order of names: a sum of floats depends on its order.
    for name in sorted(name for name, model in models.items() if model.arrivals > 0):
        for member in dict.fromkeys((*models[name].steps, *policy.calls(name))):
            through[member] = through.get(member, 0.0) + models[name].arrivals
    return through


def _busy_through_callers(policy: Policy, models: Mapping[str, Model]) -> frozenset[str]:
    """Members that work for an ensemble or a caller; their requests are not their own."""
    return frozenset(
        member
        for name, model in models.items()
        if model.arrivals > 0 or is_busy(model)
        for member in (*model.steps, *policy.calls(name))
    )


def is_busy(model: Model) -> bool:
    """Requests are inside, or a stream is open; what a leaving model still finishes is no use.

    Requests that were counted are believed to the last one. An estimate is an average of
    requests that have ended, and so came among the arrivals already; its tail may fade for
    ever. It says that somebody is inside when it is nearer to one request than to none.
    """
    if model.state is not ModelState.READY:
        return False
    inside = model.in_flight or 0.0
    is_inside = inside > 0 if model.in_flight_counted else inside >= _LIKELY_INSIDE
    return is_inside or bool(model.pending) or model.leases > 0


def _with_use(
    policy: Policy,
    model: Model,
    past: ModelHistory,
    use: _Use,
    now_s: float,
) -> ModelHistory:
    arrivals = use.arrivals if math.isfinite(use.arrivals) else 0.0
    fast, slow = rates(policy, past, now_s)
    uses = past.uses + arrivals
    size = max(1, sum(footprint(model).values()))
    cost = policy.weight(model.name) * load_time_s(model)
    return past.used(
        now_s,
        fast_rate=_rounded(fast + arrivals / policy.demand.fast_s),
        slow_rate=_rounded(slow + arrivals / policy.demand.slow_s),
        uses=uses,
        credit=_rounded(use.inflation + uses * cost / size),
        work=use.work,
    )


def _rounded(number: float) -> float:
    """Six digits: more than anything here is known to, and half the journal's bytes."""
    return float(f"{number:.6g}")


def _with_state(policy: Policy, model: Model, past: ModelHistory, now_s: float) -> ModelHistory:
    present = past
    if model.revision is not None and model.revision != past.revision:
        # Changed files deserve a fresh chance; the first sight of them is no change.
        fresh = past.revision is not None
        present = replace(present, revision=model.revision)
        present = _forgiven(present) if fresh else present
    if model.state is ModelState.READY:
        if present.resident_since_s is None:
            present = replace(present, resident_since_s=now_s)
        if present.restore and not model.sick:
            present = replace(present, restore=False)
        if present.swapped and not model.draining:
            present = replace(present, swapped=False)
        if (
            present.failures
            and not model.sick
            # While it serves as it was before, its files as they are have not been forgiven.
            and model.outdated_since_s is None
            and not model.updating
            and _resident_s(present, now_s) >= policy.loads.forgive_s
        ):
            present = _forgiven(present)
    elif present.resident_since_s is not None:
        present = replace(
            present,
            resident_since_s=None,
            left_at_s=now_s,
            restore=present.restore or model.forgotten,
        )
    elif model.state is ModelState.UNLOADING and present.left_at_s is None:
        # It was READY between two looks only.
        present = replace(present, left_at_s=now_s)
    if model.failure and (present.failed_at_s is None or model.failure.at_s > present.failed_at_s):
        present = _with_failure(policy, model, present)
    return present


def _has_come(snapshot: Snapshot, name: str) -> bool:
    """Whether the model that another made room for is there, or will never be."""
    model = snapshot.models.get(name)
    return model is None or model.state is ModelState.READY


def _with_failure(policy: Policy, model: Model, past: ModelHistory) -> ModelHistory:
    failure = model.failure
    assert failure is not None
    # Triton's own absence is not the model's fault: it is waited out, not counted up.
    blameless = failure.error_class is ErrorClass.UNAVAILABLE
    failures = past.failures if blameless else past.failures + 1
    wait_s = policy.loads.backoff[failure.error_class].wait_s(max(1, failures))
    return replace(
        past,
        failures=failures,
        failed_at_s=failure.at_s,
        error_class=failure.error_class,
        retry_at_s=failure.at_s + wait_s,
    )


def _forgiven(past: ModelHistory) -> ModelHistory:
    return replace(past, failures=0, error_class=None, retry_at_s=None)


def _resident_s(past: ModelHistory, now_s: float) -> float:
    return 0.0 if past.resident_since_s is None else now_s - past.resident_since_s


def _still_matters(policy: Policy, past: ModelHistory, now_s: float) -> bool:
    """A model gone from the repository is remembered as long as its rates mean anything."""
    return past.last_use_s is not None and now_s - past.last_use_s < policy.demand.slow_s
