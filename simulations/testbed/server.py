"""One server process on this machine's loopback: start, life, death, and start again.

Owns the process and its log. Knows nothing of what it serves: how it answers that it is live is
each server's own.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

LIVE_POLL_S = 0.05
LOG_TAIL_BYTES = 4000


class ServerError(RuntimeError):
    """The server died, or did not become live in time; the message ends with its log's tail."""


def page(address: str, path: str) -> bytes | None:
    """What `address`, host:port, answers to a GET; None unless it is a 200."""
    connection = http.client.HTTPConnection(address, timeout=2.0)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read() if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Server(ABC):
    """A process from its start on; a context manager that terminates it. The log is appended to."""

    name: str
    error: type[RuntimeError] = ServerError
    ends_within_s: float = 20.0
    """How long it may take to end when asked; then it is killed."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_path: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = tuple(command)
        self._log_path = log_path
        self._environment = dict(os.environ if environment is None else environment)
        self._process = self._spawn()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @abstractmethod
    def answers_live(self) -> bool:
        """Whether it says that it serves."""

    def wait_live(self, timeout_s: float = 20.0) -> None:
        """Returns when the server answers that it is live. Raises its error."""
        deadline_s = time.monotonic() + timeout_s
        while not self.answers_live():
            if not self.is_running:
                self._fail(f"exited with status {self._process.returncode} at start")
            if time.monotonic() > deadline_s:
                self._fail(f"was not live after {timeout_s:g} s")
            time.sleep(LIVE_POLL_S)

    def terminate(self) -> None:
        """SIGTERM, and a kill when it takes too long."""
        self._process.terminate()
        try:
            self._process.wait(self.ends_within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._end()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._end()

    def restart(self) -> None:
        """Ends what still runs, then starts the same command, as a kubelet would."""
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
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for whoever started us, who then ends the servers in order.
                start_new_session=True,
            )

    def _end(self) -> None:
        """Reaps the process."""
        self._process.wait()

    def _fail(self, what: str) -> NoReturn:
        tail = self._log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        raise self.error(f"{self.name} {what}; the end of {self._log_path}:\n{tail}")
