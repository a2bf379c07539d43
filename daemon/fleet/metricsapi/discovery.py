"""What can be asked for here, as the API machinery's discovery wants it told.

Owns the groups and their versions; the metrics' names come in.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

CUSTOM = "custom.metrics.k8s.io"
EXTERNAL = "external.metrics.k8s.io"

# The preferred version first.
VERSIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {CUSTOM: ("v1beta2", "v1beta1"), EXTERNAL: ("v1beta1",)}
)

# Resource before the metric's name, and whether it lives in a namespace.
_OBJECTS = (("deployments.apps", True), ("namespaces", False), ("pods", True))


def group_list(groups: Iterable[str]) -> dict[str, Any]:
    described = [_group(name) for name in groups]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": described}


def group(name: str) -> dict[str, Any]:
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name)}


def resource_list(name: str, version: str, metrics: Iterable[str]) -> dict[str, Any]:
    resources = _external(metrics) if name == EXTERNAL else _custom(metrics)
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{name}/{version}",
        "resources": resources,
    }


def _group(name: str) -> dict[str, Any]:
    versions = [
        {"groupVersion": f"{name}/{version}", "version": version} for version in VERSIONS[name]
    ]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _custom(metrics: Iterable[str]) -> list[dict[str, Any]]:
    names = sorted(metrics)
    return [
        _resource(f"{resource}/{metric}", is_namespaced, "MetricValueList")
        for resource, is_namespaced in _OBJECTS
        for metric in names
    ]


def _external(metrics: Iterable[str]) -> list[dict[str, Any]]:
    return [_resource(metric, True, "ExternalMetricValueList") for metric in sorted(metrics)]


def _resource(name: str, is_namespaced: bool, kind: str) -> dict[str, Any]:
    return {
        "name": name,
        "singularName": "",
        "namespaced": is_namespaced,
        "kind": kind,
        "verbs": ["get"],
    }
