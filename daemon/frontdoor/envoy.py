"""The bootstrap of Envoy for given ports: the template in deploy/, edited as the options say.

Owns what of the template an option changes. Refuses to know how the routing works, which the
template itself explains, and how Envoy is started.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

import yaml

from policies.quantities import parse_bytes

# An installed wheel carries the template as package data; a checkout has it where operators look.
_TEMPLATES = (
    Path(__file__).with_name("envoy.yaml"),
    Path(__file__).parents[2] / "deploy" / "envoy.yaml",
)
_FRONT = ("http", "grpc")
_MEBIBYTE = 2**20
# gRPC allows no larger message, and no tensor over HTTP has been seen near it.
_LARGEST_BODY_BYTES = 2**31
_MOST_MEMORY_BYTES = 2**50
_EVERY_REQUEST = 1_000_000
_TYPES = "type.googleapis.com/envoy"


class EnvoyOptionError(ValueError):
    """An option that cannot be used: which, what it says, what is allowed."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"--{name.replace('_', '-')}: {str(value)!r}; allowed: {allowed}")


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    @property
    def is_name(self) -> bool:
        """Whether the host has to be looked up, as `localhost` and unlike `127.0.0.1`."""
        return not _is_ip(self.host)


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
        if not _is_ip(self.host):
            raise EnvoyOptionError("host", self.host, "an IP address, as 0.0.0.0 or 127.0.0.1")
        self._check_ports()
        for name in ("triton_http", "triton_grpc", "door_http", "door_grpc"):
            self.address(name)
        self._check_memory()
        self._check_tls()
        if not 0 <= self.access_log_sample <= 1:
            raise EnvoyOptionError(
                "access_log_sample", self.access_log_sample, "a share of the requests from 0 to 1"
            )

    @property
    def body_cap_bytes(self) -> int:
        return parsed_amount("body_cap", self.body_cap)

    @property
    def memory_bytes(self) -> int:
        return parsed_amount("memory", self.memory)

    def address(self, name: str) -> Address:
        """The option `name` taken apart."""
        return parsed_address(name, str(getattr(self, name)))

    def _check_ports(self) -> None:
        taken: list[int] = []
        for name in ("http_port", "grpc_port", "admin_port", "fleet_port"):
            port = getattr(self, name)
            may_be_none = name in ("admin_port", "fleet_port")
            if may_be_none and port == 0:
                continue
            if not 1 <= port <= 65535:
                note = ", or 0 for none" if may_be_none else ""
                raise EnvoyOptionError(name, port, f"a port from 1 to 65535{note}")
            if port in taken:
                raise EnvoyOptionError(name, port, "a port that no other listener has")
            taken.append(port)

    def _check_memory(self) -> None:
        # An idle Envoy holds some 10 MiB of heap; with little more it would refuse everything.
        if not 64 * _MEBIBYTE <= self.memory_bytes <= _MOST_MEMORY_BYTES:
            raise EnvoyOptionError("memory", self.memory, "from 64MiB to 1024TiB")
        highest = min(_LARGEST_BODY_BYTES, self.memory_bytes)
        if not 1 <= self.body_cap_bytes <= highest:
            allowed = f"from 1B to 2GiB, and not above --memory, {self.memory}"
            raise EnvoyOptionError("body_cap", self.body_cap, allowed)

    def _check_tls(self) -> None:
        if (self.tls_certificate is None) == (self.tls_key is None):
            return
        missing = "tls_key" if self.tls_key is None else "tls_certificate"
        raise EnvoyOptionError(
            missing, "", "a path, for --tls-certificate and --tls-key are a pair"
        )


def parsed_address(name: str, written: str) -> Address:
    """HOST:PORT taken apart, as the option `name` has it; raises EnvoyOptionError."""
    host, colon, port = written.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    known = bool(colon and host) and port.isascii() and port.isdigit()
    if not known or not 1 <= int(port) <= 65535:
        raise EnvoyOptionError(name, written, "HOST:PORT, as 127.0.0.1:8000")
    return Address(host, int(port))


def parsed_amount(name: str, written: str) -> int:
    """Bytes, as the option `name` has them; raises EnvoyOptionError."""
    try:
        return parse_bytes(written)
    except ValueError:
        _refuse_amount(name, written)


def bootstrap(options: EnvoyOptions) -> str:
    """The bootstrap as YAML, without the template's comments."""
    found = template()
    _place_listeners(found, options)
    _place_clusters(found, options)
    _limit_memory(found, options)
    _place_admin(found, options)
    if options.tls_certificate is not None and options.tls_key is not None:
        _encrypt(found, options.tls_certificate, options.tls_key)
    if options.access_log is not None:
        _log_access(found, options.access_log, options.access_log_sample)
    if options.fleet_port:
        _serve_fleet(found, Address(options.host, options.fleet_port))
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


def _place_listeners(found: dict[str, Any], options: EnvoyOptions) -> None:
    for name, port in (("http", options.http_port), ("grpc", options.grpc_port)):
        _listener(found, name)["address"] = _socket(Address(options.host, port))


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
        endpoint["endpoint"]["address"] = _socket(address)


def _limit_memory(found: dict[str, Any], options: EnvoyOptions) -> None:
    for listener in found["static_resources"]["listeners"]:
        for host in _manager(listener)["route_config"]["virtual_hosts"]:
            host["request_body_buffer_limit"] = options.body_cap_bytes
            for route in host["routes"]:
                for header in route["match"].get("headers", ()):
                    header["range_match"]["start"] = options.body_cap_bytes + 1
    (heap,) = found["overload_manager"]["resource_monitors"]
    heap["typed_config"]["max_heap_size_bytes"] = options.memory_bytes


def _place_admin(found: dict[str, Any], options: EnvoyOptions) -> None:
    if options.admin_port:
        found["admin"]["address"]["socket_address"]["port_value"] = options.admin_port
    else:
        del found["admin"]


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
    protocol would have a pod for each.
    """
    http, grpc = (
        {"filters": _listener(found, name)["filter_chains"][0]["filters"]} for name in _FRONT
    )
    found["static_resources"]["listeners"].append(
        {
            "name": "fleet",
            "address": _socket(address),
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


def _log_access(found: dict[str, Any], path: Path, sample: float) -> None:
    for name in _FRONT:
        _manager(_listener(found, name))["access_log"] = [
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


def _socket(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _listener(found: dict[str, Any], name: str) -> dict[str, Any]:
    return _named(found["static_resources"]["listeners"], name)


def _manager(listener: dict[str, Any]) -> dict[str, Any]:
    """The HTTP connection manager, which is the one filter of each of our listeners."""
    (chain,) = listener["filter_chains"]
    (filter_,) = chain["filters"]
    config: dict[str, Any] = filter_["typed_config"]
    return config


def _named(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(each for each in found if each["name"] == name)


def _refuse_amount(name: str, written: str) -> NoReturn:
    raise EnvoyOptionError(name, written, "an amount of memory, as 32MiB or 1GiB")


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
