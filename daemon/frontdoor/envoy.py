"""The bootstrap of Envoy for given ports: the template in deploy/, edited as the options say.

Owns what of the template an option changes. Refuses to know how the routing works, which the
template itself explains, and how Envoy is started.
"""

from collections.abc import Iterator
from copy import deepcopy
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
    hosts,
    limit_memory,
    manager,
    parsed_address,
    parsed_amount,
    place_admin,
    read_template,
)
from daemon.frontdoor.attempts import GATEWAY

_FRONT = ("http", "grpc")
_PORTS = ("http_port", "grpc_port", "admin_port", "fleet_port")
_OPTIONAL_PORTS = ("admin_port", "fleet_port")
_EVERY_REQUEST = 1_000_000
_TYPES = "type.googleapis.com/envoy"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyOptions:
    """What `remora envoy-config` may be told; raises EnvoyOptionError.

    Addresses are HOST:PORT and amounts of memory carry a unit, as people write them.
    """

    host: str
    http_port: int
    grpc_port: int
    admin_port: int
    triton_http: str
    triton_grpc: str
    door_http: str
    door_grpc: str
    body_cap: str
    memory: str
    tls_certificate: Path | None
    tls_key: Path | None
    access_log: Path | None
    access_log_sample: float
    fleet_port: int = 0

    def __post_init__(self) -> None:
        check_host(self.host)
        check_ports(self, _PORTS, _OPTIONAL_PORTS)
        for name in ("triton_http", "triton_grpc", "door_http", "door_grpc"):
            self.address(name)
        check_memory(self)
        self._check_tls()
        if not 0 <= self.access_log_sample <= 1:
            raise EnvoyOptionError(
                "access_log_sample", self.access_log_sample, "a share of the requests from 0 to 1"
            )

    def address(self, name: str) -> Address:
        """The option `name` taken apart."""
        return parsed_address(name, str(getattr(self, name)))

    def _check_tls(self) -> None:
        if (self.tls_certificate is None) == (self.tls_key is None):
            return
        missing = "tls_key" if self.tls_key is None else "tls_certificate"
        raise EnvoyOptionError(
            missing, "", "a path, for --tls-certificate and --tls-key are a pair"
        )


def bootstrap(options: EnvoyOptions) -> str:
    """The bootstrap as YAML, without the template's comments."""
    found = template()
    _place_listeners(found, options)
    _place_clusters(found, options)
    _limit_memory(found, options)
    place_admin(found, options)
    if options.tls_certificate is not None and options.tls_key is not None:
        _encrypt(found, options.tls_certificate, options.tls_key)
    if options.access_log is not None:
        _log_access(found, options.access_log, options.access_log_sample)
    if options.fleet_port:
        _serve_fleet(found, Address(options.host, options.fleet_port))
    return as_yaml(found)


def template() -> dict[str, Any]:
    """The template, parsed; what its anchors share is shared."""
    return read_template("envoy.yaml", Path(__file__).parent)


def _place_listeners(found: dict[str, Any], options: EnvoyOptions) -> None:
    for name, port in (("http", options.http_port), ("grpc", options.grpc_port)):
        _listener(found, name)["address"] = Address(options.host, port).socket


def _place_clusters(found: dict[str, Any], options: EnvoyOptions) -> None:
    for cluster, option in (
        ("triton_http", "triton_http"),
        ("triton_grpc", "triton_grpc"),
        ("activator_http", "door_http"),
        ("activator_grpc", "door_grpc"),
    ):
        address = options.address(option)
        each = _named(found["static_resources"]["clusters"], cluster)
        each["type"] = "STRICT_DNS" if address.is_name else "STATIC"
        (locality,) = each["load_assignment"]["endpoints"]
        (endpoint,) = locality["lb_endpoints"]
        endpoint["endpoint"]["address"] = address.socket


def _limit_memory(found: dict[str, Any], options: EnvoyOptions) -> None:
    limit_memory(found, options)
    for host in hosts(found):
        for route in host["routes"]:
            for header in route["match"].get("headers", ()):
                above_bytes = parsed_amount("body_cap", options.body_cap) + 1
                header["range_match"]["start"] = above_bytes


