"""Several pods as they run in production, behind a real gateway: Triton, sidecar and Envoy each.

The gateway finds them by one name, as behind a headless Service.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

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
"""


@dataclass
class Member:
    """One pod of the fleet, and where the gateway reaches it."""

    pod: Pod
    envoy: EnvoyServer
    ip: str
    port: int

    @property
    def address(self) -> str:
        return f"{self.ip}:{self.port}"

    def kill(self) -> None:
        """All of it at once, as a node that fails."""
        self.envoy.kill()
        if self.pod.sidecar is not None and self.pod.sidecar.poll() is None:
            self.pod.sidecar.kill()
            self.pod.sidecar.wait()
        self.pod.triton.kill()


@dataclass
class Fleet:
    """A gateway and its pods; http, grpc: where clients go, host:port."""

    members: list[Member]
    names: Names
    gateway: EnvoyServer
    http: str
    grpc: str

    def tell(self, members: Sequence[Member]) -> None:
        """Changes what the name means; returns when the gateway finds all of them healthy."""
        self.names.addresses = [member.ip for member in members]
        total = "cluster.pods.membership_total"
        eventually(lambda: self.gateway.counters(total).get(total, 0) == len(members), 10)
        eventually(lambda: self.healthy() == len(members), 10)

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
) -> Iterator[Fleet]:
    """`pods` running pods, the first `known` of which the gateway is told of; all by default."""
    (port,) = free_ports(1)
    with ExitStack() as stack:
        members = []
        for at in range(pods):
            folder = directory / f"pod-{at}"
            folder.mkdir()
            running = stack.enter_context(pod(installation, folder, specs, policy))
            members.append(stack.enter_context(_member(running, f"127.0.0.{11 + at}", port)))
        served = stack.enter_context(names())
        whole = stack.enter_context(_gateway(directory, members, served, balance))
        whole.tell(members[: known or pods])
        yield whole


@contextmanager
def _gateway(
    directory: Path, members: list[Member], served: Names, balance: int
) -> Iterator[Fleet]:
    http, grpc, admin = free_ports(3)
    text = written_gateway(
        f"--pod={NAME}:{members[0].port}",
        f"--balance={balance}",
        *("--host=127.0.0.1", f"--http-port={http}", f"--grpc-port={grpc}"),
        f"--admin-port={admin}",
    )
    found = yaml.safe_load(text)
    (cluster,) = found["static_resources"]["clusters"]
    cluster["cluster_type"]["typed_config"]["typed_dns_resolver_config"] = served.resolver()
    log = directory / "gateway.log"
    with EnvoyServer.start(find_envoy(), yaml.safe_dump(found), log_path=log) as gateway:
        gateway.wait_live()
        yield Fleet(members, served, gateway, f"127.0.0.1:{http}", f"127.0.0.1:{grpc}")


@contextmanager
def _member(running: Pod, ip: str, port: int) -> Iterator[Member]:
    http, grpc, admin = free_ports(3)
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
    log = running.directory / "envoy.log"
    with EnvoyServer.start(find_envoy(), bootstrap, log_path=log) as envoy:
        envoy.wait_live()
        running.envoy = envoy
        yield Member(running, envoy, ip, port)
