"""A small stand-in for an API server: what the metrics APIs ask of one, over plain HTTP.

It keeps objects with resource versions, refuses writes that lost a race, and answers
SubjectAccessReviews from a set. It is a fake: the real one is asked in tests/controlplane.
"""

import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

from daemon.fleet.cluster import Cluster

CONFIGMAP = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
SECRETS = "/api/v1/namespaces/ours/secrets"
APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

Object = dict[str, Any]


@dataclass(slots=True)
class ApiServer:
    """objects: by path. allowed, denied: pairs of a user and ``resource/subresource``.

    is_down: whether every call fails. meanwhile: what another does just before the next write.
    """

    objects: dict[str, Object] = field(default_factory=dict)
    allowed: set[tuple[str, str]] = field(default_factory=set)
    denied: set[tuple[str, str]] = field(default_factory=set)
    reviews: list[Object] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    is_down: bool = False
    meanwhile: Callable[[], None] | None = None
    _version: int = 0

    def put(self, path: str, thing: Mapping[str, Any]) -> None:
        """As if somebody had written it."""
        self._version += 1
        metadata = {
            "name": path.rsplit("/", 1)[1],
            **thing.get("metadata", {}),
            "resourceVersion": str(self._version),
        }
        self.objects[path] = {**thing, "metadata": metadata}

    def describe_front_proxy(self, authorities_pem: str, *names: str) -> None:
        data = {
            "requestheader-client-ca-file": authorities_pem,
            "requestheader-allowed-names": json.dumps(list(names)),
            "requestheader-username-headers": '["X-Remote-User"]',
            "requestheader-group-headers": '["X-Remote-Group"]',
            "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
        }
        self.put(CONFIGMAP, {"data": data})

    def claim(self, version: str, group: str, service: str | None, bundle: bytes = b"") -> None:
        """service: namespace/name; None where the API server itself answers."""
        spec: Object = {"group": group, "version": version}
        if service:
            namespace, name = service.split("/")
            spec["service"] = {"namespace": namespace, "name": name}
        if bundle:
            spec["caBundle"] = base64.b64encode(bundle).decode()
        self.put(f"{APISERVICES}/{version}.{group}", {"spec": spec})

    def bundle(self, name: str) -> bytes:
        return base64.b64decode(self.objects[f"{APISERVICES}/{name}"]["spec"].get("caBundle", ""))

    async def handle(self, request: web.Request) -> web.Response:
        if self.is_down:
            return web.json_response({"message": "down"}, status=500)
        if request.method == "GET":
            return self._read(request.path)
        body = await request.json()
        if request.path == REVIEWS:
            return self._review(body)
        if self.meanwhile:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return self._write(request.method, request.path, body)

    def _read(self, path: str) -> web.Response:
        if path in self.objects:
            return web.json_response(self.objects[path])
        items = [thing for where, thing in self.objects.items() if where.startswith(path + "/")]
        if path == APISERVICES:
            return web.json_response({"items": items})
        return web.json_response({"message": f"no {path}"}, status=404)

    def _write(self, method: str, path: str, body: Object) -> web.Response:
        at = f"{path}/{body['metadata']['name']}" if method == "POST" else path
        found = self.objects.get(at)
        if method == "POST" and found:
            return web.json_response({"message": "exists"}, status=409)
        if method != "POST":
            if not found:
                return web.json_response({"message": "gone"}, status=404)
            if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
                return web.json_response({"message": "changed"}, status=409)
        if method == "PATCH" and found:
            body = {**found, "spec": {**found["spec"], **body["spec"]}}
        self.writes.append(f"{method} {at}")
        self.put(at, body)
        return web.json_response(self.objects[at])

    def _review(self, body: Object) -> web.Response:
        spec = body["spec"]
        self.reviews.append(spec)
        wanted = spec["resourceAttributes"]
        resource = "/".join(filter(None, (wanted["resource"], wanted.get("subresource"))))
        asked = spec["user"], resource
        status: Object = {"allowed": asked in self.allowed}
        if asked in self.denied:
            status |= {"denied": True, "reason": "denied outright"}
        return web.json_response({**body, "status": status}, status=201)


@asynccontextmanager
async def running() -> AsyncIterator[tuple[ApiServer, Cluster]]:
    """The stand-in on loopback, and a connection to it."""
    server = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    async with TestServer(app) as listening:
        configuration = client.Configuration(host=str(listening.make_url("")).rstrip("/"))
        cluster = Cluster(configuration)
        try:
            yield server, cluster
        finally:
            await cluster.close()
