"""The gateway's bootstrap for given pods: the template in deploy/, edited as the options say.

Owns what of the template an option changes. Refuses to know how the routing works, which the
template itself explains, and how the pods' own Envoys are set up.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.bootstraps import (
    Address,
    EnvoyOptionError,
    as_yaml,
    check_host,
    check_memory,
    check_ports,
    limit_memory,
    manager,
    parsed_address,
    place_admin,
    read_template,
)
from daemon.gateway.protocol import descriptor_set, naming_fields

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
        check_host(self.host)
        check_ports(self, ("http_port", "grpc_port", "admin_port"), ("admin_port",))
        self._check_pods()
        # Below the mean, somebody would always be over the limit.
        if self.balance_percent and not 100 <= self.balance_percent <= 10_000:
            allowed = "a percentage from 100 to 10000, or 0 for no limit"
            raise EnvoyOptionError("balance", self.balance_percent, allowed)
        check_memory(self)

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(parsed_address("pod", written) for written in self.pods)

    def _check_pods(self) -> None:
        if not self.pods:
            raise EnvoyOptionError("pod", "", "at least one HOST:PORT")
        seen: set[Address] = set()
        for written, address in zip(self.pods, self.addresses, strict=True):
            if address in seen:
                raise EnvoyOptionError("pod", written, "each pod once")
            seen.add(address)


def bootstrap(options: GatewayOptions) -> str:
    """The bootstrap as YAML, without the template's comments."""
    found = template()
    _place_listeners(found, options)
    _place_pods(found["static_resources"]["clusters"][0], options)
    limit_memory(found, options)
    _teach_names(found)
    place_admin(found, options)
    return as_yaml(found)


def template() -> dict[str, Any]:
    """The template, parsed; what its anchors share is shared."""
    return read_template("gateway.yaml", Path(__file__).parent)


def _place_listeners(found: Mapping[str, Any], options: GatewayOptions) -> None:
    http, grpc = found["static_resources"]["listeners"]
    for listener, port in ((http, options.http_port), (grpc, options.grpc_port)):
        listener["address"] = Address(options.host, port).socket


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
    endpoint: dict[str, Any] = {"endpoint": {"address": address.socket}}
    # All addresses of one name would share the key, and so one place.
    if not is_alone:
        endpoint["metadata"] = {"filter_metadata": {"envoy.lb": {"hash_key": written}}}
    return endpoint


def _teach_names(found: Mapping[str, Any]) -> None:
    """Tells Envoy where a message names its model."""
    for filter_ in manager(found["static_resources"]["listeners"][1])["http_filters"]:
        if filter_["name"] == _EXTRACTION:
            filter_["typed_config"]["descriptor_set"] = {
                "inline_bytes": base64.b64encode(descriptor_set()).decode()
            }
            filter_["typed_config"]["extractions_by_method"] = {
                method: {"request_field_extractions": {field: {}}}
                for method, field in naming_fields().items()
            }
