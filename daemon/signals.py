"""What the sidecar tells the fleet service of its pod: `/v1/signals`.

Owns the names and their meaning. Everything is as of the latest tick; what is unknown is null.
"""

from typing import Any

from daemon.telemetry import Latest
from policies.demand import absence_s
from policies.memory import Ledger, footprint
from policies.pressure import Pressure
from policies.snapshot import ModelState
from policies.units import Units

VERSION = 1


def signals(latest: Latest, pressure: Pressure) -> dict[str, Any]:
    """JSON-able; durations in seconds, memory in bytes, load in pods."""
    snapshot, policy = latest.snapshot, latest.policy
    units = Units(policy, snapshot.models)
    accounts = Ledger(policy, snapshot, units).accounts
    pinned = _pinned_bytes(latest, units)
    budgets = {name: account.budget for name, account in accounts.items()}
    known = [budget for budget in budgets.values() if budget is not None]
    return {
        "version": VERSION,
        "at_s": snapshot.now_s,
        "reachable": snapshot.reachable,
        "load": pressure.load,
        "compute": pressure.compute,
        "device": pressure.device,
        "memory": pressure.memory,
        "queue_boost": pressure.queue_boost,
        "advice": pressure.advice.value,
        "budget_bytes": sum(known) if known else None,
        "pinned_bytes": sum(pinned.values()),
        "pins_fit": all(
            budget is None or pinned.get(name, 0) <= budget for name, budget in budgets.items()
        ),
        "models": _models(latest, pressure),
    }


def _models(latest: Latest, pressure: Pressure) -> dict[str, Any]:
    """The models that are resident, or asked for of late."""
    snapshot = latest.snapshot
    return {
        name: {
            "resident": model.state is ModelState.READY,
            "load": pressure.by_model.get(name, 0.0),
            "absence_s": round(absence_s(model, snapshot.unload_s), 3),
        }
        for name, model in sorted(snapshot.models.items())
        if model.state is ModelState.READY or name in pressure.by_model
    }


def _pinned_bytes(latest: Latest, units: Units) -> dict[str, int]:
    """What the models that are pinned now take on each device, with all that they need."""
    models, now_s = latest.snapshot.models, latest.snapshot.now_s
    roots = [name for name in models if latest.policy.wishes(name).pinned_at(now_s)]
    pinned: dict[str, int] = {}
    for name in sorted({member for root in roots for member in units.members(root)}):
        model = models.get(name)
        for device, amount in (footprint(model) if model else {}).items():
            pinned[device] = pinned.get(device, 0) + amount
    return pinned
