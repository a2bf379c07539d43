"""What runs in a pod: a real Triton, and the real sidecar beside it as a process of its own.

Owns the two processes, and how the sidecar is told where everything is. Knows nothing of the
cluster.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from simulations.testbed.installation import Installation
from simulations.testbed.server import Server
from simulations.testbed.tritonserver import TritonServer, free_ports
from tests.controlplane.authority import Authority

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Site:
    """What all pods share: folders, ports at each pod's own address, and who is believed."""

    folder: Path
    installation: Installation
    authority: Authority
    repository: Path
    policy: Path
    port: int
    door_http: int
    door_grpc: int


class Command(Server):
    """`remora` with some arguments; what it is told besides is in its environment."""

    name = "remora"
    ends_within_s = 10.0

    def __init__(self, arguments: list[str], told: Mapping[str, object], log: Path) -> None:
        environment = os.environ | {name: str(value) for name, value in told.items()}
        environment["PYTHONPATH"] = str(ROOT)
        super().__init__(
            [sys.executable, "-m", "daemon.cli", *arguments],
            log_path=log,
            environment=environment,
        )

    def answers_live(self) -> bool:
        return self.is_running

    def log(self) -> str:
        return self._log_path.read_text()

    def freeze(self) -> None:
        """It neither answers nor closes a connection, as on a node that hangs."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Sidecar(Command):
    def answers_live(self) -> bool:
        """Its front door is open, so that clients may come."""
        door = (
            self._environment["REMORA_FRONT_DOOR_HOST"],
            int(self._environment["REMORA_FRONT_DOOR_HTTP_PORT"]),
        )
        with socket.socket() as probe:
            return probe.connect_ex(door) == 0


@dataclass(frozen=True, slots=True)
class Workload:
    """address: the pod's. door: where its clients go, host:port."""

    name: str
    address: str
    door: str
    sidecar: Sidecar
    triton: TritonServer


@contextmanager
def workload(site: Site, name: str, address: str) -> Iterator[Workload]:
    """Both, from their start to their end; Triton is live when it is yielded."""
    folder = site.folder / name
    folder.mkdir()
    http, grpc, metrics = free_ports(3)
    triton = TritonServer.start(
        site.installation,
        site.repository,
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        log_path=folder / "triton.log",
    )
    with triton:
        try:
            triton.wait_live(60.0)
            told = _told(site, folder, address) | {
                "REMORA_TRITON_HTTP": triton.http_url,
                "REMORA_TRITON_GRPC": triton.grpc_url,
                "REMORA_TRITON_METRICS": f"http://127.0.0.1:{metrics}/metrics",
            }
            with Sidecar(["run"], told, folder / "remora.log") as sidecar:
                sidecar.wait_live()
                yield Workload(name, address, f"{address}:{site.door_http}", sidecar, triton)
        finally:
            # Asked politely, it would wait for every request; nobody has any more.
            triton.kill()


def _told(site: Site, folder: Path, address: str) -> dict[str, object]:
    pair = site.authority.issue(f"sidecar-{address}", hosts=[address])
    return {
        "REMORA_POLICY": site.policy,
        "REMORA_MODEL_REPOSITORY": site.repository,
        "REMORA_STATE_DIRECTORY": folder / "state",
        "REMORA_METRICS_INTERVAL": "1s",
        "REMORA_HTTP_HOST": address,
        "REMORA_HTTP_PORT": site.port,
        "REMORA_HTTP_CERTIFICATE": pair.certificate,
        "REMORA_HTTP_KEY": pair.key,
        "REMORA_HTTP_CLIENT_CA": site.authority.certificate,
        "REMORA_GUARD_READS": "true",
        "REMORA_FRONT_DOOR_HOST": address,
        "REMORA_FRONT_DOOR_HTTP_PORT": site.door_http,
        "REMORA_FRONT_DOOR_GRPC_PORT": site.door_grpc,
    }
