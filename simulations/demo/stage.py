"""Sets the stage of the demo and clears it: Triton, the sidecar and Envoy, as in a pod.

Owns the processes, their ports and what they leave on disk. Knows nothing of the traffic, nor of
what is shown of it.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from simulations.testbed.envoy import EnvoyError, EnvoyServer, find_envoy
from simulations.testbed.installation import InstallationError, find
from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.tritonserver import ServerError, TritonServer, free_ports

LOOPBACK = "127.0.0.1"
BUDGET_MIB = 800
METRICS_INTERVAL_S = 0.2
STOP_TIMEOUT_S = 20
LOG_TAIL_CHARS = 2000

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


class Sidecar:
    """The sidecar as a process of its own; it can be killed and started again."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.url = f"http://{LOOPBACK}:{ports.sidecar}"
        self._log_path = directory / "remora.log"
        self._log_path.unlink(missing_ok=True)
        self._environment = os.environ | {
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
        self._process = self._spawn()

    async def wait_ready(self) -> None:
        """Returns when it has seen Triton. Raises DemoError."""
        async with aiohttp.ClientSession(self.url) as session:
            for _ in range(100):
                with contextlib.suppress(OSError, aiohttp.ClientError):
                    async with session.get("/readyz") as answer:
                        if answer.status == 200:
                            return
                if self._process.poll() is not None:
                    break
                await asyncio.sleep(0.1)
        tail = self._log_path.read_text()[-LOG_TAIL_CHARS:]
        raise DemoError(f"the sidecar did not become ready:\n{tail}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Starts it again after its end."""
        self._process = self._spawn()

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log_path.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "daemon.cli", "run"],
                env=self._environment,
                stdout=log,
                stderr=log,
            )


@dataclass(frozen=True, slots=True)
class Stage:
    """The running pod. http_url, grpc_url: Envoy's, where clients come in."""

    directory: Path
    triton: TritonServer
    sidecar: Sidecar
    http_url: str
    grpc_url: str


@contextlib.asynccontextmanager
async def staged(directory: Path, specs: Sequence[ModelSpec]) -> AsyncIterator[Stage]:
    """A pod over ``specs``, ready for traffic, until the end of the block. Raises DemoError."""
    _prepare(directory, specs)
    ports = Ports(*free_ports(9))
    with ExitStack() as running:
        try:
            triton = running.enter_context(await asyncio.to_thread(_start_triton, directory, ports))
            sidecar = running.enter_context(_sidecar(directory, ports))
            running.enter_context(await asyncio.to_thread(_start_envoy, directory, ports))
        except (InstallationError, ServerError, EnvoyError) as error:
            raise DemoError(str(error)) from None
        await sidecar.wait_ready()
        yield Stage(
            directory,
            triton,
            sidecar,
            f"{LOOPBACK}:{ports.front_http}",
            f"{LOOPBACK}:{ports.front_grpc}",
        )


def _prepare(directory: Path, specs: Sequence[ModelSpec]) -> None:
    shutil.rmtree(directory / "repository", ignore_errors=True)
    shutil.rmtree(directory / "state", ignore_errors=True)
    write_repository(directory / "repository", specs)
    (directory / "policy.yaml").write_text(POLICY)


def _start_triton(directory: Path, ports: Ports) -> TritonServer:
    triton = TritonServer.start(
        find(),
        directory / "repository",
        http_port=ports.triton_http,
        grpc_port=ports.triton_grpc,
        metrics_port=ports.triton_metrics,
        log_path=directory / "triton.log",
        metrics_interval_ms=round(1000 * METRICS_INTERVAL_S),
    )
    with ExitStack() as unless_live:
        unless_live.callback(triton.kill)
        triton.wait_live()
        unless_live.pop_all()
    return triton


@contextlib.contextmanager
def _sidecar(directory: Path, ports: Ports) -> Iterator[Sidecar]:
    sidecar = Sidecar(directory, ports)
    try:
        yield sidecar
    finally:
        sidecar.terminate()


def _start_envoy(directory: Path, ports: Ports) -> EnvoyServer:
    envoy = EnvoyServer.start(
        find_envoy(), _bootstrap(directory, ports), log_path=directory / "envoy.log"
    )
    with ExitStack() as unless_live:
        unless_live.callback(envoy.kill)
        envoy.wait_live()
        unless_live.pop_all()
    return envoy


def _bootstrap(directory: Path, ports: Ports) -> str:
    """Envoy's configuration, as the command that users have for it writes it."""
    options = {
        "host": LOOPBACK,
        "http-port": ports.front_http,
        "grpc-port": ports.front_grpc,
        "admin-port": ports.envoy_admin,
        "triton-http": f"{LOOPBACK}:{ports.triton_http}",
        "triton-grpc": f"{LOOPBACK}:{ports.triton_grpc}",
        "door-http": f"{LOOPBACK}:{ports.door_http}",
        "door-grpc": f"{LOOPBACK}:{ports.door_grpc}",
        "access-log": (directory / "access.log").resolve(),
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "daemon.cli", "envoy-config", *arguments]
    written = subprocess.run(command, capture_output=True, text=True, check=False)
    if written.returncode != 0:
        raise DemoError(f"Envoy's configuration could not be written:\n{written.stderr}")
    return written.stdout