def _encrypt(found: dict[str, Any], certificate: Path, key: Path) -> None:
    for name, protocol in (("http", "http/1.1"), ("grpc", "h2")):
        (chain,) = _listener(found, name)["filter_chains"]
        pair = {
            "certificate_chain": {"filename": str(certificate)},
            "private_key": {"filename": str(key)},
        }
        chain["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_TYPES}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {"alpn_protocols": [protocol], "tls_certificates": [pair]},
            },
        }


def _serve_fleet(found: dict[str, Any], address: Address) -> None:
    """Both protocols on one port, not encrypted.

    The fleet's gateway tells pods apart by address and port; a model whose pod had a port for each
    protocol would have a pod for each. What comes here can be sent to another pod, and the door is
    told so.
    """
    http, grpc = ({"filters": [_marked(manager(_listener(found, name)))]} for name in _FRONT)
    found["static_resources"]["listeners"].append(
        {
            "name": "fleet",
            "address": address.socket,
            "listener_filters": [
                {
                    "name": "envoy.filters.listener.http_inspector",
                    "typed_config": {
                        "@type": f"{_TYPES}.extensions.filters.listener"
                        ".http_inspector.v3.HttpInspector"
                    },
                }
            ],
            # Without TLS a client of HTTP/2 has to begin with its preface, as gRPC's do.
            "filter_chains": [
                {"filter_chain_match": {"application_protocols": ["h2c"]}, **grpc},
                http,
            ],
        }
    )


def _marked(config: dict[str, Any]) -> dict[str, Any]:
    """The connection manager, which says besides that a request came by the gateway."""
    marked = deepcopy(config)
    stripping = _named(marked["http_filters"], "envoy.filters.http.header_mutation")
    mark = {"header": {"key": GATEWAY, "value": "1"}}
    mutations = stripping["typed_config"]["mutations"]["request_mutations"]
    mutations.append({"append": {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD", **mark}})
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": marked}


def _log_access(found: dict[str, Any], path: Path, sample: float) -> None:
    for name in _FRONT:
        manager(_listener(found, name))["access_log"] = [
            {
                "name": "envoy.access_loggers.file",
                "filter": {"or_filter": {"filters": list(_worth_a_line(name, sample))}},
                "typed_config": {
                    "@type": f"{_TYPES}.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": str(path),
                    "log_format": {"json_format": _FIELDS},
                },
            }
        ]


# `attempts` above 1 is a miss: the model was not loaded, or Triton was away.
_FIELDS = {
    "time": "%START_TIME%",
    "protocol": "%PROTOCOL%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS_NUMBER%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "duration_ms": "%DURATION%",
    "request_bytes": "%BYTES_RECEIVED%",
    "response_bytes": "%BYTES_SENT%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "upstream": "%UPSTREAM_CLUSTER%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "request_id": "%REQ(X-REQUEST-ID)%",
}


def _worth_a_line(listener: str, sample: float) -> Iterator[dict[str, Any]]:
    """Every miss and every failure of ours, and a sample of the rest."""
    yield {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {
                "@type": f"{_TYPES}.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                "expression": "upstream.request_attempt_count > 1u",
            },
        }
    }
    yield _comparison("status_code_filter", "GE", 500, "remora.access_log_status")
    if listener == "grpc":
        # The HTTP status of a gRPC answer is 200, whatever it says.
        yield {"grpc_status_filter": {"statuses": list(_GRPC_FAILURES)}}
    yield {
        "runtime_filter": {
            "runtime_key": "remora.access_log_sample",
            "percent_sampled": {
                "numerator": round(sample * _EVERY_REQUEST),
                "denominator": "MILLION",
            },
            # Without it every request that bears one x-request-id is logged, or none is.
            "use_independent_randomness": True,
        }
    }


_GRPC_FAILURES = ("UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")


def _comparison(filter_name: str, operator: str, value: int, key: str) -> dict[str, Any]:
    number = {"default_value": value, "runtime_key": key}
    return {filter_name: {"comparison": {"op": operator, "value": number}}}


def _listener(found: dict[str, Any], name: str) -> dict[str, Any]:
    return _named(found["static_resources"]["listeners"], name)


def _named(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(each for each in found if each["name"] == name)
