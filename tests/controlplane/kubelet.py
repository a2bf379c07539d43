"""A fake kubelet: pods of one namespace that run because it says so.

It gives each new pod a node and an address in 127.0.0.0/8, has its workload started, and marks it
Running and Ready; of one that is deleted it has the workload stopped after the drain, and lets it
go. Owns what the API server is told of pods. Knows nothing of what runs in them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from types import TracebackType
from typing import Generic, Self, TypeVar

from tests.controlplane.client import Client, Object

LOOK_EVERY_S = 0.2
NODE = "machine"

Workload = TypeVar("Workload")
Start = Callable[[str, str], AbstractContextManager[Workload]]
"""(name of the pod, its address) to what runs in it: entered when it starts, left when it ends."""


class Kubelet(Generic[Workload]):
    """A context manager; what runs when it is left is ended.

    drain_s: how long a pod that is deleted goes on before it ends.
    """

    def __init__(self, client: Client, namespace: str, start: Start[Workload], network: str):
        """network: the first three numbers of the pods' addresses, as 127.7.0."""
        self.drain_s = 0.0
        self._client = client
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._start = start
        self._network = network
        self._addresses = 0
        self._known: dict[str, Future[None]] = {}
        self._running: dict[str, Workload] = {}
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(32)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._pool.shutdown()
        for future in self._known.values():
            future.result()

    @property
    def running(self) -> Mapping[str, Workload]:
        """By name of the pod; those that drain are still there."""
        return dict(self._running)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            for pod in self._client.items(self._pods):
                uid = pod["metadata"]["uid"]
                if uid not in self._known:
                    self._addresses += 1
                    address = f"{self._network}.{self._addresses}"
                    self._known[uid] = self._pool.submit(self._live, pod, address)

    def _live(self, pod: Object, address: str) -> None:
        """A pod's whole life."""
        name = pod["metadata"]["name"]
        path = f"{self._pods}/{name}"
        self._bind(pod)
        with self._start(name, address) as workload:
            self._running[name] = workload
            self._client.merge(f"{path}/status", {"status": _running(address)})
            while not self._is_deleted(path) and not self._stopping.wait(LOOK_EVERY_S):
                pass
            self._stopping.wait(self.drain_s)
            del self._running[name]
        self._client.delete(path, grace_s=0)

    def _bind(self, pod: Object) -> None:
        metadata = {key: pod["metadata"][key] for key in ("name", "namespace")}
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
        path = f"{self._pods}/{metadata['name']}/binding"
        status, answer = self._client.answer("POST", path, binding)
        assert status == 201, answer

    def _is_deleted(self, path: str) -> bool:
        status, pod = self._client.answer("GET", path)
        return status == 404 or "deletionTimestamp" in pod["metadata"]


def _running(address: str) -> Object:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": now}
    return {
        "phase": "Running",
        "startTime": now,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [ready, ready | {"type": "ContainersReady"}],
    }
