"""Where things are: addresses, paths and ports, from flags and the environment.

Each field is one flag of ``remora run`` and one ``REMORA_*`` variable; the table in the
documentation is generated from here. What is wanted of the models is the policy's.
"""

import re
import socket
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from daemon.gossip.topics import POD, ROOT
from policies.quantities import parse_bytes, parse_seconds

_DURATIONS = ("triton_timeout", "metrics_interval", "leave_deadline", "leave_notice")
# What routers know a pod by: a name, or an address and port; IPv6 in brackets, as they write it.
_PLACE = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LONGEST_PLACE = 256
_SIZES = ("host_memory", "front_door_message", "journal_rotate", "journal_keep")
SHORTEST_NOTICE_S = 3.0
"""The gateway asks for the pods' addresses every two seconds."""

PREFIX = "REMORA_"
"""Of the variables of `remora run`."""


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    triton_grpc: str = _setting("127.0.0.1:8001", "Triton's gRPC address.")
    triton_metrics: str = _setting("http://127.0.0.1:8002/metrics", "Triton's metrics page.")
    triton_timeout: str = _setting("2s", "How long one question to Triton may take.")
    metrics_interval: str = _setting(
        "2s", "How often Triton refreshes its memory gauges (its --metrics-interval-ms)."
    )
    model_repository: Path | None = _setting(
        None, "The model repository as this process sees it; sizes and ensembles are read there."
    )
    policy: Path | None = _setting(None, "The policy file; without one the preset balanced holds.")
    state_directory: Path = _setting(
        Path("/var/lib/remora"), "Where the journal and what was learned are kept."
    )
    host_memory: str = _setting(
        "", "Memory of the device host, where Triton's container has a limit we cannot see."
    )
    http_host: str = _setting("0.0.0.0", "Address our own HTTP port listens on.")
    http_port: int = _setting(9400, "Our own HTTP port.")
    http_certificate: Path | None = _setting(
        None, "TLS certificate our own HTTP port shows, a PEM chain; plain without one."
    )
    http_key: Path | None = _setting(None, "Key of that certificate, PEM.")
    http_client_ca: Path | None = _setting(
        None, "Authorities whose clients may do what the token allows, PEM."
    )
    triton_http: str = _setting("127.0.0.1:8000", "Triton's HTTP address, for the front door.")
    front_door: bool = _setting(True, "Whether the front door is open.")
    front_door_host: str = _setting("0.0.0.0", "Address the front door listens on.")
    front_door_http_port: int = _setting(9410, "The front door's HTTP port.")
    front_door_grpc_port: int = _setting(9411, "The front door's gRPC port.")
    front_door_message: str = _setting("64MiB", "Largest gRPC message the front door takes.")
    front_door_certificate: Path | None = _setting(
        None, "TLS certificate the front door shows to clients, a PEM chain; plain without one."
    )
    front_door_key: Path | None = _setting(None, "Key of that certificate, PEM.")
    token: str = _setting(
        "", "Bearer token for calls that change state; without one only loopback may make them."
    )
    guard_reads: bool = _setting(
        False, "Whether /v1/ is read with the token or a client's certificate only."
    )
    journal_rotate: str = _setting("16MiB", "Size at which the journal's file is rotated.")
    journal_keep: str = _setting("1GiB", "Size of all journal files together.")
    gossip: str = _setting(
        "", "MQTT 5 broker that the fleet's sidecars gossip over, as mqtt://HOST:1883 or mqtts://."
    )
    gossip_credentials: Path | None = _setting(
        None, "File that holds USER:PASSWORD for the broker, one line."
    )
    gossip_ca: Path | None = _setting(
        None,
        "Authorities that the broker's certificate is checked against, PEM; else the system's.",
    )
    gossip_certificate: Path | None = _setting(
        None, "TLS certificate shown to the broker, a PEM chain."
    )
    gossip_key: Path | None = _setting(None, "Key of that certificate, PEM.")
    gossip_root: str = _setting("remora", "First levels of all topics; one for each fleet.")
    gossip_place: str = _setting(
        "", "What the fleet's gateway knows this pod by, as IP:9482; without it what it is called."
    )
    prometheus: str = _setting(
        "", "Prometheus that knows what the whole fleet is asked, as http://HOST:9090 or https://."
    )
    prometheus_credentials: Path | None = _setting(
        None, "File that holds USER:PASSWORD or a bearer token for Prometheus, one line."
    )
    prometheus_ca: Path | None = _setting(
        None, "Authorities that Prometheus' certificate is checked against, PEM; else public ones."
    )
    prometheus_certificate: Path | None = _setting(
        None, "TLS certificate shown to Prometheus, a PEM chain."
    )
    prometheus_key: Path | None = _setting(None, "Key of that certificate, PEM.")
    pod: str = _setting("", "What this pod is called in the fleet; without it the host's name.")
    leave_deadline: str = _setting(
        "25s", "How long a pod that leaves goes on at most; less than its grace period."
    )
    leave_notice: str = _setting(
        "5s",
        "How long it goes on at least, so that Services and gateways have dropped it; from 3s.",
    )
    envoy_admin: str = _setting(
        "",
        "Admin address of the pod's own Envoy, which lets its clients go when the pod leaves, and"
        " tells what it has in hand; without it clients that stay connected hold the pod back.",
    )
    log_format: LogFormat = _setting(LogFormat.TEXT, "How log lines are written.")

    def __post_init__(self) -> None:
        for name in (*_DURATIONS, *_SIZES):
            _amount(self, name)
        if self.journal_keep_bytes < 4 * self.journal_rotate_bytes:
            allowed = f"at least four times {flag('journal_rotate')}, {self.journal_rotate}"
            raise SettingsError("journal_keep", self.journal_keep, allowed)
        for name in ("http_port", "front_door_http_port", "front_door_grpc_port"):
            if not 1 <= getattr(self, name) <= 65535:
                raise SettingsError(name, str(getattr(self, name)), "a port from 1 to 65535")
        for port in ("front_door", "http", "gossip", "prometheus"):
            check_pair(self, f"{port}_certificate", f"{port}_key", SettingsError)
        if self.http_client_ca is not None and self.http_certificate is None:
            allowed = f"only together with {flag('http_certificate')}"
            raise SettingsError("http_client_ca", str(self.http_client_ca), allowed)
        if self.guard_reads and not self.token and self.http_client_ca is None:
            allowed = f"only together with {flag('token')} or {flag('http_client_ca')}"
            raise SettingsError("guard_reads", "true", allowed)
        _check_gossip(self)
        _check_leaving(self)
        _check_prometheus(self)

    @property
    def leave_deadline_s(self) -> float:
        return _amount(self, "leave_deadline")

    @property
    def leave_notice_s(self) -> float:
        return _amount(self, "leave_notice")

    @property
    def pod_name(self) -> str:
        return self.pod or socket.gethostname()

    @property
    def triton_timeout_s(self) -> float:
        return _amount(self, "triton_timeout")

    @property
    def metrics_interval_s(self) -> float:
        return _amount(self, "metrics_interval")

    @property
    def host_memory_bytes(self) -> int | None:
        return int(_amount(self, "host_memory")) if self.host_memory else None

    @property
    def front_door_message_bytes(self) -> int:
        return int(_amount(self, "front_door_message"))

    @property
    def journal_rotate_bytes(self) -> int:
        return int(_amount(self, "journal_rotate"))

    @property
    def journal_keep_bytes(self) -> int:
        return int(_amount(self, "journal_keep"))


