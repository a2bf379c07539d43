"""A writer's world: a fake API server, what the watch and the sidecars have told, and the Lease."""

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from daemon.fleet.cluster import Cluster
from daemon.fleet.deployments import Deployments
from daemon.fleet.events import Events
from daemon.fleet.lease import Lease
from daemon.fleet.pods import COST_ANNOTATION, pod_from
from daemon.fleet.removal import Removal
from daemon.fleet.samples import Samples
from daemon.fleet.sidecars import read
from daemon.fleet.telemetry import Telemetry
from tests.daemon.fleet.apiserver import FakeApiServer, pod
from tests.daemon.fleet.sidecar import said

DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments/triton"


@dataclass
class World:
    server: FakeApiServer
    cluster: Cluster
    samples: Samples
    lease: Lease
    telemetry: Telemetry
    answers: int = 0
    events: list[Any] = field(default_factory=list)

    def add(
        self,
        name: str,
        *,
        cost: int | None = None,
        labels: Mapping[str, str] | None = None,
        **told: Any,
    ) -> None:
        annotations = {} if cost is None else {COST_ANNOTATION: str(cost)}
        self.server.put(pod(name, annotations=annotations, labels=labels))
        self.see(name)
        self.tell(name, **told)

    def see(self, name: str) -> None:
        """What the watch would bring."""
        path = f"/api/v1/namespaces/default/pods/{name}"
        self.samples.put_pod(pod_from(self.server.objects[path]))

    def tell(self, name: str, **told: Any) -> None:
        self.answers += 1
        (found,) = (each for each in self.samples.pods("default") if each.name == name)
        body = json.dumps(said(**{"at_s": float(self.answers), **told})).encode()
        self.samples.put_signals(found, read(body))

    def removal(self) -> Removal:
        return Removal(self.cluster, self.samples, self.lease, self.telemetry, 1.0, between_s=0.0)

    def telling(self, interval_s: float) -> Events:
        known = Deployments(self.cluster)
        return Events(self.cluster, self.samples, self.lease, self.telemetry, known, interval_s)

    def cost(self, name: str) -> str | None:
        metadata = self.server.objects[f"/api/v1/namespaces/default/pods/{name}"]["metadata"]
        found: str | None = metadata.get("annotations", {}).get(COST_ANNOTATION)
        return found

    def writes(self, method: str = "PATCH") -> list[str]:
        return [each for each in self.server.requests if each.startswith(method)]


@asynccontextmanager
async def world(now_s: Callable[[], float] = time.monotonic) -> AsyncIterator[World]:
    async with FakeApiServer() as server:
        server.objects[DEPLOYMENT] = {"metadata": {"uid": "d-1"}, "spec": {"replicas": 3}}
        cluster = server.cluster()
        samples = Samples(30.0, now_s)
        lease = Lease(cluster, "remora", "remora-fleet", "one", 15.0)
        await lease.attempt()
        try:
            yield World(server, cluster, samples, lease, Telemetry(samples))
        finally:
            await cluster.close()
