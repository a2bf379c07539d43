"""What the bootstraps of both our Envoys share: the pod's own, and the gateway before all pods.

Owns their options' checks and the reading and writing of a template. Refuses to know what either
of them routes.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol

import yaml

from policies.quantities import parse_bytes

_DEPLOY = Path(__file__).parents[1] / "deploy"
_MEBIBYTE = 2**20
# gRPC allows no larger message, and no tensor over HTTP has been seen near it.
_LARGEST_BODY_BYTES = 2**31
_MOST_MEMORY_BYTES = 2**50


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
        try:
            ip_address(self.host)
        except ValueError:
            return True
        return False

    @property
    def socket(self) -> dict[str, Any]:
        return {"socket_address": {"address": self.host, "port_value": self.port}}


class Options(Protocol):
    """The options that both have; amounts of memory carry a unit, as people write them."""

    @property
    def host(self) -> str: ...
    @property
    def admin_port(self) -> int: ...
    @property
    def body_cap(self) -> str: ...
    @property
    def memory(self) -> str: ...


def check_host(host: str) -> None:
    if Address(host, 0).is_name:
        raise EnvoyOptionError("host", host, "an IP address, as 0.0.0.0 or 127.0.0.1")


def check_ports(options: Options, names: Collection[str], optional: Collection[str]) -> None:
    """Each of the options ``names`` is a port of its own; the ``optional`` ones may be 0."""
    taken: list[int] = []
    for name in names:
        port = getattr(options, name)
        if name in optional and port == 0:
            continue
        if not 1 <= port <= 65535:
            note = ", or 0 for none" if name in optional else ""
            raise EnvoyOptionError(name, port, f"a port from 1 to 65535{note}")
        if port in taken:
            raise EnvoyOptionError(name, port, "a port that no other listener has")
        taken.append(port)


def check_memory(options: Options) -> None:
    memory_bytes = parsed_amount("memory", options.memory)
    # An idle Envoy holds some 10 MiB of heap; with little more it would refuse everything.
    if not 64 * _MEBIBYTE <= memory_bytes <= _MOST_MEMORY_BYTES:
        raise EnvoyOptionError("memory", options.memory, "from 64MiB to 1024TiB")
    highest = min(_LARGEST_BODY_BYTES, memory_bytes)
    if not 1 <= parsed_amount("body_cap", options.body_cap) <= highest:
        allowed = f"from 1B to 2GiB, and not above --memory, {options.memory}"
        raise EnvoyOptionError("body_cap", options.body_cap, allowed)


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
        allowed = "an amount of memory, as 32MiB or 1GiB"
        raise EnvoyOptionError(name, written, allowed) from None


def read_template(name: str, package: Path) -> dict[str, Any]:
    """The template of this name, parsed; what its anchors share is shared.

    An installed wheel carries it as data of ``package``; a checkout has it where operators look.
    """
    path = next(path for path in (package / name, _DEPLOY / name) if path.is_file())
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def as_yaml(found: Mapping[str, Any]) -> str:
    """The bootstrap as YAML, without the template's comments."""
    return yaml.dump(found, Dumper=_Plain, sort_keys=False, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Writes out whatever the template shares by anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def manager(listener: Mapping[str, Any]) -> dict[str, Any]:
    """The HTTP connection manager, which is the one filter of each of our listeners."""
    (chain,) = listener["filter_chains"]
    (filter_,) = chain["filters"]
    config: dict[str, Any] = filter_["typed_config"]
    return config


def hosts(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The virtual hosts of all listeners."""
    for listener in found["static_resources"]["listeners"]:
        yield from manager(listener)["route_config"]["virtual_hosts"]


def limit_memory(found: Mapping[str, Any], options: Options) -> None:
    for host in hosts(found):
        host["request_body_buffer_limit"] = parsed_amount("body_cap", options.body_cap)
    (heap,) = found["overload_manager"]["resource_monitors"]
    heap["typed_config"]["max_heap_size_bytes"] = parsed_amount("memory", options.memory)


def place_admin(found: dict[str, Any], options: Options) -> None:
    if options.admin_port:
        found["admin"]["address"]["socket_address"]["port_value"] = options.admin_port
    else:
        del found["admin"]