class SettingsError(ValueError):
    """A setting that cannot be used: which, what it says, what is allowed."""

    prefix = PREFIX

    def __init__(self, name: str, value: str, allowed: str) -> None:
        place = f"{flag(name)} ({variable(name, self.prefix)})"
        super().__init__(f"{place}: {value!r}; allowed: {allowed}")


def _check_gossip(settings: Settings) -> None:
    if not ROOT.fullmatch(settings.gossip_root):
        raise SettingsError("gossip_root", settings.gossip_root, "levels of a topic, as a/b")
    place = settings.gossip_place
    if place and not (len(place) <= _LONGEST_PLACE and _PLACE.fullmatch(place)):
        raise SettingsError("gossip_place", place, "ADDRESS:PORT, [IPV6]:PORT, or a name")
    if settings.gossip and not POD.fullmatch(settings.pod_name):
        raise SettingsError("pod", settings.pod_name, "letters, digits, '-', '_' and '.'")
    if settings.gossip:
        _check_broker(settings.gossip)
    for name in ("gossip_ca", "gossip_certificate"):
        if getattr(settings, name) is not None and not settings.gossip.startswith("mqtts://"):
            allowed = f"only together with {flag('gossip')} mqtts://HOST"
            raise SettingsError(name, str(getattr(settings, name)), allowed)


