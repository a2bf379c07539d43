"""Sets the stage of the demo and clears it: Triton, the sidecar and Envoy, as in a pod.

Owns the processes, their ports and what they leave on disk. Knows nothing of the traffic, nor of
what is shown of it.
"""

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from simulations.testbed.envoy import EnvoyServer, find_envoy, written_bootstrap
from simulations.testbed.installation import InstallationError, find
from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.server import Server, ServerError, page
from simulations.testbed.tritonserver import TritonServer, free_ports

LOOPBACK = "127.0.0.1"
BUDGET_MIB = 800
METRICS_INTERVAL_S = 0.2

# A minute shows what takes hours in production, so everything slow is made quick.
POLICY = f"""\
# The demo's policy: a third of what the models would need together.
preset: latency-first
budget: {BUDGET_MIB}MiB
tick: 500ms
horizon: 30s
demand: {{fast: 10s, slow: 60s}}
residency: {{minimum: 3s, cooldown: 1s, hysteresis: 0.25}}
loads: {{concurrent: 2}}
footprints: {{file_factor: 1.1}}
models:
  fraud: {{pin: true}}
"""


class DemoError(RuntimeError):
    """The demo cannot be played here."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everyone listens, on loopback. front: Envoy. door: the sidecar, behind it."""

    triton_http: int
    triton_grpc: int
    triton_metrics: int
    sidecar: int
    door_http: int
    door_grpc: int
    front_http: int
    front_grpc: int
    envoy_admin: int


class Sidecar(Server):
    """The sidecar as a process of its own; live is one that has seen Triton."""

    name = "the sidecar"

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.url = f"http://{LOOPBACK}:{ports.sidecar}"
        self._address = f"{LOOPBACK}:{ports.sidecar}"
        log_path = directory / "remora.log"
        log_path.unlink(missing_ok=True)
        environment = os.environ | {
            "REMORA_TRITON_GRPC": f"{LOOPBACK}:{ports.triton_grpc}",
            "REMORA_TRITON_HTTP": f"{LOOPBACK}:{ports.triton_http}",
            "REMORA_TRITON_METRICS": f"http://{LOOPBACK}:{ports.triton_metrics}/metrics",
            "REMORA_MODEL_REPOSITORY": str(directory / "repository"),
            "REMORA_POLICY": str(directory / "policy.yaml"),
            "REMORA_STATE_DIRECTORY": str(directory / "state"),
            "REMORA_METRICS_INTERVAL": f"{METRICS_INTERVAL_S}s",
            "REMORA_HTTP_HOST": LOOPBACK,
            "REMORA_HTTP_PORT": str(ports.sidecar),
            "REMORA_FRONT_DOOR_HOST": LOOPBACK,
            "REMORA_FRONT_DOOR_HTTP_PORT": str(ports.door_http),
            "REMORA_FRONT_DOOR_GRPC_PORT": str(ports.door_grpc),
        }
        command = (sys.executable, "-m", "daemon.cli", "run")
        super().__init__(command, log_path=log_path, environment=environment)

    def answers_live(self) -> bool:
        return page(self._address, "/readyz") is not None


@dataclass(frozen=True, slots=True)
class Stage:
    """The running pod. http_url, grpc_url: Envoy's, where clients come in."""

    directory: Path
    triton: TritonServer
    sidecar: Sidecar
    http_url: str
    grpc_url: str


@contextlib.asynccontextmanager
async def staged(
    directory: Path, specs: Sequence[ModelSpec], policy: str = POLICY
) -> AsyncIterator[Stage]:
    """A pod over ``specs``, ready for traffic, until the end of the block. Raises DemoError."""
    _prepare(directory, specs, policy)
    ports = Ports(*free_ports(9))
    with ExitStack() as running:
        try:
            triton = running.enter_context(_triton(directory, ports))
            await asyncio.to_thread(triton.wait_live)
            sidecar = running.enter_context(Sidecar(directory, ports))
            envoy = running.enter_context(_envoy(directory, ports))
            await asyncio.to_thread(envoy.wait_live)
            await asyncio.to_thread(sidecar.wait_live)
        except (InstallationError, ServerError) as error:
            raise DemoError(str(error)) from None
        yield Stage(
            directory,
            triton,
            sidecar,
            f"{LOOPBACK}:{ports.front_http}",
            f"{LOOPBACK}:{ports.front_grpc}",
        )


def _prepare(directory: Path, specs: Sequence[ModelSpec], policy: str) -> None:
    shutil.rmtree(directory / "repository", ignore_errors=True)
    shutil.rmtree(directory / "state", ignore_errors=True)
    write_repository(directory / "repository", specs)
    (directory / "policy.yaml").write_text(policy)


def _triton(directory: Path, ports: Ports) -> TritonServer:
    return TritonServer.start(
        find(),
        directory / "repository",
        http_port=ports.triton_http,
        grpc_port=ports.triton_grpc,
        metrics_port=ports.triton_metrics,
        log_path=directory / "triton.log",
        metrics_interval_ms=round(1000 * METRICS_INTERVAL_S),
    )


def _envoy(directory: Path, ports: Ports) -> EnvoyServer:
    bootstrap = written_bootstrap(
        host=LOOPBACK,
        http_port=ports.front_http,
        grpc_port=ports.front_grpc,
        admin_port=ports.envoy_admin,
        triton_http=f"{LOOPBACK}:{ports.triton_http}",
        triton_grpc=f"{LOOPBACK}:{ports.triton_grpc}",
        door_http=f"{LOOPBACK}:{ports.door_http}",
        door_grpc=f"{LOOPBACK}:{ports.door_grpc}",
        access_log=(directory / "access.log").resolve(),
    )
    return EnvoyServer.start(find_envoy(), bootstrap, log_path=directory / "envoy.log")
