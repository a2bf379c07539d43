"""A fake API server, on a real port: pods with list and watch, and objects with versions.

It knows what the fleet asks for and no more, and can be told to misbehave. What a real one does
is seen by the tests in tests/controlplane.
"""

import asyncio
import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from kubernetes.aio import client

from daemon.fleet.cluster import Cluster

Json = dict[str, Any]


@dataclass
class FakeApiServer:
    """
    objects: what there is, by path.
    history: changes to pods that a watch can still be resumed from.
    refuses: statuses to answer next, whatever is asked; one is taken at each request.
    requests: method and path of each, in their order.
    watches: how many are open now.
    """

    objects: dict[str, Json] = field(default_factory=dict)
    history: list[tuple[int, str, Json]] = field(default_factory=list)
    refuses: list[int] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    version: int = 100
    oldest: int = 0
    watches: int = 0
    is_hanging: bool = False
    is_refusing_watches: bool = False
    url: str = ""
    _ended: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> "FakeApiServer":
        app = web.Application(middlewares=[self._misbehaving])
        app.router.add_get("/api/v1/pods", self._pods)
        app.router.add_get("/api/v1/namespaces/{namespace}/pods", self._pods)
        app.router.add_route("*", "/{path:.*}", self._object)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def cluster(self) -> Cluster:
        return Cluster(client.Configuration(host=self.url))

    # --- what tests do to it ---

    def put(self, pod: Mapping[str, Any]) -> None:
        """Adds or changes a pod."""
        path = _pod_path(pod["metadata"]["namespace"], pod["metadata"]["name"])
        self._store(path, copy.deepcopy(dict(pod)))

    def delete(self, namespace: str, name: str) -> None:
        pod = self.objects.pop(_pod_path(namespace, name))
        self._log("DELETED", pod)

    def compact(self) -> None:
        """Forgets every change so far: a watch from before is answered by 410."""
        self.oldest = self.version
        self.history.clear()

    def end_watches(self) -> None:
        self.version += 1
        self._ended = self.version
        self._changed.set()

    # --- what it answers ---

    @web.middleware
    async def _misbehaving(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        if self.is_hanging:
            await asyncio.sleep(60)
        if self.refuses:
            status = self.refuses.pop(0)
            return web.json_response({"message": f"told to answer {status}"}, status=status)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _pods(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") == "true":
            return await self._watch(request)
        found = [self.objects[p] for p in sorted(self.objects) if self._is_asked(request, p)]
        start = int(request.query.get("continue", 0))
        end = start + int(request.query.get("limit", len(found) or 1))
        more = str(end) if end < len(found) else ""
        metadata = {"resourceVersion": str(self.version), "continue": more}
        return web.json_response({"items": found[start:end], "metadata": metadata})

    def _is_asked(self, request: web.Request, path: str) -> bool:
        namespace = request.match_info.get("namespace", "")
        base = f"/api/v1/namespaces/{namespace}/" if namespace else "/api/v1/namespaces/"
        return path.startswith(base) and "/pods/" in path and _selected(request, self.objects[path])

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        if self.is_refusing_watches:
            return web.json_response({"message": "no watches"}, status=500)
        if version < self.oldest:
            return web.json_response({"message": "too old resource version"}, status=410)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        began, self.watches = self.version, self.watches + 1
        try:
            while self._ended <= began:
                for at, kind, pod in list(self.history):
                    if at > version and _selected(request, pod):
                        line = json.dumps({"type": kind, "object": pod}) + "\n"
                        await response.write(line.encode())
                        version = at
                self._changed.clear()
                await self._changed.wait()
        finally:
            self.watches -= 1
        return response

    async def _object(self, request: web.Request) -> web.Response:
        """Anything else: create, read, replace under its version, merge into it."""
        path = request.path
        if request.method == "POST":
            body = await request.json()
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                return web.json_response({"message": "already exists"}, status=409)
            return web.json_response(self._store(path, body), status=201)
        found = self.objects.get(path)
        if found is None:
            return web.json_response({"message": f"{path} not found"}, status=404)
        if request.method == "GET":
            return web.json_response(found)
        body = await request.json()
        for name in ("uid", "resourceVersion"):
            given = body.get("metadata", {}).get(name)
            if given is not None and given != found["metadata"].get(name):
                return web.json_response({"message": f"{name} differs"}, status=409)
        merged = body if request.method == "PUT" else _merged(found, body)
        return web.json_response(self._store(path, merged))

    def _store(self, path: str, thing: Json) -> Json:
        kind = "MODIFIED" if path in self.objects else "ADDED"
        self.objects[path] = thing
        if "/pods/" in path:
            self._log(kind, thing)
        else:
            self.version += 1
            thing["metadata"]["resourceVersion"] = str(self.version)
        return thing

    def _log(self, kind: str, pod: Json) -> None:
        self.version += 1
        pod["metadata"]["resourceVersion"] = str(self.version)
        self.history.append((self.version, kind, copy.deepcopy(pod)))
        self._changed.set()


def pod(
    name: str,
    namespace: str = "default",
    *,
    deployment: str | None = "triton",
    ip: str | None = "127.0.0.1",
    port: int | None = None,
    phase: str = "Running",
    labels: Mapping[str, str] | None = None,
    **metadata: Any,
) -> Json:
    """A pod's JSON as an API server gives it, with what we do not read as well."""
    whole: Json = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-of-{name}",
        "labels": {"remora.dev/sidecar": "true", **(labels or {})},
        "managedFields": [{"manager": "kubelet", "operation": "Update"}],
        **metadata,
    }
    if deployment is not None:
        whole["labels"]["pod-template-hash"] = "5d9f7b8c6"
        owner = {"kind": "ReplicaSet", "name": f"{deployment}-5d9f7b8c6", "controller": True}
        whole["ownerReferences"] = [owner]
    if port is not None:
        whole.setdefault("annotations", {})["remora.dev/port"] = str(port)
    status = {"phase": phase} | ({"podIP": ip} if ip else {})
    return {"metadata": whole, "spec": {"containers": [{"name": "triton"}]}, "status": status}


def _pod_path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


def _selected(request: web.Request, thing: Json) -> bool:
    labels = thing["metadata"].get("labels", {})
    selector = request.query.get("labelSelector", "")
    pairs = (part.split("=", 1) for part in selector.split(",") if part)
    return all(labels.get(key) == value for key, value in pairs)


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    kept = {key: _merged(old.get(key), value) for key, value in new.items() if value is not None}
    return {**{key: value for key, value in old.items() if key not in new}, **kept}