def _check_leaving(settings: Settings) -> None:
    if settings.leave_notice_s < SHORTEST_NOTICE_S:
        allowed = f"{SHORTEST_NOTICE_S:g}s or more"
        raise SettingsError("leave_notice", settings.leave_notice, allowed)
    if settings.leave_deadline_s <= settings.leave_notice_s:
        allowed = f"above {flag('leave_notice')}, {settings.leave_notice}"
        raise SettingsError("leave_deadline", settings.leave_deadline, allowed)
    host, _, port = settings.envoy_admin.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 1 <= int(port) <= 65535
    if settings.envoy_admin and not (host and is_port and "/" not in host):
        raise SettingsError("envoy_admin", settings.envoy_admin, "HOST:PORT, as 127.0.0.1:9490")


def _check_broker(url: str) -> None:
    allowed = "mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"
    if not _is_plain(url, ("mqtt", "mqtts")) or urlsplit(url).path.strip("/"):
        raise SettingsError("gossip", _shown(url), allowed)


def _check_prometheus(settings: Settings) -> None:
    url = settings.prometheus
    if url and not _is_plain(url, ("http", "https")):
        raise SettingsError("prometheus", _shown(url), "http://HOST[:PORT][/PATH] or https://…")
    for name in ("prometheus_credentials", "prometheus_ca", "prometheus_certificate"):
        if getattr(settings, name) is not None and not url:
            allowed = f"only together with {flag('prometheus')}"
            raise SettingsError(name, str(getattr(settings, name)), allowed)
    for name in ("prometheus_ca", "prometheus_certificate"):
        if getattr(settings, name) is not None and not url.startswith("https://"):
            allowed = f"only together with {flag('prometheus')} https://HOST"
            raise SettingsError(name, str(getattr(settings, name)), allowed)


def _is_plain(url: str, schemes: tuple[str, ...]) -> bool:
    """Whether ``url`` names a host by one of ``schemes``, and holds neither user nor query."""
    try:
        parts = urlsplit(url)
        named = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return named and "@" not in url and not (parts.query or parts.fragment)


def _shown(url: str) -> str:
    """A password written here would stand in the process list, and has no place in an error."""
    return re.sub(r"//.*@", "//…@", url)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable(name: str, prefix: str = PREFIX) -> str:
    return prefix + name.upper()


def table(kind: Any, prefix: str = PREFIX) -> list[tuple[str, str, str, str]]:
    """Flag, variable, default and meaning of every setting of the dataclass ``kind``."""
    return [
        (
            flag(each.name),
            variable(each.name, prefix),
            "" if each.default in (MISSING, None) else str(each.default),
            each.metadata["help"],
        )
        for each in fields(kind)
    ]


def check_pair(settings: Any, certificate: str, key: str, error: type[SettingsError]) -> None:
    """Raises ``error`` when one of the two is given without the other."""
    if (getattr(settings, certificate) is None) != (getattr(settings, key) is None):
        missing = certificate if getattr(settings, certificate) is None else key
        raise error(missing, "", "both a certificate and its key, or neither")


def _amount(settings: Settings, name: str) -> float:
    written = getattr(settings, name)
    read, allowed = (
        (parse_seconds, "a duration above 0s, as 2s or 500ms")
        if name in _DURATIONS
        else (parse_bytes, "an amount of memory above 0, as 32MiB or 1GiB")
    )
    if name == "host_memory" and not written:
        return 0
    try:
        # A number without a unit is bytes or seconds: the downward API knows no units.
        amount = read(written)
    except ValueError:
        amount = 0
    if amount <= 0:
        raise SettingsError(name, written, allowed)
    return amount
