"""Runs a real tritonserver on this machine's loopback, and ends it as a kubelet would.

Owns one server process with the stubs of its models: start, death, memory. Knows nothing of what
the models compute, nor of who loads them.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Self

from simulations.testbed.installation import Installation, InstallationError, find
from simulations.testbed.processes import command_line, private_bytes, session_members
from simulations.testbed.server import Server, ServerError, page

__all__ = ["Installation", "InstallationError", "ServerError", "TritonServer", "find", "free_ports"]

LOOPBACK = "127.0.0.1"
CLIENT_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST_PORT = 10_240
SHARED_MEMORY = Path("/dev/shm")
STUB = "triton_python_backend_stub"
SWEEP_TIMEOUT_S = 10.0


class TritonServer(Server):
    """One tritonserver in explicit model control.

    A container's death takes every process in it. So the server leads a session of its own, and
    when it goes, by whatever road, the stubs left in that session go with it.
    """

    name = "tritonserver"
    # Triton itself gives running requests 30 s.
    ends_within_s = 40.0

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        http_port: int,
        grpc_port: int,
        log_path: Path,
        shared_memory_prefix: str,
    ) -> None:
        self.http_url = f"{LOOPBACK}:{http_port}"
        self.grpc_url = f"{LOOPBACK}:{grpc_port}"
        self._shared_memory_prefix = shared_memory_prefix
        super().__init__(command, log_path=log_path, environment=environment)

    @classmethod
    def start(
        cls,
        installation: Installation,
        repository: Path,
        *,
        http_port: int,
        grpc_port: int,
        metrics_port: int,
        log_path: Path,
        metrics_interval_ms: int = 1000,
        extra_args: Sequence[str] = (),
    ) -> Self:
        """Starts the server and returns at once; `wait_live` waits for it.

        `extra_args` come last, so that they override. The log is appended to.
        """
        # The process's own name for its stubs' regions: after a kill nobody else removes them.
        prefix = f"remora_testbed_{os.getpid()}_{grpc_port}_"
        command = (
            str(installation.binary),
            f"--model-repository={repository.resolve()}",
            "--model-control-mode=explicit",
            "--strict-readiness=false",
            "--disable-auto-complete-config",
            f"--backend-directory={installation.backend_directory}",
            f"--backend-config=python,shm-region-prefix-name={prefix}",
            f"--http-address={LOOPBACK}",
            f"--http-port={http_port}",
            f"--grpc-address={LOOPBACK}",
            f"--grpc-port={grpc_port}",
            f"--metrics-address={LOOPBACK}",
            f"--metrics-port={metrics_port}",
            f"--metrics-interval-ms={metrics_interval_ms}",
            *extra_args,
        )
        return cls(
            command,
            environment=_environment(installation),
            http_port=http_port,
            grpc_port=grpc_port,
            log_path=log_path,
            shared_memory_prefix=prefix,
        )

    def stub_pids(self) -> dict[str, list[int]]:
        """The processes of every model's instances; models of other backends have none."""
        found: dict[str, list[int]] = {}
        for pid in session_members(self.pid):
            model = _model_of_stub(command_line(pid))
            if model is not None:
                found.setdefault(model, []).append(pid)
        return dict(sorted(found.items()))

    def resident_bytes(self) -> dict[str, int]:
        """What each model's stubs hold for themselves, file pages not counted."""
        return {
            model: sum(private_bytes(pid) or 0 for pid in pids)
            for model, pids in self.stub_pids().items()
        }

    def answers_live(self) -> bool:
        return page(self.http_url, "/v2/health/live") is not None and self.is_running

    def _end(self) -> None:
        """Reaps the server and removes what it can no longer remove itself."""
        super()._end()
        deadline_s = time.monotonic() + SWEEP_TIMEOUT_S
        while members := session_members(self.pid):
            if time.monotonic() > deadline_s:
                raise ServerError(f"processes {members} of tritonserver outlived SIGKILL")
            for pid in members:
                _kill_if_there(pid)
            time.sleep(0.01)
        for region in SHARED_MEMORY.glob(f"{self._shared_memory_prefix}*"):
            region.unlink(missing_ok=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different.

    They lie below those that the kernel lends to clients, so that a server which is away for a
    while finds its own still free.
    """
    ports = list(range(LOWEST_PORT, int(CLIENT_PORTS.read_text().split()[0])))
    random.SystemRandom().shuffle(ports)
    free = (port for port in ports if _is_free(port))
    return list(islice(free, count))


def _is_free(port: int) -> bool:
    with socket.socket() as trying:
        # One that a server has just left counts as free, as it does for the next server.
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trying.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _environment(installation: Installation) -> dict[str, str]:
    """Ours without what would reach into the Python that the stubs embed."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name != "VIRTUAL_ENV"
    }
    # A thread pool per stub would cost more than the models' arithmetic.
    return {**inherited, "PATH": installation.path_env, "OPENBLAS_NUM_THREADS": "1"}


def _model_of_stub(arguments: Sequence[str]) -> str | None:
    """The name of the model, from the path of its model.py: REPOSITORY/NAME/VERSION/model.py."""
    if len(arguments) < 2 or Path(arguments[0]).name != STUB:
        return None
    return Path(arguments[1]).parents[1].name


def _kill_if_there(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
