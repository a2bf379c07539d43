"""A name server on the loopback, with one name for all pods, as a headless Service is."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

NAME = "triton.fleet.test"
_ADDRESS_RECORD = 1
_HEADER_BYTES = 12
_ANSWER_FLAGS = 0x8180


@dataclass
class Names:
    """addresses: what NAME means, to be changed at will."""

    port: int
    addresses: list[str] = field(default_factory=list)

    def resolver(self) -> dict[str, Any]:
        """Makes an Envoy ask here, and nowhere else."""
        address = {"address": "127.0.0.1", "port_value": self.port}
        return {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3"
                ".CaresDnsResolverConfig",
                "resolvers": [{"socket_address": address}],
                "dns_resolver_options": {"no_default_search_domain": True},
            },
        }

    def answer(self, query: bytes) -> bytes:
        """Every address to a question for addresses, and nothing to any other."""
        end = query.index(b"\0", _HEADER_BYTES) + 5
        (kind,) = struct.unpack("!H", query[end - 4 : end - 2])
        found = self.addresses if kind == _ADDRESS_RECORD else []
        header = query[:2] + struct.pack("!5H", _ANSWER_FLAGS, 1, len(found), 0, 0)
        # The name is a pointer to the question's; the record lives for a second.
        records = b"".join(
            struct.pack("!3HIH", 0xC00C, _ADDRESS_RECORD, 1, 1, 4) + socket.inet_aton(address)
            for address in found
        )
        return header + query[_HEADER_BYTES:end] + records


@contextmanager
def names() -> Iterator[Names]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.settimeout(0.1)
        served = Names(bound.getsockname()[1])
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    query, client = bound.recvfrom(512)
                except TimeoutError:
                    continue
                bound.sendto(served.answer(query), client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield served
        finally:
            over.set()
            thread.join()
