"""Several pods as they run in production, behind a real gateway: Triton, sidecar and Envoy each."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

from simulations.testbed.envoy import EnvoyServer, find_envoy, written_bootstrap
from simulations.testbed.installation import Installation
from simulations.testbed.repository import ModelSpec
from simulations.testbed.tritonserver import free_ports
from tests.daemon.gateway.written import written_gateway
from tests.daemon.pod import Pod, eventually, pod

POLICY = """\
tick: 200ms
budget: 2GiB
models: {"*": {footprint: 40MiB}}
"""


@dataclass
class Member:
    """One pod of the fleet, and where the gateway finds it: host:port."""

    pod: Pod
    envoy: EnvoyServer
    address: str

    def kill(self) -> None:
        """All of it at once, as a node that fails."""
        self.envoy.kill()
        if self.pod.sidecar is not None and self.pod.sidecar.poll() is None:
            self.pod.sidecar.kill()
            self.pod.sidecar.wait()
        self.pod.triton.kill()


@dataclass
class Fleet:
    """A gateway and its pods. The pods can be killed, and the gateway told of others."""

    directory: Path
    members: list[Member]
    balance: int
    gateway: EnvoyServer = field(init=False)
    http: str = field(init=False)
    grpc: str = field(init=False)

    def start_gateway(self, members: Sequence[Member]) -> None:
        http, grpc, admin = free_ports(3)
        text = written_gateway(
            *(f"--pod={member.address}" for member in members),
            f"--balance={self.balance}",
            *("--host=127.0.0.1", f"--http-port={http}", f"--grpc-port={grpc}"),
            f"--admin-port={admin}",
        )
        log = self.directory / f"gateway-{len(members)}.log"
        self.gateway = EnvoyServer.start(find_envoy(), text, log_path=log)
        self.gateway.wait_live()
        self.http, self.grpc = f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"
        eventually(lambda: self.healthy() == len(members), 10)

    def healthy(self) -> int:
        return self.gateway.counters("cluster.pods.membership_healthy").get(
            "cluster.pods.membership_healthy", 0
        )

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
    with ExitStack() as stack:
        members = []
        for at in range(pods):
            folder = directory / f"pod-{at}"
            folder.mkdir()
            running = stack.enter_context(pod(installation, folder, specs, policy))
            members.append(stack.enter_context(_member(running)))
        whole = Fleet(directory, members, balance)
        whole.start_gateway(members[: known or pods])
        try:
            yield whole
        finally:
            whole.gateway.kill()


@contextmanager
def _member(running: Pod) -> Iterator[Member]:
    http, grpc, admin, own = free_ports(4)
    bootstrap = written_bootstrap(
        host="127.0.0.1",
        http_port=http,
        grpc_port=grpc,
        admin_port=admin,
        fleet_port=own,
        triton_http=running.triton.http_url,
        triton_grpc=running.triton.grpc_url,
        door_http=running.door_http,
        door_grpc=running.door_grpc,
    )
    log = running.directory / "envoy.log"
    with EnvoyServer.start(find_envoy(), bootstrap, log_path=log) as envoy:
        envoy.wait_live()
        running.envoy = envoy
        yield Member(running, envoy, f"127.0.0.1:{own}")


def get_status(address: str, path: str) -> int:
    connection = HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()
