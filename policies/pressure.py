"""How much work is offered to this pod, in pods: `pressure()`.

A HorizontalPodAutoscaler multiplies: it sets replicas x load / target. So the load has to be
linear in what is offered, and to fall as one over the replicas. Three things can be full, and the
fullest counts:

    compute   requests per second as they come x seconds that each keeps an instance busy
              / instances; above 1 when they come faster than they can finish
    device    the GPU's utilisation / its target; it cannot rise above 1 / target
    memory    what the models that are asked for too often to be swapped take / the budget

Requests that spend more time in Triton's queue than the policy allows raise the load by a bounded
factor, and to no more than 1: a queue says that a pod is full, and not how much would be enough.

Memory counts only where a router sends each model to few pods. Where every pod gets requests for
every model, one more pod needs the same memory as all others, and scaling on it would never end.

Unknown is None, and never the 0 of a pod that nobody asks for anything.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from policies.demand import absence_s, is_wanted
from policies.history import NOTHING, History
from policies.memory import Ledger, footprint
from policies.policy import Policy, Routing
from policies.snapshot import HOST, ModelState, Snapshot
from policies.units import Units
from policies.work import rates

# So many requests within the window make a queue worth believing.
_BELIEVED = 5.0
# Work this small is what remains of an average.
_NOTHING = 1e-4


class Advice(StrEnum):
    """What would help."""

    UNKNOWN = "unknown"
    IDLE = "idle"
    ENOUGH = "enough"
    SWAP = "swap-here"
    ADD = "add-a-pod"


@dataclass(frozen=True, slots=True)
class Pressure:
    """The offered work in pods, as a whole and by what it fills; None where it is unknown.

    queue_boost: the factor, at least 1, that ``load`` contains.
    by_model: the compute of each model that was asked of late and whose cost is known.
    """

    load: float | None = None
    compute: float | None = None
    device: float | None = None
    memory: float | None = None
    queue_boost: float | None = None
    advice: Advice = Advice.UNKNOWN
    by_model: Mapping[str, float] = field(default_factory=dict)


def pressure(policy: Policy, snapshot: Snapshot, history: History) -> Pressure:
    """The pressure as of ``snapshot``, which ``history`` has taken in already."""
    if not snapshot.reachable or not _is_measured(policy, snapshot, history):
        return Pressure()
    by_model = dict(_offered(policy, snapshot, history))
    compute = max(by_model.values(), default=_no_compute(policy, snapshot, history))
    device = _device(policy, snapshot, history)
    memory = _memory(policy, snapshot, history)
    boost = _queue_boost(policy, snapshot, history)
    counted = [compute, device]
    if policy.scaling.routing is Routing.BY_MODEL:
        counted.append(memory)
    known = [each for each in counted if each is not None]
    load = None
    if compute is not None:
        bare = max(known)
        load = max(bare, min(1.0, bare * boost))
        boost = load / bare if bare > 0 else 1.0
    advice = _advice(policy, snapshot, history, load)
    return Pressure(load, compute, device, memory, boost, advice, by_model)


def _is_measured(policy: Policy, snapshot: Snapshot, history: History) -> bool:
    """Whether averages have had time to become what they are, and are fed still."""
    window_s = policy.scaling.window_s
    began_s, metered_s = history.began_s, history.metered_at_s
    if began_s is None or metered_s is None:
        return False
    return snapshot.now_s - began_s >= window_s / 3 and snapshot.now_s - metered_s <= window_s


def _offered(policy: Policy, snapshot: Snapshot, history: History) -> Iterator[tuple[str, float]]:
    """The compute of each model that was asked of late, by name."""
    for name, past in sorted(history.models.items()):
        model, work = snapshot.models.get(name), past.work
        if model is None or model.steps or work.service_s is None:
            continue
        rate, _ = rates(policy, work, snapshot.now_s)
        share = rate * work.service_s / max(1, model.instances or 1)
        if share >= _NOTHING and math.isfinite(share):
            yield name, float(f"{share:.4g}")


def _no_compute(policy: Policy, snapshot: Snapshot, history: History) -> float | None:
    """0 when nobody asks for anything; None when somebody does, and the cost is not known."""
    window_s = policy.scaling.window_s
    for name, past in history.models.items():
        model = snapshot.models.get(name)
        if model is None or model.steps or past.work.service_s is not None:
            continue
        rate, _ = rates(policy, past.work, snapshot.now_s)
        if rate * window_s >= _NOTHING:
            return None
    return 0.0


def _device(policy: Policy, snapshot: Snapshot, history: History) -> float | None:
    """The fullest GPU that tells. The host is shared with others: its use says nothing of us."""
    target = policy.scaling.device_target
    used = [
        history.utilisation.get(name, 0.0)
        for name, device in snapshot.devices.items()
        if name != HOST and device.utilisation is not None
    ]
    return max(used) / target if used and target is not None else None


def _memory(policy: Policy, snapshot: Snapshot, history: History) -> float | None:
    """What must not leave, over the budget of its device; the fullest device.

    A model is as hot as it is likely to be asked for before the seconds of its absence would be
    `swap_share` of the time that it was away: what is hotter cannot be swapped in its turn.
    """
    units = Units(policy, snapshot.models)
    hot: dict[str, float] = {}
    for name, past in history.models.items():
        model = snapshot.models.get(name)
        if model is not None:
            rate, _ = rates(policy, past.work, snapshot.now_s)
            away_s = absence_s(model, snapshot.unload_s) / policy.scaling.swap_share
            share = -math.expm1(-rate * away_s)
            for member in units.members(name):
                hot[member] = max(hot.get(member, 0.0), share)
    for name in snapshot.models:
        if policy.wishes(name).pinned_at(snapshot.now_s):
            hot |= dict.fromkeys(units.members(name), 1.0)
    return _fullest(policy, snapshot, units, hot)


def _fullest(
    policy: Policy, snapshot: Snapshot, units: Units, hot: Mapping[str, float]
) -> float | None:
    taken: dict[str, float] = {}
    for name, share in sorted(hot.items()):
        model = snapshot.models.get(name)
        for device, amount in (footprint(model) if model else {}).items():
            taken[device] = taken.get(device, 0.0) + share * amount
    accounts = Ledger(policy, snapshot, units).accounts
    shares = [
        taken.get(device, 0.0) / account.budget
        for device, account in accounts.items()
        if account.budget
    ]
    return float(f"{max(shares):.4g}") if shares else None


def _queue_boost(policy: Policy, snapshot: Snapshot, history: History) -> float:
    """From 1, where no model's requests queue for longer than they may, to 1 + `boost`, where
    one's queue for twice as long."""
    scaling, longest = policy.scaling, 0.0
    for name, past in history.models.items():
        rate, queued = rates(policy, past.work, snapshot.now_s)
        if queued > 0 and rate * scaling.window_s >= _BELIEVED and name in snapshot.models:
            longest = max(longest, queued / rate)
    beyond = min(1.0, max(0.0, longest / scaling.queue_slo_s - 1))
    return 1 + scaling.boost * float(f"{beyond:.3g}")


def _advice(policy: Policy, snapshot: Snapshot, history: History, load: float | None) -> Advice:
    """Above 1 a pod is missing. Below it, who is wanted and absent finds room by a swap."""
    if load is None:
        return Advice.UNKNOWN
    if load > 1:
        return Advice.ADD
    for name, model in snapshot.models.items():
        past = history.models.get(name, NOTHING)
        if model.state is ModelState.UNLOADED and is_wanted(policy, model, past, snapshot.now_s):
            return Advice.SWAP
    return Advice.IDLE if load == 0 else Advice.ENOUGH
