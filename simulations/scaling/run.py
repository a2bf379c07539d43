"""The closed loop: traffic, a router, pods, a signal, and an autoscaler that changes their number.

Owns the order of things on the fleet's clock: what arrives before an event is routed before it.
Every decision in a pod is the production plan's, what it tells of itself is the production
pressure, and what is made of that is the production `steadied` (`simulations.scaling.signals`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np

from policies.policy import Policy
from simulations.pod.agenda import Agenda
from simulations.pod.spec import PodSpec
from simulations.scaling.deployment import Deployment, DeploymentSpec
from simulations.scaling.hpa import HPA, Behavior, HPASpec
from simulations.scaling.outcome import Lifetime, Outcome, sorted_waits
from simulations.scaling.replica import Requests
from simulations.scaling.replicas import Answer, Observed
from simulations.scaling.routing import Router, RoutingName, picked, router
from simulations.scaling.signals import Signal, Unheard, answer, metric
from simulations.scaling.traffic import Traffic

# The controller looks so often.
SYNC_S = 15.0


class OutageKind(StrEnum):
    """no-answer: the metrics API answers no HPA, whatever the metric. cut-off: no pod can be asked
    for anything. deaf-pod: the sidecar of the oldest pod does not answer, its Triton does."""

    NO_ANSWER = "no-answer"
    CUT_OFF = "cut-off"
    DEAF_POD = "deaf-pod"


@dataclass(frozen=True, slots=True)
class Outage:
    """In [from_s, to_s)."""

    kind: OutageKind
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What the HPA's manifest says beside its metric."""

    minimum: int = 2
    maximum: int = 20
    behavior: Behavior | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """All but who scales.

    slo_s: how long a request may wait beyond its own execution. rollouts_s: when a new revision is
    rolled out.
    """

    traffic: Traffic
    policy: Policy
    pod: PodSpec
    deployment: DeploymentSpec = field(default_factory=DeploymentSpec)
    limits: Limits = field(default_factory=Limits)
    routing: RoutingName = RoutingName.RANDOM
    slo_s: float = 0.25
    rollouts_s: Sequence[float] = ()
    outages: Sequence[Outage] = ()
    seed: int = 0

    def during(self, kind: OutageKind, now_s: float) -> bool:
        return any(each.kind is kind and each.from_s <= now_s < each.to_s for each in self.outages)


class Scaler(Protocol):
    @property
    def every_s(self) -> float | None:
        """How often it is fed; None is never."""

    def feed(self, deployment: Deployment, unheard: Unheard, now_s: float) -> None: ...

    def wanted(self, deployment: Deployment, is_heard: bool, now_s: float) -> int:
        """How many replicas there should be; ``is_heard``: the metrics API answers."""


@dataclass(slots=True)
class Autoscaler:
    """A HorizontalPodAutoscaler that is told one signal."""

    signal: Signal
    limits: Limits
    _hpa: HPA = field(init=False)

    def __post_init__(self) -> None:
        limits = self.limits
        self._hpa = HPA(
            HPASpec(limits.maximum, (metric(self.signal),), limits.minimum, limits.behavior)
        )

    @property
    def every_s(self) -> float | None:
        return self.signal.every_s

    def feed(self, deployment: Deployment, unheard: Unheard, now_s: float) -> None:
        self.signal.feed(deployment.present, unheard, now_s)

    def wanted(self, deployment: Deployment, is_heard: bool, now_s: float) -> int:
        pods = deployment.present
        said: Answer = answer(self.signal.told(pods, now_s)) if is_heard else None
        # A Deployment's status counts pods that leave no more; the pod lister has them still.
        observed = Observed(
            deployment.wanted, len(deployment.active), [pod.status for pod in pods], (said,)
        )
        return self._hpa.step(now_s, observed).replicas


def simulate(setting: Setting, scaler: Scaler, name: str, target: float) -> Outcome:
    """What ``scaler`` makes of the setting; the same for the same arguments."""
    return _Run(setting, scaler).outcome(name, target)


@dataclass(slots=True)
class _Run:
    setting: Setting
    scaler: Scaler
    _agenda: Agenda = field(default_factory=Agenda)
    _deployment: Deployment = field(init=False)
    _router: Router = field(init=False)
    _requests: list[Requests] = field(default_factory=list)
    _wanted: list[tuple[float, int]] = field(default_factory=list)
    _deaf: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        setting = self.setting
        random = np.random.default_rng(setting.seed)
        self._router = router(setting.routing, setting.traffic.names, setting.seed)
        self._deployment = Deployment(
            setting.deployment,
            setting.traffic,
            setting.policy,
            setting.pod,
            self._agenda,
            random,
            self._requests.append,
        )
        self._wanted.append((0.0, self._deployment.wanted))
        if self.scaler.every_s is not None:
            self._agenda.at(self.scaler.every_s, self._feed)
        self._agenda.at(SYNC_S, self._sync)
        for at_s in setting.rollouts_s:
            self._agenda.at(at_s, self._deployment.roll_out)

    def outcome(self, name: str, target: float) -> Outcome:
        duration_s = self.setting.traffic.duration_s
        self._play(duration_s)
        self._deployment.until(duration_s)
        self._drain(duration_s)
        return Outcome(
            signal=name,
            target=target,
            duration_s=duration_s,
            slo_s=self.setting.slo_s,
            wait_s=sorted_waits(self._requests),
            wanted=tuple(self._wanted),
            lifetimes=tuple(
                Lifetime(each.created_s, min(duration_s, each.gone_s or duration_s))
                for each in self._deployment.left
            ),
        )

    def _play(self, duration_s: float) -> None:
        agenda, arrivals, done = self._agenda, self.setting.traffic.arrivals(), 0
        time_s = arrivals.time_s
        while done < len(time_s) or agenda.next_s < duration_s:
            until_s = min(agenda.next_s, duration_s)
            upto = int(np.searchsorted(time_s, until_s, side="left"))
            if until_s >= duration_s:
                upto = len(time_s)
            if upto > done:
                block = picked(arrivals, slice(done, upto))
                done = upto
                if ready := self._deployment.ready:
                    for replica, part in self._router.route(block, ready):
                        replica.take(part)
                else:
                    self._requests.append(Requests(block.time_s, np.full(len(block), np.inf)))
            if agenda.next_s < duration_s:
                agenda.do_next()

    def _drain(self, duration_s: float) -> None:
        """Requests that are inside when the traffic ends are waited for."""
        self._deployment.finish(duration_s + self.setting.deployment.grace_s)

    # What the fleet and the controller do.

    def _feed(self, now_s: float) -> None:
        self._deployment.until(now_s)
        self.scaler.feed(self._deployment, self._unheard(now_s), now_s)
        assert self.scaler.every_s is not None, "who is never fed asks for no meal"
        self._agenda.at(now_s + self.scaler.every_s, self._feed)

    def _unheard(self, now_s: float) -> Unheard:
        if not self.setting.during(OutageKind.DEAF_POD, now_s):
            self._deaf = frozenset()
        elif not self._deaf:
            self._deaf = frozenset(each.name for each in self._deployment.active[:1])
        return Unheard(self._deaf, self.setting.during(OutageKind.CUT_OFF, now_s))

    def _sync(self, now_s: float) -> None:
        self._deployment.until(now_s)
        is_heard = not self.setting.during(OutageKind.NO_ANSWER, now_s)
        wanted = self.scaler.wanted(self._deployment, is_heard, now_s)
        if wanted != self._deployment.wanted:
            self._wanted.append((now_s, wanted))
            self._deployment.scale(wanted, now_s)
        self._agenda.at(now_s + SYNC_S, self._sync)
