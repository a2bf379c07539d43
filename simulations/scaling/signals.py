"""What an HPA may be told of a Deployment: our load, and what others scale by.

Owns each signal's metric and how its value comes from what pods tell. Refuses to know what comes of
it. All are metrics of type Pods with a target average.

The rivals are computed as their users compute them, from Triton's counters, scraped every 15 s:

    queue-time      milliseconds in Triton's queue per request over 30 s, as in the k8s-onprem
                    example of the Triton repository
    queue-compute   time queued over time computed, over 30 s, as in NVIDIA's tutorial for
                    TensorRT-LLM
    in-flight       requests that are in the pod, waiting ones too, at the moment of the scrape
    busy            share of 60 s for which the model that is busiest kept its instances busy, as
                    utilisation of a GPU; it cannot rise above 1

Each rival has the best target of a sweep, that is the cheapest that attains the objective of the
scenarios `constant` and `step` (`remora scale --signals NAME@TARGET` repeats it): of 10, 25, 50,
100 and 200 ms (the k8s-onprem example aims at 50 microseconds); of ratios of 0.25, 0.5, 1, which
is the tutorial's, and 2; of 1, 1.5, 2 and 3 requests; of busy shares of 0.6, 0.65, 0.7, 0.75 and
0.8.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from policies.fleet import FleetHistory, steadied
from policies.policy import Policy
from policies.removal import deletion_costs
from simulations.scaling.replica import Replica
from simulations.scaling.replicas import Answer, Kind, Metric

OURS = "remora"
CLAIRVOYANT = "clairvoyant"
TARGETS: Mapping[str, float] = {
    OURS: 0.7,
    "queue-time": 50.0,
    "queue-compute": 1.0,
    "in-flight": 2.0,
    "busy": 0.7,
}
"""In pods, milliseconds, a ratio, requests, a share."""


@dataclass(frozen=True, slots=True)
class Unheard:
    """What does not answer: the sidecars of some pods, or nothing at all."""

    sidecars: Set[str] = frozenset()
    all: bool = False


# A pod's deletion cost is written at most so often.
_COSTS_EVERY_S = 60.0
# For how long Prometheus shows the latest sample of a series.
_LOOKBACK_S = 300.0


class Signal(Protocol):
    """every_s: how often it is fed. target: the average per pod that is aimed at."""

    every_s: float
    target: float

    def feed(self, replicas: Sequence[Replica], unheard: Unheard, now_s: float) -> None:
        """Collects from the pods that are not gone, which have done all that was due by now."""

    def told(self, replicas: Sequence[Replica], now_s: float) -> Mapping[str, float]:
        """The value of each pod that has one."""


def signal(name: str, policy: Policy, target: float | None = None) -> Signal:
    """The signal of this name, with its target in `TARGETS` unless another is given."""
    target = TARGETS[name] if target is None else target
    if name == OURS:
        return _Remora(policy, target)
    if name == "in-flight":
        return _InFlight(target)
    return _Rate(name, target, 60.0 if name == "busy" else 30.0)


def metric(signal: Signal) -> Metric:
    return Metric(Kind.PODS, math.ceil(signal.target * 1000))


def answer(told: Mapping[str, float]) -> Answer:
    """As the metrics API has it: thousandths, rounded up."""
    # What a float has beyond its ninth digit is no thousandth more.
    return {name: math.ceil(round(value * 1000, 6)) for name, value in told.items()}


def _running(replicas: Iterable[Replica]) -> list[Replica]:
    return [each for each in replicas if each.running_s is not None and not each.is_leaving]


@dataclass(slots=True)
class _Remora:
    """As the fleet service does it: every sidecar's load, steadied over the Deployment; and what
    the loss of each pod would cost, which a ReplicaSet heeds when it removes some.

    A sample that has become too old is dropped, and so is that of a pod that is gone.
    """

    policy: Policy
    target: float
    every_s: float = 5.0
    stale_s: float = 30.0
    _history: FleetHistory = field(default_factory=FleetHistory)
    _loads: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    _served: dict[str, float] = field(default_factory=dict)
    _costed_s: float = -math.inf

    def feed(self, replicas: Sequence[Replica], unheard: Unheard, now_s: float) -> None:
        running = _running(replicas)
        for replica in running:
            if not unheard.all and replica.name not in unheard.sidecars:
                self._loads[replica.name] = (now_s, replica.pressure().load)
        loads = {}
        for name in [replica.name for replica in running]:
            at_s, load = self._loads.get(name, (now_s, None))
            if load is not None and now_s - at_s <= self.stale_s:
                loads[name] = load
        self._served, self._history = steadied(self.policy, loads, self._history, now_s)
        if now_s - self._costed_s >= _COSTS_EVERY_S:
            self._costed_s = now_s
            _write_costs([each for each in running if each.name in loads])

    def told(self, replicas: Sequence[Replica], now_s: float) -> Mapping[str, float]:
        names = [replica.name for replica in _running(replicas)]
        return {name: self._served[name] for name in names if name in self._served}


def _write_costs(known: Sequence[Replica]) -> None:
    standings = {replica.name: replica.standing() for replica in known}
    costs = deletion_costs(standings, {replica.name: replica.cost for replica in known})
    for replica in known:
        replica.cost = costs[replica.name]


class _Scraped(NamedTuple):
    at_s: float
    served: float
    queue_s: float
    compute_s: float
    busy_s: Mapping[str, float]


@dataclass(slots=True)
class _Rate:
    """By how much counters have grown within ``window_s``, from one scrape to another."""

    name: str
    target: float
    window_s: float
    every_s: float = 15.0
    _scraped: dict[str, deque[_Scraped]] = field(default_factory=dict)

    def feed(self, replicas: Sequence[Replica], unheard: Unheard, now_s: float) -> None:
        for replica in [] if unheard.all else _running(replicas):
            found, counters = self._scraped.setdefault(replica.name, deque()), replica.counters
            found.append(
                _Scraped(
                    now_s,
                    counters.served,
                    counters.queue_s,
                    counters.compute_s,
                    dict(counters.busy_s),
                )
            )

    def told(self, replicas: Sequence[Replica], now_s: float) -> Mapping[str, float]:
        told = {}
        for replica in _running(replicas):
            found = self._scraped.get(replica.name, deque())
            while found and found[0].at_s < now_s - self.window_s:
                found.popleft()
            if len(found) >= 2:
                told[replica.name] = self._value(replica, found[0], found[-1])
        return told

    def _value(self, replica: Replica, first: _Scraped, last: _Scraped) -> float:
        queue_s = last.queue_s - first.queue_s
        if self.name == "queue-time":
            # The example divides by one request more, against division by zero.
            return 1000 * queue_s / (1 + last.served - first.served)
        if self.name == "queue-compute":
            compute_s = last.compute_s - first.compute_s
            return queue_s / compute_s if compute_s > 0 else 0.0
        shares = [
            (busy_s - first.busy_s.get(name, 0.0)) / replica.traffic.catalogue[name].instances
            for name, busy_s in last.busy_s.items()
        ]
        return min(1.0, max(shares, default=0.0) / (last.at_s - first.at_s))


@dataclass(slots=True)
class _InFlight:
    """A gauge, as it is when it is scraped."""

    target: float
    every_s: float = 15.0
    _scraped_s: float = 0.0
    _present: dict[str, float] = field(default_factory=dict)

    def feed(self, replicas: Sequence[Replica], unheard: Unheard, now_s: float) -> None:
        if not unheard.all:
            self._scraped_s = now_s
            self._present = {
                replica.name: float(replica.present(now_s)) for replica in _running(replicas)
            }

    def told(self, replicas: Sequence[Replica], now_s: float) -> Mapping[str, float]:
        if now_s - self._scraped_s > _LOOKBACK_S:
            return {}
        names = [replica.name for replica in _running(replicas)]
        return {name: self._present[name] for name in names if name in self._present}
