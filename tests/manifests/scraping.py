"""What a Prometheus of the operator is told to scrape, where there is no cluster to discover.

Owns the reading of PodMonitors, as the Prometheus operator makes scrape configurations of them, and
of the pods that service discovery would show. Knows nothing of what is scraped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.controlplane.client import Object
from tests.manifests.overlays import containers

Config = dict[str, Any]

NAMESPACE = "__meta_kubernetes_namespace"


def discovered(name: str, deployment: Object, address: str = "127.0.0.1") -> Iterator[Config]:
    """A pod of `deployment` as kubernetes_sd_configs show one: a target for each declared port."""
    template = deployment["spec"]["template"]
    about = {
        NAMESPACE: deployment["metadata"]["namespace"],
        "__meta_kubernetes_pod_name": name,
    }
    for key, value in template["metadata"]["labels"].items():
        about[f"__meta_kubernetes_pod_label_{_name(key)}"] = value
    for each in containers(template):
        for port in each.get("ports", ()):
            labels = {
                "__meta_kubernetes_pod_container_name": each["name"],
                "__meta_kubernetes_pod_container_port_name": port["name"],
            }
            yield {"targets": [f"{address}:{port['containerPort']}"], "labels": about | labels}


def jobs(monitor: Object, pods: Iterable[Config], interval: str) -> Iterator[Config]:
    """The operator's scrape configurations of a PodMonitor; `interval` in place of its own."""
    its = monitor["metadata"]
    here = [
        each for each in pods if each["labels"]["__meta_kubernetes_namespace"] == its["namespace"]
    ]
    for number, endpoint in enumerate(monitor["spec"]["podMetricsEndpoints"]):
        unknown = endpoint.keys() - {"port", "interval", "honorLabels"}
        assert not unknown, f"PodMonitor {its['name']}: {unknown} is not read here"
        yield {
            "job_name": f"podMonitor/{its['namespace']}/{its['name']}/{number}",
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "honor_labels": endpoint.get("honorLabels", False),
            "static_configs": here,
            "relabel_configs": list(_relabelled(monitor, endpoint)),
        }


def _relabelled(monitor: Object, endpoint: Mapping[str, Any]) -> Iterator[Config]:
    for key, value in monitor["spec"]["selector"]["matchLabels"].items():
        yield _kept(f"__meta_kubernetes_pod_label_{_name(key)}", value)
    yield _kept("__meta_kubernetes_pod_container_port_name", endpoint["port"])
    for label, source in (
        ("namespace", NAMESPACE),
        ("container", "__meta_kubernetes_pod_container_name"),
        ("pod", "__meta_kubernetes_pod_name"),
    ):
        yield {"source_labels": [source], "target_label": label}
    its = monitor["metadata"]
    yield {"target_label": "job", "replacement": f"{its['namespace']}/{its['name']}"}
    yield {"target_label": "endpoint", "replacement": endpoint["port"]}


def _kept(label: str, value: str) -> Config:
    return {"source_labels": [label], "regex": re.escape(value), "action": "keep"}


def _name(label: str) -> str:
    """A label's name as Prometheus can have it."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)
