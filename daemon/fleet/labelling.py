"""The writer's duty to keep the labels true that name each pod's resident models.

Owns when labels are written: only by who holds the Lease, all changes of a pod in one patch, a
few pods a second over the whole fleet, what has gone before what has come. Which labels a pod
should have is `policies.labels`'s.

Nothing changes on silence alone. A pod that is not heard keeps its labels for a while, and keeps
them altogether where no pod of its Deployment is heard, since then it is likelier that we are deaf
than that all of them died. Every replica watches for how long residents have stood, so that the
next writer need not begin anew.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from daemon.fleet.cluster import MERGE_PATCH, Cluster, ClusterError
from daemon.fleet.lease import Lease
from daemon.fleet.samples import Key, Pod, Samples, Signals
from daemon.fleet.telemetry import Telemetry
from daemon.fleet.trouble import Trouble
from policies.labels import PREFIX, VALUE, label_of, labels

_BETWEEN_S = 0.2
# New labels of one pod are gathered for so long; the watch brings what was written well before.
_AGAIN_AFTER_S = 10.0
# A pod that could not be written to is left alone for so long.
_FAILED_AGAIN_S = 60.0
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
# A look at a thousand pods must not keep the HPA waiting.
_PODS_AT_ONCE = 20


@dataclass(slots=True)
class _Seen:
    """
    since_s: when each resident without a label was first seen to be one.
    beyond: how many residents are more than may have a label.
    """

    uid: str
    heard_s: float
    since_s: Mapping[str, float] = field(default_factory=dict)
    beyond: int = 0


@dataclass(frozen=True, slots=True)
class _Written:
    at_s: float
    labels_before: Mapping[str, str]
    is_refused: bool = False


@dataclass(slots=True)
class Labelling:
    """
    interval_s: between two looks.
    most: labels of one pod at most; 0 takes away those that are there.
    settle_s: for so long a model has been resident before it gets its label.
    forget_s: for so long a pod that is not heard keeps its labels.
    """

    cluster: Cluster
    samples: Samples
    lease: Lease
    telemetry: Telemetry
    interval_s: float
    most: int
    settle_s: float
    forget_s: float
    between_s: float = _BETWEEN_S
    now_s: Callable[[], float] = time.monotonic
    _seen: dict[Key, _Seen] = field(default_factory=dict)
    _written: dict[Key, _Written] = field(default_factory=dict)
    _failures: int = 0
    _paused_until_s: float = 0.0
    _trouble: Trouble = field(default_factory=lambda: Trouble("cannot label a pod"))

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            await asyncio.gather(self.step(), asyncio.sleep(self.interval_s))

    async def step(self) -> None:
        changes = await self._changes()
        began_s = self.now_s()
        for pod, change in changes:
            now_s = self.now_s()
            # What was seen before so many writes may be otherwise by now.
            if now_s - began_s >= self.interval_s or now_s < self._paused_until_s:
                return
            if not self.lease.is_held():
                return
            await self._write(pod, change)
            await asyncio.sleep(self.between_s)

    async def _changes(self) -> list[tuple[Pod, dict[str, str | None]]]:
        """What is to be written now: first where something has gone, first who waits longest."""
        pods = self.samples.all_pods()
        heard = {_group(pod) for pod in pods if self.samples.signals(pod.key) is not None}
        changes = []
        for number, pod in enumerate(pods):
            if number % _PODS_AT_ONCE == 0:
                await asyncio.sleep(0)
            signals = self.samples.signals(pod.key)
            found = _ours(pod.labels)
            wanted = self._wanted(pod, found, signals, _group(pod) in heard)
            change = {} if wanted is None else _change(found, wanted)
            if change and not self._is_early(pod, change):
                changes.append((pod, change))
        here = {pod.key for pod in pods}
        for remembered in (self._seen, self._written):
            for key in remembered.keys() - here:
                del remembered[key]
        self.telemetry.unlabelled.set(sum(seen.beyond for seen in self._seen.values()))
        return sorted(changes, key=lambda each: self._turn(*each))

    def _wanted(
        self, pod: Pod, found: Mapping[str, str], signals: Signals | None, is_group_heard: bool
    ) -> frozenset[str] | None:
        """None is what it has."""
        if not self.most:
            return frozenset()
        now_s = self.now_s()
        seen = self._seen.get(pod.key)
        if seen is None or seen.uid != pod.uid:
            seen = self._seen[pod.key] = _Seen(pod.uid, now_s)
        if signals is None:
            is_forgotten = is_group_heard and now_s - seen.heard_s >= self.forget_s
            return frozenset() if is_forgotten else None
        loads = {name: model.load for name, model in signals.models.items() if model.resident}
        seen.heard_s = now_s
        seen.beyond = max(0, len(loads) - self.most)
        seen.since_s = {
            name: seen.since_s.get(name, now_s) for name in loads if label_of(name) not in found
        }
        young = {name for name, at_s in seen.since_s.items() if now_s - at_s < self.settle_s}
        return labels(loads, young, found, self.most)

    def _is_early(self, pod: Pod, change: Mapping[str, str | None]) -> bool:
        written = self._written.get(pod.key)
        if written is None:
            return False
        passed_s = self.now_s() - written.at_s
        if written.is_refused:
            return passed_s < _FAILED_AGAIN_S
        is_unseen = written.labels_before == _ours(pod.labels)
        only_adds = None not in change.values()
        return (is_unseen or only_adds) and passed_s < _AGAIN_AFTER_S

    def _turn(self, pod: Pod, change: Mapping[str, str | None]) -> tuple[bool, float, Key]:
        written = self._written.get(pod.key)
        return None not in change.values(), written.at_s if written else -1.0, pod.key

    async def _write(self, pod: Pod, change: Mapping[str, str | None]) -> None:
        # With its uid, so that another pod of the same name is not taken for this one.
        metadata = {"uid": pod.uid, "labels": change}
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        is_refused = False
        try:
            await self.cluster.call(
                "PATCH", path, body={"metadata": metadata}, content_type=MERGE_PATCH
            )
        except ClusterError as error:
            # Gone, or another pod by now: there is nothing to write any more.
            is_gone = error.status in (404, 409)
            self.telemetry.label_patches.labels("gone" if is_gone else "failed").inc()
            is_refused = not is_gone
            if is_refused:
                self._failed(error)
        else:
            self.telemetry.label_patches.labels("written").inc()
            self._failures = 0
            self._trouble.ended()
        self._written[pod.key] = _Written(self.now_s(), _ours(pod.labels), is_refused)

    def _failed(self, error: ClusterError) -> None:
        """A server that has too much to do, or refuses us everything, is not asked on and on."""
        self._trouble.began(error)
        pause_s = min(_FIRST_PAUSE_S * 2.0**self._failures, _LONGEST_PAUSE_S)
        self._paused_until_s = self.now_s() + pause_s
        self._failures += 1


def _group(pod: Pod) -> tuple[str, str | None]:
    return pod.namespace, pod.deployment


def _ours(found: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in found.items() if key.startswith(PREFIX)}


def _change(found: Mapping[str, str], wanted: frozenset[str]) -> dict[str, str | None]:
    """What a merge patch says; None removes."""
    change: dict[str, str | None] = dict.fromkeys(sorted(found.keys() - wanted))
    return change | {key: VALUE for key in sorted(wanted) if found.get(key) != VALUE}
