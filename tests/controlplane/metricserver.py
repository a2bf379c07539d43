"""A metrics backend that answers what a script says: a fake of the metric only, over real TLS.

Owns the wire of custom.metrics.k8s.io v1beta2 and external.metrics.k8s.io v1beta1. Knows nothing
of scripts; `ask` says what is told, by namespace and metric.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.controlplane.authority import Pair
from tests.controlplane.client import Object

CUSTOM = "custom.metrics.k8s.io/v1beta2"
EXTERNAL = "external.metrics.k8s.io/v1beta1"
METRICS = ("first", "second", "third")
STAMP = "2026-01-01T00:00:00Z"

Answer = Mapping[str, str] | Sequence[str] | str | None
Ask = Callable[[str, str], Answer]
"""(namespace, metric) to quantities: by pod, or one of an object, or an external metric's items."""


@contextmanager
def serving(ask: Ask, address: str, pair: Pair) -> Iterator[int]:
    """Serves on a free port of `address`, which is what it yields."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = _answered(ask, self.path)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """The test says what went wrong."""

    server = ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    server.socket = pair.server_context().wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answered(ask: Ask, path: str) -> tuple[int, Object]:
    parts = path.partition("?")[0].strip("/").split("/")
    group = "/".join(parts[1:3])
    if len(parts) == 3 and group in (CUSTOM, EXTERNAL):
        return 200, _discovery(group)
    if len(parts) < 6 or parts[3] != "namespaces":
        return 404, _status(404)
    namespace, metric = parts[4], parts[-1]
    answer = ask(namespace, metric)
    if answer is None:
        return 500, _status(500)
    if isinstance(answer, Mapping):
        rows = [_custom("Pod", name, metric, value) for name, value in answer.items()]
    elif isinstance(answer, str):
        rows = [_custom("Service", "thing", metric, answer)]
    else:
        items = [_external(metric, value) for value in answer]
        return 200, _list("ExternalMetricValueList", EXTERNAL, items)
    return 200, _list("MetricValueList", CUSTOM, rows)


def _list(kind: str, version: str, items: list[Object]) -> Object:
    return {"kind": kind, "apiVersion": version, "metadata": {}, "items": items}


def _custom(kind: str, name: str, metric: str, value: str) -> Object:
    described = {"kind": kind, "name": name, "apiVersion": "/v1"}
    return {
        "describedObject": described,
        "metric": {"name": metric, "selector": None},
        "timestamp": STAMP,
        "windowSeconds": 0,
        "value": value,
    }


def _external(metric: str, value: str) -> Object:
    return {"metricName": metric, "metricLabels": {}, "timestamp": STAMP, "value": value}


def _status(code: int) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "as the script says",
        "code": code,
    }


def _discovery(group: str) -> Object:
    rows = [f"pods/{METRICS[0]}", f"services/{METRICS[0]}"] if group == CUSTOM else METRICS
    resources: list[dict[str, Any]] = [
        {
            "name": name,
            "singularName": "",
            "namespaced": True,
            "kind": "MetricValueList",
            "verbs": ["get"],
        }
        for name in rows
    ]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group,
        "resources": resources,
    }


def registration(pair_authority: Path, address: str, port: int) -> list[Object]:
    """What tells the aggregator of it: a Service without pods, its endpoint, two APIServices."""
    name, namespace = "fake-metrics", "kube-system"
    return [
        service(name, namespace),
        endpoint(name, namespace, address, port),
        *(api_service(group, name, namespace, pair_authority) for group in (CUSTOM, EXTERNAL)),
    ]


def service(name: str, namespace: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"name": "https", "port": 443}]},
    }


def endpoint(
    name: str, namespace: str, address: str, port: int, port_name: str = "https"
) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-{port}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
    }


def api_service(group: str, name: str, namespace: str, authority: Path) -> Object:
    api_group, _, version = group.partition("/")
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{api_group}"},
        "spec": {
            "group": api_group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": name, "namespace": namespace, "port": 443},
            "caBundle": base64.b64encode(authority.read_bytes()).decode(),
        },
    }
