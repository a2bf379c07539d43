"""A real Triton over models written for it, on ports of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.tritonserver import Installation, TritonServer, free_ports


def started(
    installation: Installation,
    folder: Path,
    specs: Sequence[ModelSpec],
    loaded: Iterable[str] = (),
) -> TritonServer:
    """A server over ``specs`` that loads those called ``loaded`` before it is live."""
    write_repository(folder / "models", specs)
    http_port, grpc_port, metrics_port = free_ports(3)
    return TritonServer.start(
        installation,
        folder / "models",
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        log_path=folder / "triton.log",
        extra_args=[f"--load-model={name}" for name in loaded],
    )
