"""The scaler that knows the future: the fewest pods that attain the objective on the same traffic.

It knows the rate at every moment, and how long a pod takes until it is Ready. At each moment it
wants the pods that the work to come within that time needs, or the memory of all models where it
is spread over pods, when each is filled to one and the same share; no window, tolerance or rate
of change holds it back, and what is no longer needed leaves at once. The share is found by trial:
the highest of hundredths, by bisection, at which the whole run, with the same draws and the same
routing, attains the objective. So it sees what queues do to waits, and not which request comes
when; a scaler that saw even that could do with less.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from policies.memory import Ledger
from policies.snapshot import Device, Snapshot
from policies.units import Units
from simulations.scaling.deployment import Deployment
from simulations.scaling.outcome import Outcome
from simulations.scaling.routing import RoutingName
from simulations.scaling.run import SYNC_S, Setting, simulate
from simulations.scaling.signals import CLAIRVOYANT, Unheard

_LEAST_SHARE, _MOST_SHARE = 10, 100
# Beyond the jitter of start-ups.
_SIGMAS = 2.0


@dataclass(slots=True)
class Plan:
    """wants: replicas for each sync, the first at zero."""

    wants: NDArray[np.int64]
    every_s: float | None = None

    def feed(self, deployment: Deployment, unheard: Unheard, now_s: float) -> None:
        raise AssertionError("who knows the future is told nothing")

    def wanted(self, deployment: Deployment, is_heard: bool, now_s: float) -> int:
        return int(self.wants[min(round(now_s / SYNC_S), len(self.wants) - 1)])


def clairvoyant(setting: Setting, attainment: float) -> Outcome:
    """The run with the fewest pods that attains the objective, or comes nearest to it."""
    best = None
    low, high = _LEAST_SHARE, _MOST_SHARE
    while low <= high:
        share = (low + high) // 2
        wants = _wants(setting, share / 100)
        # It has begun with what it needs, where others begin with what the scenario says.
        begun = replace(setting.deployment, replicas=int(wants[0]))
        foresees = replace(setting, deployment=begun)
        found = simulate(foresees, Plan(wants), CLAIRVOYANT, share / 100)
        if found.attainment >= attainment:
            best, low = found, share + 1
        else:
            high = share - 1
            best = best or (found if share == _LEAST_SHARE else None)
    assert best is not None, "the bisection tries its lower end"
    return best


def _wants(setting: Setting, share: float) -> NDArray[np.int64]:
    offered = np.maximum(setting.traffic.offered(SYNC_S), _held(setting))
    needed = np.ceil(offered / share - 1e-9).astype(np.int64)
    needed = np.clip(needed, setting.limits.minimum, setting.limits.maximum)
    ahead = math.ceil(lead_s(setting) / SYNC_S) + 1
    padded = np.concatenate([needed, np.full(ahead, needed[-1])])
    windows = np.lib.stride_tricks.sliding_window_view(padded, ahead + 1)
    most: NDArray[np.int64] = windows.max(axis=1)
    return most


def _held(setting: Setting) -> float:
    """What all models need of pods' memory, in pods, where a router sends each to few pods. Where
    every pod must hold them all, more pods hold no more."""
    if setting.routing is not RoutingName.BY_MODEL:
        return 0.0
    spec, policy = setting.pod, setting.policy
    device = Device(spec.device_id, spec.device_bytes)
    snapshot = Snapshot(spec.epoch_s, devices={device.id: device})
    budget = Ledger(policy, snapshot, Units(policy, {})).accounts[device.id].budget
    sizes = (profile.size_bytes for profile in setting.traffic.catalogue.values())
    return sum(sizes) / budget if budget else 0.0


def lead_s(setting: Setting) -> float:
    """How long before a pod is needed it must be asked for."""
    spec, policy = setting.deployment, setting.policy
    delays_s = (spec.pull_s + spec.start_s) * math.exp(_SIGMAS * spec.jitter)
    loads_s = sum(
        setting.traffic.catalogue[name].load_s
        for name in setting.traffic.names
        if policy.wishes(name).pin is True
    )
    return delays_s + loads_s
