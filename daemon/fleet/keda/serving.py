"""The gRPC port of KEDA's external scaler.

Owns the port, its bounds, and its certificate, which is read again when its files change.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from daemon.fleet.keda.messages import MESSAGES, SERVICE
from daemon.fleet.keda.scaler import Scaler

# A ScaledObject's metadata, and a client that never asks for more at once than a cluster holds.
_LARGEST_MESSAGE_BYTES = 64 * 1024
_MOST_CALLS = 4096


class KedaError(RuntimeError):
    """The port cannot be opened here."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """All PEM; with `ca` the client must show a certificate that it signed."""

    chain: Path
    key: Path
    ca: Path | None = None


async def listen(scaler: Scaler, host: str, port: int, certificate: Certificate | None) -> Any:
    """A server that has started; stop it. Raises KedaError."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", _LARGEST_MESSAGE_BYTES),
            # Two processes on one port would each get a part of the calls.
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=_MOST_CALLS,
    )
    server.add_generic_rpc_handlers((_handlers(scaler),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if certificate is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, _credentials(certificate))
        await server.start()
    except (RuntimeError, OSError) as error:
        raise KedaError(f"cannot listen on {address}: {error}") from None
    return server


def _handlers(scaler: Scaler) -> "grpc.GenericRpcHandler[Any, Any]":
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    reference, asking = MESSAGES["ScaledObjectRef"], MESSAGES["GetMetricsRequest"]
    methods: Mapping[str, tuple[Any, Any, Any]] = {
        "IsActive": (unary, scaler.is_active, reference),
        "StreamIsActive": (stream, scaler.stream_is_active, reference),
        "GetMetricSpec": (unary, scaler.get_metric_spec, reference),
        "GetMetrics": (unary, scaler.get_metrics, asking),
    }
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            name: kind(
                method,
                request_deserializer=request.FromString,
                response_serializer=lambda answer: answer.SerializeToString(),
            )
            for name, (kind, method, request) in methods.items()
        },
    )


def _credentials(certificate: Certificate) -> grpc.ServerCredentials:
    """Looked at again with each handshake, so a renewed certificate needs no restart."""
    known = _marks(certificate)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal known
        marks = _marks(certificate)
        if marks == known:
            return None
        try:
            configuration = _configuration(certificate)
        except OSError:
            # Half written: what was read last holds until it is whole.
            return None
        known = marks
        return configuration

    return grpc.dynamic_ssl_server_credentials(
        _configuration(certificate),
        changed,  # type: ignore[arg-type]  # None says that nothing changed
        require_client_authentication=certificate.ca is not None,
    )


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    pair = certificate.key.read_bytes(), certificate.chain.read_bytes()
    ca = certificate.ca.read_bytes() if certificate.ca else None
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=ca)


def _marks(certificate: Certificate) -> tuple[tuple[int, int] | None, ...]:
    marks: list[tuple[int, int] | None] = []
    for path in (certificate.chain, certificate.key, certificate.ca):
        try:
            stat = path.stat() if path else None
        except OSError:
            stat = None
        marks.append((stat.st_ino, stat.st_mtime_ns) if stat else None)
    return tuple(marks)
