"""What the fleet knows of each pod: who counts, what its sidecar said last, what to serve.

Knows nothing of how pods are watched, how sidecars are asked, or who reads the answers. One
event loop writes and reads it, so nothing here waits and nothing needs a lock.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, TypeVar

from pydantic import Field

Key = tuple[str, str]
"""Namespace and name of a pod."""

Owner = tuple[str, str]
"""Namespace and name of a Deployment."""

K = TypeVar("K")

Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
"""What a sidecar may say: one that says something else is not believed at all."""

Bytes = Annotated[int, Field(ge=0, lt=2**63)]

_OVER = frozenset({"Failed", "Succeeded"})


@dataclass(frozen=True, slots=True)
class ModelSignal:
    """One model in one pod; `load` is in pods, `absence_s` what an absence of it would last."""

    resident: bool
    load: Amount
    absence_s: Amount


@dataclass(frozen=True, slots=True)
class Signals:
    """One answer of one sidecar. None is unknown, 0.0 is idle; `at_s` is by the pod's clock."""

    at_s: Amount
    reachable: bool
    load: Amount | None
    compute: Amount | None
    device: Amount | None
    memory: Amount | None
    queue_boost: Amount | None
    advice: str
    budget_bytes: Bytes | None
    pinned_bytes: Bytes
    pins_fit: bool
    models: Mapping[str, ModelSignal]


@dataclass(frozen=True, slots=True)
class Pod:
    """The little of a pod that we need; `deployment` is None where no Deployment owns it.

    deletion_cost: what its annotation says now; None without one.
    """

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    ip: str | None
    port: int
    deployment: str | None
    is_leaving: bool
    phase: str
    deletion_cost: int | None = None

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    @property
    def counts(self) -> bool:
        """Whether the HPA counts it too: not being deleted, not over."""
        return not self.is_leaving and self.phase not in _OVER


@dataclass(frozen=True, slots=True)
class _Sample:
    """models_load: of all its models together, summed once for all who ask."""

    signals: Signals
    models_load: float
    received_s: float
    received_at_s: float


class Samples:
    """Answers by pod; one older than `stale_s` by our own clock of receipt is unknown."""

    def __init__(
        self,
        stale_s: float,
        monotonic_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._stale_s = stale_s
        self._monotonic_s = monotonic_s
        self._wall_s = wall_s
        self._pods: dict[Key, Pod] = {}
        self._samples: dict[Key, _Sample] = {}
        self._served: dict[Key, float] = {}
        self._sorted: tuple[Pod, ...] | None = None
        self._by_namespace: dict[str, tuple[Pod, ...]] | None = None
        self._by_owner: dict[Owner, tuple[Pod, ...]] | None = None

    # --- what is read ---

    def pods(self, namespace: str) -> Sequence[Pod]:
        """Those that count, sorted by name."""
        if self._by_namespace is None:
            self._by_namespace = _grouped(self._counting(), attrgetter("namespace"))
        return self._by_namespace.get(namespace, ())

    def all_pods(self) -> Sequence[Pod]:
        """Those that count in every namespace, sorted by namespace and name."""
        return self._counting()

    def deployments(self) -> Mapping[Owner, Sequence[Pod]]:
        """The pods that count of each Deployment, sorted."""
        if self._by_owner is None:
            owned = [pod for pod in self._counting() if pod.deployment is not None]
            self._by_owner = _grouped(owned, attrgetter("namespace", "deployment"))
        return self._by_owner

    def signals(self, key: Key) -> Signals | None:
        """None is unknown: never answered, stale, being deleted, or Triton unreachable."""
        sample = self._sample(key)
        return sample.signals if sample and sample.signals.reachable else None

    def models_load(self, key: Key) -> float | None:
        """The load of all its models together; None is unknown."""
        sample = self._sample(key)
        known = sample is not None and sample.signals.reachable and sample.signals.load is not None
        return sample.models_load if sample and known else None

    def sampled_at_s(self, key: Key) -> float | None:
        """When its last answer that still holds came, by our wall clock, as Unix time."""
        sample = self._sample(key)
        return sample.received_at_s if sample else None

    def served(self, key: Key) -> float | None:
        """The load to serve: steadied over the pods of its Deployment. None is unknown."""
        signals = self.signals(key)
        return None if signals is None or signals.load is None else self._served.get(key)

    # --- what is written ---

    def put_pod(self, pod: Pod) -> None:
        """Another pod of the same name is another pod: what was known of the first is gone."""
        before = self._pods.get(pod.key)
        if before == pod:
            return
        if before is not None and before.uid != pod.uid:
            self._forget(pod.key)
        self._pods[pod.key] = pod
        if not pod.counts:
            self._forget(pod.key)
        self._regroup()

    def drop_pod(self, key: Key) -> None:
        if self._pods.pop(key, None) is not None:
            self._forget(key)
            self._regroup()

    def replace_pods(self, pods: Iterable[Pod]) -> None:
        """A whole list: those it does not name are gone."""
        listed = {pod.key: pod for pod in pods}
        for key in self._pods.keys() - listed.keys():
            self.drop_pod(key)
        for pod in listed.values():
            self.put_pod(pod)

    def put_signals(self, pod: Pod, signals: Signals) -> None:
        """Takes an answer in, unless the pod has gone or been replaced while it was asked.

        An answer whose own time stands still does not make the sample younger: the sidecar
        answers, but its loop does not turn, so what it says grows stale all the same.
        """
        now = self._pods.get(pod.key)
        if now is None or now.uid != pod.uid or not now.counts:
            return
        before = self._samples.get(pod.key)
        if before is not None and before.signals.at_s == signals.at_s:
            return
        models_load = math.fsum(model.load for model in signals.models.values())
        self._samples[pod.key] = _Sample(signals, models_load, self._monotonic_s(), self._wall_s())

    def serve(self, loads: Mapping[Key, float]) -> None:
        """From now on these loads are served; a pod without one is unknown."""
        self._served = dict(loads)

    def _sample(self, key: Key) -> _Sample | None:
        sample = self._samples.get(key)
        if sample is None or self._monotonic_s() - sample.received_s > self._stale_s:
            return None
        return sample

    def _forget(self, key: Key) -> None:
        self._samples.pop(key, None)
        self._served.pop(key, None)

    def _regroup(self) -> None:
        self._by_namespace = self._by_owner = self._sorted = None

    def _counting(self) -> tuple[Pod, ...]:
        if self._sorted is None:
            counting = (pod for pod in self._pods.values() if pod.counts)
            self._sorted = tuple(sorted(counting, key=attrgetter("namespace", "name")))
        return self._sorted


def _grouped(pods: Iterable[Pod], key: Callable[[Pod], K]) -> dict[K, tuple[Pod, ...]]:
    groups: dict[K, list[Pod]] = {}
    for pod in pods:
        groups.setdefault(key(pod), []).append(pod)
    return {name: tuple(group) for name, group in groups.items()}
