"""The writer's duty to keep the pods' deletion costs true.

Owns when a cost is written: only by who holds the Lease, only when it changes, at most once a
minute for each pod, and never many at once. What a pod costs is `policies.removal`'s.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from daemon.fleet.cluster import MERGE_PATCH, Cluster, ClusterError
from daemon.fleet.lease import Lease
from daemon.fleet.pods import COST_ANNOTATION
from daemon.fleet.samples import Key, ModelSignal, Pod, Samples
from daemon.fleet.telemetry import Telemetry
from daemon.fleet.trouble import Trouble
from policies.removal import Holding, Standing, deletion_costs

_AGAIN_AFTER_S = 60.0
# Ten writes a second at most, whatever the size of the fleet.
_BETWEEN_S = 0.1


@dataclass(slots=True)
class Removal:
    cluster: Cluster
    samples: Samples
    lease: Lease
    telemetry: Telemetry
    interval_s: float
    between_s: float = _BETWEEN_S
    _written_s: dict[Key, float] = field(default_factory=dict)
    _trouble: Trouble = field(default_factory=lambda: Trouble("cannot write a deletion cost"))

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            await asyncio.sleep(self.interval_s)
            if self.lease.is_held():
                await self.step()

    async def step(self) -> None:
        now_s = time.monotonic()
        self._written_s = {
            key: at_s for key, at_s in self._written_s.items() if now_s - at_s < _AGAIN_AFTER_S
        }
        for pod, cost in list(changes(self.samples)):
            if pod.key in self._written_s:
                continue
            if not self.lease.is_held():
                return
            self._written_s[pod.key] = time.monotonic()
            await self._write(pod, cost)
            await asyncio.sleep(self.between_s)

    async def _write(self, pod: Pod, cost: int) -> None:
        # With its uid, so that another pod of the same name is not taken for this one.
        metadata = {"uid": pod.uid, "annotations": {COST_ANNOTATION: str(cost)}}
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        try:
            await self.cluster.call(
                "PATCH", path, body={"metadata": metadata}, content_type=MERGE_PATCH
            )
        except ClusterError as error:
            # Gone, or another pod by now: there is nothing to write any more.
            is_gone = error.status in (404, 409)
            self.telemetry.deletion_costs.labels("gone" if is_gone else "failed").inc()
            if not is_gone:
                self._trouble.began(error)
        else:
            self.telemetry.deletion_costs.labels("written").inc()
            self._trouble.ended()


def changes(samples: Samples) -> Iterator[tuple[Pod, int]]:
    """The pods whose cost is not what it should be, and what it should be."""
    for pods in samples.deployments().values():
        standings = _standings(samples, pods)
        costs = deletion_costs(standings, {pod.name: pod.deletion_cost for pod in pods})
        for pod in pods:
            # Nothing written is 0 to Kubernetes.
            if pod.name in costs and costs[pod.name] != (pod.deletion_cost or 0):
                yield pod, costs[pod.name]


def _standings(samples: Samples, pods: Sequence[Pod]) -> dict[str, Standing]:
    found = ((pod.name, samples.signals(pod.key)) for pod in pods)
    return {
        name: Standing(signals.load, _holdings(signals.models))
        for name, signals in found
        if signals is not None
    }


def _holdings(models: Mapping[str, ModelSignal]) -> dict[str, Holding]:
    return {
        name: Holding(model.resident, model.load, model.absence_s) for name, model in models.items()
    }
