"""The gateway's bootstrap for given pods: the template in deploy/, edited as the options say.

Owns what of the template an option changes. Refuses to know how the routing works, which the
template itself explains, and how the pods' own Envoys are set up.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from daemon.frontdoor.envoy import Address, EnvoyOptionError, parsed_address, parsed_amount
from daemon.gateway.protocol import descriptor_set, naming_fields

# An installed wheel carries the template as package data; a checkout has it where operators look.
_TEMPLATES = (
    Path(__file__).with_name("gateway.yaml"),
    Path(__file__).parents[2] / "deploy" / "gateway.yaml",
)
_MEBIBYTE = 2**20
# gRPC allows no larger message.
_LARGEST_BODY_BYTES = 2**31
_MOST_MEMORY_BYTES = 2**50
_EXTRACTION = "envoy.filters.http.grpc_field_extraction"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """What `remora gateway-config` may be told; raises EnvoyOptionError.

    pods: HOST:PORT each. One name stands for all its addresses; of several each is one pod, which
        keeps its models when its address changes.
    balance_percent: of the mean of requests in flight per pod, what one pod may have; 0: no limit.
    body_cap, memory: amounts with a unit, as people write them.
    """

    host: str
    http_port: int
    grpc_port: int
    admin_port: int
    pods: tuple[str, ...]
    balance_percent: int
    body_cap: str
    memory: str

    def __post_init__(self) -> None:
        if Address(self.host, 0).is_name:
            raise EnvoyOptionError("host", self.host, "an IP address, as 0.0.0.0 or 127.0.0.1")
        self._check_ports()
        self._check_pods()
        # Below the mean, somebody would always be over the limit.
        if self.balance_percent and not 100 <= self.balance_percent <= 10_000:
            allowed = "a percentage from 100 to 10000, or 0 for no limit"
            raise EnvoyOptionError("balance", self.balance_percent, allowed)
        self._check_memory()

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(parsed_address("pod", written) for written in self.pods)

    @property
    def body_cap_bytes(self) -> int:
        return parsed_amount("body_cap", self.body_cap)

    @property
    def memory_bytes(self) -> int:
        return parsed_amount("memory", self.memory)

    def _check_ports(self) -> None:
        taken: list[int] = []
        for name in ("http_port", "grpc_port", "admin_port"):
            port = getattr(self, name)
            if name == "admin_port" and port == 0:
                continue
            if not 1 <= port <= 65535:
                note = ", or 0 for none" if name == "admin_port" else ""
                raise EnvoyOptionError(name, port, f"a port from 1 to 65535{note}")
            if port in taken:
                raise EnvoyOptionError(name, port, "a port that no other listener has")
            taken.append(port)

    def _check_pods(self) -> None:
        if not self.pods:
            raise EnvoyOptionError("pod", "", "at least one HOST:PORT")
        seen: set[Address] = set()
        for written, address in zip(self.pods, self.addresses, strict=True):
            if address in seen:
                raise EnvoyOptionError("pod", written, "each pod once")
            seen.add(address)

    def _check_memory(self) -> None:
        # An idle Envoy holds some 10 MiB of heap; with little more it would refuse everything.
        if not 64 * _MEBIBYTE <= self.memory_bytes <= _MOST_MEMORY_BYTES:
            raise EnvoyOptionError("memory", self.memory, "from 64MiB to 1024TiB")
        if not 1 <= self.body_cap_bytes <= min(_LARGEST_BODY_BYTES, self.memory_bytes):
            allowed = f"from 1B to 2GiB, and not above --memory, {self.memory}"
            raise EnvoyOptionError("body_cap", self.body_cap, allowed)


def bootstrap(options: GatewayOptions) -> str:
    """The bootstrap as YAML, without the template's comments."""
    found = template()
    _place_listeners(found, options)
    _place_pods(found["static_resources"]["clusters"][0], options)
    _limit_memory(found, options)
    _teach_names(found)
    if options.admin_port:
        found["admin"]["address"]["socket_address"]["port_value"] = options.admin_port
    else:
        del found["admin"]
    return yaml.dump(found, Dumper=_Plain, sort_keys=False, allow_unicode=True)


def template() -> dict[str, Any]:
    """The template, parsed; what its anchors share is shared."""
    path = next(path for path in _TEMPLATES if path.is_file())
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


class _Plain(yaml.SafeDumper):
    """Writes out whatever the template shares by anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _place_listeners(found: Mapping[str, Any], options: GatewayOptions) -> None:
    http, grpc = found["static_resources"]["listeners"]
    for listener, port in ((http, options.http_port), (grpc, options.grpc_port)):
        listener["address"] = _socket(Address(options.host, port))


def _place_pods(cluster: dict[str, Any], options: GatewayOptions) -> None:
    addresses = options.addresses
    if not any(address.is_name for address in addresses):
        cluster["type"] = "STATIC"
        del cluster["cluster_type"]
    (locality,) = cluster["load_assignment"]["endpoints"]
    locality["lb_endpoints"] = [
        _endpoint(written, address, is_alone=len(addresses) == 1)
        for written, address in zip(options.pods, addresses, strict=True)
    ]
    common = cluster["common_lb_config"]
    if options.balance_percent:
        limit = {"hash_balance_factor": options.balance_percent}
        common["consistent_hashing_lb_config"] = limit
    else:
        del common["consistent_hashing_lb_config"]


def _endpoint(written: str, address: Address, *, is_alone: bool) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"endpoint": {"address": _socket(address)}}
    # All addresses of one name would share the key, and so one place.
    if not is_alone:
        endpoint["metadata"] = {"filter_metadata": {"envoy.lb": {"hash_key": written}}}
    return endpoint


def _limit_memory(found: Mapping[str, Any], options: GatewayOptions) -> None:
    for listener in found["static_resources"]["listeners"]:
        for host in _manager(listener)["route_config"]["virtual_hosts"]:
            host["request_body_buffer_limit"] = options.body_cap_bytes
    (heap,) = found["overload_manager"]["resource_monitors"]
    heap["typed_config"]["max_heap_size_bytes"] = options.memory_bytes


def _teach_names(found: Mapping[str, Any]) -> None:
    """Tells Envoy where a message names its model."""
    for filter_ in _manager(found["static_resources"]["listeners"][1])["http_filters"]:
        if filter_["name"] == _EXTRACTION:
            filter_["typed_config"]["descriptor_set"] = {
                "inline_bytes": base64.b64encode(descriptor_set()).decode()
            }
            filter_["typed_config"]["extractions_by_method"] = {
                method: {"request_field_extractions": {field: {}}}
                for method, field in naming_fields().items()
            }


def _manager(listener: Mapping[str, Any]) -> dict[str, Any]:
    """The HTTP connection manager, which is the one filter of each listener."""
    (chain,) = listener["filter_chains"]
    (filter_,) = chain["filters"]
    config: dict[str, Any] = filter_["typed_config"]
    return config


def _socket(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address.host, "port_value": address.port}}
