"""The arrangement that was not chosen: one Envoy for all pods, straight to their Tritons.

Made from the two bootstraps that Remora writes: the pod's, with every pod's Triton and activator
in its clusters, and the gateway's hashing on all of them. Only to be measured.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from simulations.testbed.envoy import written_bootstrap
from tests.daemon.gateway.written import written_gateway

CLUSTERS = ("triton_http", "triton_grpc", "activator_http", "activator_grpc")


@dataclass(frozen=True, slots=True)
class Addresses:
    """One pod's, host:port, in the order of CLUSTERS."""

    triton_http: str
    triton_grpc: str
    activator_http: str
    activator_grpc: str


def one_tier(
    pods: Sequence[Addresses], *, http_port: int, grpc_port: int, admin_port: int, balance: int
) -> str:
    found = yaml.safe_load(
        written_bootstrap(
            host="127.0.0.1", http_port=http_port, grpc_port=grpc_port, admin_port=admin_port
        )
    )
    gateway = yaml.safe_load(written_gateway(f"--balance={balance}"))["static_resources"]
    http, grpc = (_manager(each) for each in gateway["listeners"])
    hashes = {
        "http": http["route_config"]["virtual_hosts"][0]["routes"][2]["route"]["hash_policy"],
        "grpc": grpc["route_config"]["virtual_hosts"][0]["routes"][-1]["route"]["hash_policy"],
    }
    for listener in found["static_resources"]["listeners"]:
        _hash(listener, hashes)
        if listener["name"] == "grpc":
            filters = _manager(listener)["http_filters"]
            filters[1:1] = copy.deepcopy(grpc["http_filters"][1:-1])
    for cluster in found["static_resources"]["clusters"]:
        if cluster["name"] in CLUSTERS:
            _spread(
                cluster, [getattr(pod, cluster["name"]) for pod in pods], gateway["clusters"][0]
            )
    text: str = yaml.safe_dump(found)
    return text


def _hash(listener: dict[str, Any], hashes: dict[str, Any]) -> None:
    policy = hashes[listener["name"].removeprefix("hop_")]
    for host in _manager(listener)["route_config"]["virtual_hosts"]:
        for route in host["routes"]:
            if "route" in route:
                route["route"]["hash_policy"] = copy.deepcopy(policy)


def _spread(cluster: dict[str, Any], addresses: Sequence[str], like: dict[str, Any]) -> None:
    """All pods' addresses, with one key for a pod in every cluster, so that all hash alike."""
    for key in ("lb_policy", "maglev_lb_config", "common_lb_config", "outlier_detection"):
        cluster[key] = copy.deepcopy(like[key])
    cluster["load_assignment"]["endpoints"] = [
        {"lb_endpoints": [_endpoint(at, each) for at, each in enumerate(addresses)]}
    ]


def _endpoint(at: int, address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {
        "endpoint": {
            "address": {"socket_address": {"address": host, "port_value": int(port)}},
        },
        "metadata": {"filter_metadata": {"envoy.lb": {"hash_key": f"pod-{at}"}}},
    }


def _manager(listener: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return config
