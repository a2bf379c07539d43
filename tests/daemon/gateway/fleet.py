"""Several pods as they run in production, behind a real gateway: Triton, sidecar and Envoy each.

The gateway finds them by one name, as behind a headless Service. With a broker they gossip.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import yaml

from simulations.testbed.envoy import EnvoyServer, find_envoy, written_bootstrap
from simulations.testbed.installation import Installation
from simulations.testbed.repository import ModelSpec
from simulations.testbed.tritonserver import free_ports
from tests.daemon.gateway.names import NAME, Names, names
from tests.daemon.gateway.written import written_gateway
from tests.daemon.pod import Pod, eventually, pod

POLICY = """\
tick: 200ms
budget: 2GiB
models: {"*": {footprint: 40MiB}}
scaling: {routing: by-model}
"""


@dataclass
class Member:
    """One pod of the fleet, and where the gateway reaches it; http_port is for other clients."""

    pod: Pod
    envoy: EnvoyServer
    ip: str
    port: int
    http_port: int

    @property
    def address(self) -> str:
        return f"{self.ip}:{self.port}"

    @property
    def name(self) -> str:
        return self.pod.directory.name

    def state(self) -> Any:
        return self.pod.get("/v1/state")

    def leave(self) -> Any:
        """What Triton's preStop hook asks for; returns when the pod may end."""
        headers = {"Content-Type": "application/json"}
        asked = Request(f"http://127.0.0.1:{self.pod.port}/v1/leave", b"{}", headers)
        with urlopen(asked, timeout=120) as answer:
            return json.load(answer)

    def end(self) -> None:
        """As the kubelet ends a pod when its hooks have: Triton first, its sidecars after it."""
        self.pod.triton.terminate()
        self.pod.stop_sidecar()
        self.envoy.terminate()

    def kill(self) -> None:
        """All of it at once, as a node that fails."""
        self.envoy.kill()
        if self.pod.sidecar is not None and self.pod.sidecar.poll() is None:
            self.pod.sidecar.kill()
            self.pod.sidecar.wait()
        self.pod.triton.kill()


@dataclass
class Fleet:
    """A gateway and its pods; http, grpc: where clients go, host:port. start: one more pod, which
    the gateway is not told of."""

    members: list[Member]
    names: Names
    gateway: EnvoyServer
    http: str
    grpc: str
    start: Callable[[], Member]

    def staying(self, *without: Member) -> list[Member]:
        """All that have not been ended, but those."""
        return [
            member for member in self.members if member not in without and member.envoy.is_running
        ]

    def remove(self, member: Member) -> Any:
        """As a pod that is deleted: its Service drops it while its hooks run; what it said."""
        said: list[Any] = []
        hook = threading.Thread(target=lambda: said.append(member.leave()))
        hook.start()
        self.tell(self.staying(member))
        hook.join()
        member.end()
        return said[0]

    def tell(self, members: Sequence[Member]) -> None:
        """Changes what the name means; returns when the gateway finds all of them healthy."""
        self.names.addresses = [member.ip for member in members]
        total = "cluster.pods.membership_total"
        eventually(lambda: self.gateway.counters(total).get(total, 0) == len(members), 60)
        eventually(lambda: self.healthy() == len(members), 60)

    def healthy(self) -> int:
        gauge = "cluster.pods.membership_healthy"
        return self.gateway.counters(gauge).get(gauge, 0)

    def held(self) -> dict[str, list[int]]:
        """By model: the pods, by their place in `members`, whose Tritons have it loaded."""
        found: dict[str, list[int]] = {}
        for at, member in enumerate(self.members):
            for model in member.pod.ready():
                found.setdefault(model, []).append(at)
        return found

    def loads(self, model: str) -> int:
        """How often any Triton began to load it."""
        return sum(member.pod.times_loaded(model) for member in self.members)


@contextmanager
def fleet(
    installation: Installation,
    directory: Path,
    specs: Sequence[ModelSpec],
    *,
    pods: int = 3,
    known: int | None = None,
    balance: int = 200,
    policy: str = POLICY,
    settings: Mapping[str, str] | None = None,
    by_model: bool = True,
) -> Iterator[Fleet]:
    """`pods` running pods, the first `known` of which the gateway is told of; all by default.

    settings: more of each sidecar's environment. by_model: else any pod gets any request, drawn by
    chance.
    """
    (port,) = free_ports(1)
    with ExitStack() as stack:
        members: list[Member] = []

        def start() -> Member:
            at = len(members)
            folder = directory / f"pod-{at}"
            folder.mkdir()
            joining = _member(
                installation, folder, specs, policy, f"127.0.0.{11 + at}", port, settings or {}
            )
            members.append(stack.enter_context(joining))
            return members[-1]

        for _ in range(pods):
            start()
        served = stack.enter_context(names())
        whole = stack.enter_context(
            _gateway(directory, members, served, start, balance if by_model else None)
        )
        whole.tell(members[: known or pods])
        yield whole


@contextmanager
def _gateway(
    directory: Path,
    members: list[Member],
    served: Names,
    start: Callable[[], Member],
    balance: int | None,
) -> Iterator[Fleet]:
    http, grpc, admin = free_ports(3)
    text = written_gateway(
        f"--pod={NAME}:{members[0].port}",
        f"--balance={balance or 0}",
        *("--host=127.0.0.1", f"--http-port={http}", f"--grpc-port={grpc}"),
        f"--admin-port={admin}",
    )
    found = yaml.safe_load(text)
    (cluster,) = found["static_resources"]["clusters"]
    cluster["cluster_type"]["typed_config"]["typed_dns_resolver_config"] = served.resolver()
    if balance is None:
        cluster["lb_policy"] = "RANDOM"
        del cluster["maglev_lb_config"]
    log = directory / "gateway.log"
    with EnvoyServer.start(find_envoy(), yaml.safe_dump(found), log_path=log) as gateway:
        gateway.wait_live()
        yield Fleet(members, served, gateway, f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", start)


@contextmanager
def _member(
    installation: Installation,
    folder: Path,
    specs: Sequence[ModelSpec],
    policy: str,
    ip: str,
    port: int,
    settings: Mapping[str, str],
) -> Iterator[Member]:
    http, grpc, admin = free_ports(3)
    own = {
        "REMORA_POD": folder.name,
        "REMORA_GOSSIP_PLACE": f"{ip}:{port}",
        "REMORA_ENVOY_ADMIN": f"127.0.0.1:{admin}",
        **settings,
    }
    with pod(installation, folder, specs, policy, settings=own) as running:
        bootstrap = written_bootstrap(
            host=ip,
            http_port=http,
            grpc_port=grpc,
            admin_port=admin,
            fleet_port=port,
            triton_http=running.triton.http_url,
            triton_grpc=running.triton.grpc_url,
            door_http=running.door_http,
            door_grpc=running.door_grpc,
        )
        log = folder / "envoy.log"
        with EnvoyServer.start(find_envoy(), bootstrap, log_path=log) as envoy:
            envoy.wait_live()
            running.envoy = envoy
            yield Member(running, envoy, ip, port, http)
