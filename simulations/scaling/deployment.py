"""The Deployment: as many pods as it is told to have, and who leaves where there are too many.

Owns what Deployment and ReplicaSet controllers, scheduler and kubelet do, with the delays of each
new pod. Refuses to know why there should be so many, and what pods serve.

A pod is Ready once its containers have started, and Triton has loaded the models that the policy
pins always: readiness probes ask for those. It leaves in a drain: no request is sent there any
more, those inside are finished, or lost when the grace period ends.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from policies.policy import Policy
from simulations.pod.agenda import Agenda
from simulations.pod.spec import PodSpec
from simulations.scaling.replica import Replica, Requests
from simulations.scaling.traffic import Traffic

# A Deployment's maxSurge and maxUnavailable, unless its manifest says otherwise.
_SURGE = _UNAVAILABLE = 0.25
# How often a probe looks whether a pod is Ready, and the kubelet whether it is drained.
_PROBE_S = 1.0


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """replicas: that there are in the beginning, Ready.

    pull_s: from a pod's creation until it runs: scheduling, and pulling the image. start_s: from
        there until Triton answers. jitter: sigma of the log-normal factor of both, drawn for each
        pod. grace_s: how long a pod that leaves may take.
    """

    replicas: int = 2
    pull_s: float = 20.0
    start_s: float = 15.0
    jitter: float = 0.1
    grace_s: float = 60.0


@dataclass(slots=True)
class Deployment:
    """wanted: replicas that it is told to have. gone: hears what became of a pod's requests.

    present: pods that are not gone, in order of creation.
    """

    spec: DeploymentSpec
    traffic: Traffic
    policy: Policy
    pod: PodSpec
    agenda: Agenda
    random: np.random.Generator
    gone: Callable[[Requests], None]
    wanted: int = 0
    revision: int = 0
    present: list[Replica] = field(default_factory=list)
    left: list[Replica] = field(default_factory=list)
    _created: int = 0

    def __post_init__(self) -> None:
        self.wanted = self.spec.replicas
        for _ in range(self.wanted):
            replica = self._made(0.0)
            replica.run(0.0, resident=self.pinned)
            replica.ready_s = 0.0

    @property
    def pinned(self) -> tuple[str, ...]:
        """What a pod loads before it is Ready."""
        policy, names = self.policy, self.traffic.names
        return tuple(name for name in names if policy.wishes(name).pin is True)

    @property
    def active(self) -> list[Replica]:
        return [replica for replica in self.present if not replica.is_leaving]

    @property
    def ready(self) -> list[Replica]:
        return [replica for replica in self.present if replica.is_ready]

    # What others ask of it.

    def scale(self, wanted: int, now_s: float) -> None:
        self.wanted = wanted
        self.reconcile(now_s)

    def roll_out(self, now_s: float) -> None:
        """Replaces every pod by one of a new revision, as fast as surge and availability allow."""
        self.revision += 1
        self.reconcile(now_s)

    def reconcile(self, now_s: float) -> None:
        old = [replica for replica in self.active if replica.revision < self.revision]
        new = [replica for replica in self.active if replica.revision == self.revision]
        missing = self.wanted - len(new)
        if old:
            surge = math.ceil(_SURGE * self.wanted)
            missing = min(missing, self.wanted + surge - len(old) - len(new))
        new.extend([self._begun(now_s) for _ in range(missing)])
        if missing < 0:
            self._remove(new, self.wanted, now_s)
        if old and self._remove_old(old, new, now_s):
            # There is room for another new one now.
            self.reconcile(now_s)

    def until(self, now_s: float) -> None:
        for replica in self.present:
            replica.until(now_s)

    def finish(self, now_s: float) -> None:
        for replica in list(self.present):
            self._gone(replica, now_s)

    # Pods that come.

    def _made(self, now_s: float) -> Replica:
        number, self._created = self._created, self._created + 1
        seed = int(self.random.integers(2**31))
        replica = Replica(
            f"pod-{number}", self.revision, now_s, self.traffic, self.policy, self.pod, seed
        )
        self.present.append(replica)
        return replica

    def _begun(self, now_s: float) -> Replica:
        replica = self._made(now_s)
        pull_s, start_s = self._drawn(self.spec.pull_s), self._drawn(self.spec.start_s)

        def runs(at_s: float) -> None:
            if not replica.is_leaving:
                replica.run(at_s)
                self.agenda.at(at_s + start_s, probe)

        def probe(at_s: float) -> None:
            if replica.is_leaving:
                return
            replica.until(at_s)
            if replica.serves(self.pinned):
                replica.ready_s = at_s
                self.reconcile(at_s)
            else:
                self.agenda.at(at_s + _PROBE_S, probe)

        self.agenda.at(now_s + pull_s, runs)
        return replica

    def _drawn(self, median_s: float) -> float:
        return median_s * float(np.exp(self.spec.jitter * self.random.standard_normal()))

    # Pods that go.

    def _remove_old(self, old: list[Replica], new: list[Replica], now_s: float) -> bool:
        """Of a revision that is being replaced, as many as leave enough that are Ready; whether
        there were any."""
        least = self.wanted - math.floor(_UNAVAILABLE * self.wanted)
        starting = sum(not replica.is_ready for replica in new)
        spare = len(old) + len(new) - least - starting
        unready = sum(not replica.is_ready for replica in old)
        # Those that serve nobody go first, and cost no availability.
        going = min(len(old), max(spare, unready))
        self._remove(old, len(old) - going, now_s)
        return going > 0

    def _remove(self, replicas: Iterable[Replica], keep: int, now_s: float) -> None:
        ordered = sorted(replicas, key=_cheapest)
        for replica in ordered[: max(0, len(ordered) - keep)]:
            self._drain(replica, now_s)

    def _drain(self, replica: Replica, now_s: float) -> None:
        replica.leaving_s = now_s

        def look(at_s: float) -> None:
            replica.until(at_s)
            if replica.is_empty(at_s) or at_s >= now_s + self.spec.grace_s:
                self._gone(replica, at_s)
            else:
                self.agenda.at(at_s + _PROBE_S, look)

        self.agenda.at(now_s, look)

    def _gone(self, replica: Replica, now_s: float) -> None:
        self.gone(replica.finish(now_s))
        self.present.remove(replica)
        self.left.append(replica)


def _cheapest(replica: Replica) -> tuple[bool, bool, int, float, float, str]:
    """The order in which a ReplicaSet removes pods: that do not run, that are not Ready, of the
    least deletion cost, Ready for the shortest time, and youngest. A real one takes those of about
    one age as equal, and then by chance."""
    ready_s = replica.ready_s
    return (
        replica.running_s is not None,
        ready_s is not None,
        replica.cost or 0,
        -(ready_s or 0.0),
        -replica.created_s,
        replica.name,
    )
