"""The front door as a whole: its two servers, put together, opened and closed.

Owns the listening and TLS.
"""

import asyncio
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
from aiohttp import web
from grpc import aio

from daemon.frontdoor.gate import Gate
from daemon.frontdoor.grpc import GrpcDoor
from daemon.frontdoor.http import HttpDoor
from daemon.frontdoor.sequences import Sequences
from daemon.frontdoor.visits import Visits
from daemon.triton import Triton

log = logging.getLogger("remora.door")

# How long requests under way may go on when the sidecar is told to stop.
GRACE_S = 5.0
_MANY = 1_000_000


class DoorError(RuntimeError):
    """The front door cannot be opened here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the door listens, and what lies behind it; all as ``host:port`` or a port.

    certificate, key: PEM files for TLS towards clients; plain without them.
    message_bytes: the largest gRPC message.
    """

    host: str
    http_port: int
    grpc_port: int
    triton_http: str
    triton_grpc: str
    message_bytes: int
    certificate: Path | None = None
    key: Path | None = None


class Door:
    """Both servers. Open from `open` to `close`."""

    def __init__(
        self, address: Address, gate: Gate, triton: Triton, visits: Visits, sequences: Sequences
    ) -> None:
        self._address = address
        self._gate = gate
        self._http = HttpDoor(gate, triton, address.triton_http, visits, sequences)
        self._grpc = GrpcDoor(gate, triton, address.triton_grpc, visits, sequences)
        self._runner = web.ServerRunner(self._http.server(), shutdown_timeout=GRACE_S)
        self._server = aio.server(
            handlers=(self._grpc,),
            options=(
                ("grpc.max_receive_message_length", address.message_bytes),
                ("grpc.max_send_message_length", -1),
                # Beyond these gRPC cancels calls by itself, without a word. We bound who waits.
                ("grpc.server.max_pending_requests", _MANY),
                ("grpc.server.max_pending_requests_hard_limit", _MANY),
                # A second process on the port would get half the requests.
                ("grpc.so_reuseport", 0),
            ),
        )

    async def open(self) -> None:
        """Listens. Raises DoorError."""
        address = self._address
        tls = self._certificate()
        await self._runner.setup()
        site = web.TCPSite(
            self._runner,
            address.host,
            address.http_port,
            ssl_context=_for_http(address) if tls else None,
            backlog=1024,
        )
        try:
            await site.start()
        except OSError as error:
            place = f"{address.host}:{address.http_port}"
            raise DoorError(f"cannot listen on {place}: {error.strerror}") from None
        place = f"{address.host}:{address.grpc_port}"
        try:
            if tls:
                self._server.add_secure_port(place, grpc.ssl_server_credentials([tls]))
            else:
                self._server.add_insecure_port(place)
        except RuntimeError as error:
            raise DoorError(f"cannot listen on {place}: {error}") from None
        await self._server.start()
        log.info("front door on %s, HTTP %d, gRPC %d", *_place(address))

    async def close(self) -> None:
        self._gate.close()
        await asyncio.gather(self._server.stop(GRACE_S), self._runner.cleanup())
        await self._http.close()
        await self._grpc.close()

    def _certificate(self) -> tuple[bytes, bytes] | None:
        certificate, key = self._address.certificate, self._address.key
        if certificate is None or key is None:
            return None
        try:
            return key.read_bytes(), certificate.read_bytes()
        except OSError as error:
            raise DoorError(f"{error.filename}: {error.strerror}") from None


def _for_http(address: Address) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(str(address.certificate), str(address.key))
    except (ssl.SSLError, OSError) as error:
        raise DoorError(f"{address.certificate}, {address.key}: {error}") from None
    return context


def _place(address: Address) -> tuple[str, int, int]:
    return address.host, address.http_port, address.grpc_port
