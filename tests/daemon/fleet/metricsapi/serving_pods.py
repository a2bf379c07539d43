"""Pods and what their sidecars said, as tests of the metrics APIs need them."""

from collections.abc import Mapping
from typing import Any

from daemon.fleet.samples import Pod, Samples, Signals

NAMESPACE = "models"
MEASURED_AT_S = 1_764_000_000.0


def pod(name: str, **changes: Any) -> Pod:
    told: dict[str, Any] = {
        "namespace": NAMESPACE,
        "name": name,
        "uid": f"uid-{name}",
        "labels": {"app": "triton"},
        "ip": "10.0.0.1",
        "port": 9400,
        "deployment": "triton",
        "is_leaving": False,
        "phase": "Running",
        "deletion_cost": None,
    }
    return Pod(**(told | changes))


def signals(load: float | None, **changes: Any) -> Signals:
    told: dict[str, Any] = {
        "at_s": 1.0,
        "reachable": True,
        "load": load,
        "compute": load,
        "device": load,
        "memory": load,
        "queue_boost": 1.0,
        "advice": "enough",
        "budget_bytes": 100,
        "pinned_bytes": 0,
        "pins_fit": True,
        "models": {},
    }
    return Signals(**(told | changes))


def samples_of(told: Mapping[str, Signals | None], *others: Pod) -> Samples:
    """One pod by each name, with what it said; its load is served as it said it.

    others: pods with properties of their own; those that `told` names too are said it by.
    """
    samples = Samples(30.0, monotonic_s=lambda: 0.0, wall_s=lambda: MEASURED_AT_S)
    pods = {name: pod(name) for name in told} | {each.name: each for each in others}
    for name, each in pods.items():
        samples.put_pod(each)
        if said := told.get(name):
            samples.put_signals(each, said)
    loads = ((pods[name].key, said.load) for name, said in told.items() if said)
    samples.serve({key: load for key, load in loads if load is not None})
    return samples
