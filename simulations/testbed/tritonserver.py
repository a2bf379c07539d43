"""Runs a real tritonserver on this machine's loopback, and ends it as a kubelet would.

Owns one server process with the stubs of its models: start, death, memory. Knows nothing of what
the models compute, nor of who loads them.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from simulations.testbed.installation import Installation, InstallationError, find
from simulations.testbed.processes import command_line, private_bytes, session_members

__all__ = ["Installation", "InstallationError", "ServerError", "TritonServer", "find", "free_ports"]

LOOPBACK = "127.0.0.1"
SHARED_MEMORY = Path("/dev/shm")
STUB = "triton_python_backend_stub"
LIVE_POLL_S = 0.05
SWEEP_TIMEOUT_S = 10.0
LOG_TAIL_BYTES = 4000


class ServerError(RuntimeError):
    """The server died, or did not become live in time; the message ends with its log's tail."""


class TritonServer:
    """One tritonserver in explicit model control; a context manager that terminates it.

    A container's death takes every process in it. So the server leads a session of its own, and
    when it goes, by whatever road, the stubs left in that session go with it.
    """

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
        self._command = tuple(command)
        self._environment = dict(environment)
        self._log_path = log_path
        self._shared_memory_prefix = shared_memory_prefix
        self._process = self._spawn()

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

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_live(self, timeout_s: float = 20.0) -> None:
        """Returns when the server answers that it is live. Raises ServerError."""
        deadline_s = time.monotonic() + timeout_s
        while not self._answers_live():
            if not self.is_running:
                self._fail(f"exited with status {self._process.returncode} at start")
            if time.monotonic() > deadline_s:
                self._fail(f"was not live after {timeout_s:g} s")
            time.sleep(LIVE_POLL_S)

    def terminate(self, timeout_s: float = 40.0) -> None:
        """SIGTERM, and a kill after `timeout_s`; Triton itself gives running requests 30 s."""
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._end()

    def kill(self) -> None:
        """SIGKILL, as the kernel's memory killer would send; the stubs die with the server."""
        self._process.kill()
        self._end()

    def restart(self, timeout_s: float = 40.0) -> None:
        """Ends what still runs, then starts the same command: no model is loaded after it."""
        self.terminate(timeout_s)
        self._process = self._spawn()

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.terminate()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log_path.open("ab") as log:
            return subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _end(self) -> None:
        """Reaps the server and removes what it can no longer remove itself."""
        self._process.wait()
        deadline_s = time.monotonic() + SWEEP_TIMEOUT_S
        while members := session_members(self.pid):
            if time.monotonic() > deadline_s:
                raise ServerError(f"processes {members} of tritonserver outlived SIGKILL")
            for pid in members:
                _kill_if_there(pid)
            time.sleep(0.01)
        for region in SHARED_MEMORY.glob(f"{self._shared_memory_prefix}*"):
            region.unlink(missing_ok=True)

    def _answers_live(self) -> bool:
        connection = http.client.HTTPConnection(self.http_url, timeout=1.0)
        try:
            connection.request("GET", "/v2/health/live")
            return connection.getresponse().status == 200 and self.is_running
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _fail(self, what: str) -> NoReturn:
        tail = self._log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        raise ServerError(f"tritonserver {what}; the end of {self._log_path}:\n{tail}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all are held until the last is drawn, so they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]


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
