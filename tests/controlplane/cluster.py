"""A real control plane on this machine's loopback: etcd, kube-apiserver, kube-controller-manager.

Owns three processes, their flags, ports and certificates, and the callers they know. There is no
scheduler, no kubelet and no network: whoever needs pods that run marks them so.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml
from urllib3.exceptions import HTTPError

from simulations.testbed.server import Server, page
from simulations.testbed.tritonserver import free_ports
from tests.controlplane.authority import Authority, Pair, signing_key
from tests.controlplane.binaries import Binaries
from tests.controlplane.client import Client

FRONT_PROXY = "front-proxy-client"
FEATURES = "HPAConfigurableTolerance=true,HPAScaleToZero=true"
CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "horizontal-pod-autoscaler-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "garbage-collector-controller",
    "disruption-controller",
)


class Process(Server):
    """One of the three."""

    # What it holds goes with the test's folder, so nothing is lost by a kill.
    ends_within_s = 3.0

    def __init__(self, name: str, command: Sequence[str], health: tuple[str, str], log: Path):
        self.name = name
        self._health = health
        super().__init__(command, log_path=log)

    def answers_live(self) -> bool:
        return page(*self._health) is not None


class ApiServer(Process):
    def __init__(self, command: Sequence[str], client: Client, log: Path):
        self._client = client
        super().__init__("kube-apiserver", command, ("", ""), log)

    def answers_live(self) -> bool:
        try:
            return self._client.answer("GET", "/readyz")[0] == 200
        except HTTPError:
            return False


@dataclass
class ControlPlane:
    """All three, live. `admin` may do everything; `client` makes other callers.

    proxy: what the API server shows to backends of its APIs.
    """

    folder: Path
    binaries: Binaries
    hpa_sync_s: float = 1.0
    downscale_stabilization_s: float = 300.0
    authority: Authority = field(init=False)
    front_proxy: Authority = field(init=False)
    proxy: Pair = field(init=False)
    admin: Client = field(init=False)
    processes: dict[str, Process] = field(init=False, default_factory=dict)
    _stack: ExitStack = field(init=False, default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.authority = Authority.create(self.folder, "cluster")
        self.front_proxy = Authority.create(self.folder, "front-proxy")
        self.proxy = self.front_proxy.issue(FRONT_PROXY)
        self._etcd, self._peer, self._api, self._manager = free_ports(4)
        self.url = f"https://127.0.0.1:{self._api}"
        pair = self.authority.issue("admin", groups=["system:masters"])
        self.admin = Client(self.url, pair.client_context(self.authority.certificate))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.admin.close)
            self._start(stack, self._etcd_process())
            self._start(stack, self._api_process())
            self._start(stack, self._manager_process())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def client(self, name: str, groups: Sequence[str] = ()) -> Client:
        """A caller with a client certificate."""
        pair = self.authority.issue(name, groups=groups)
        return Client(self.url, pair.client_context(self.authority.certificate))

    def token(self, namespace: str, account: str) -> str:
        """What a pod of this service account would find mounted."""
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        status, answer = self.admin.answer("POST", path, request)
        assert status == 201, answer
        return str(answer["status"]["token"])

    def kubeconfig(self, path: Path, user: Mapping[str, str]) -> Path:
        """A file that names this cluster and `user`."""
        cluster = {"server": self.url, "certificate-authority": str(self.authority.certificate)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": dict(user)}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def _start(self, stack: ExitStack, process: Process) -> None:
        self.processes[process.name] = stack.enter_context(process)
        process.wait_live(60.0)

    def _etcd_process(self) -> Process:
        client, peer = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._peer}"
        flags = {
            "data-dir": self.folder / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            # A test's cluster need not survive a power cut.
            "unsafe-no-fsync": "true",
        }
        health = (f"127.0.0.1:{self._etcd}", "/readyz")
        return Process("etcd", self._command("etcd", flags), health, self.folder / "etcd.log")

    def _api_process(self) -> Process:
        serving = self.authority.issue("kube-apiserver", hosts=["127.0.0.1", "localhost"])
        key, public = signing_key(self.folder / "service-accounts.key")
        flags = {
            "etcd-servers": f"http://127.0.0.1:{self._etcd}",
            "bind-address": "127.0.0.1",
            "secure-port": self._api,
            "service-cluster-ip-range": "10.96.0.0/16",
            # This machine's own address is a loopback, which no endpoint may be.
            "endpoint-reconciler-type": "none",
            "authorization-mode": "RBAC",
            "client-ca-file": self.authority.certificate,
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": public,
            "service-account-signing-key-file": key,
            "disable-admission-plugins": "ServiceAccount",
            "enable-aggregator-routing": "true",
            "requestheader-client-ca-file": self.front_proxy.certificate,
            "requestheader-allowed-names": FRONT_PROXY,
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "feature-gates": FEATURES,
            "enable-priority-and-fairness": "false",
            "profiling": "false",
            **_pair_flags("tls-cert-file", "tls-private-key-file", serving),
            **_pair_flags("proxy-client-cert-file", "proxy-client-key-file", self.proxy),
        }
        command = self._command("kube-apiserver", flags)
        return ApiServer(command, self.admin, self.folder / "kube-apiserver.log")

    def _manager_process(self) -> Process:
        pair = self.authority.issue("system:kube-controller-manager")
        user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        serving = self.authority.issue("kube-controller-manager", hosts=["127.0.0.1"])
        config = self.kubeconfig(self.folder / "controller-manager.yaml", user)
        flags = {
            "kubeconfig": config,
            "bind-address": "127.0.0.1",
            "secure-port": self._manager,
            "leader-elect": "false",
            "controllers": ",".join(CONTROLLERS),
            # Only then does the autoscaler call as the account that our roles name.
            "use-service-account-credentials": "true",
            "service-account-private-key-file": self.folder / "service-accounts.key",
            "horizontal-pod-autoscaler-sync-period": f"{self.hpa_sync_s}s",
            "horizontal-pod-autoscaler-downscale-stabilization": (
                f"{self.downscale_stabilization_s}s"
            ),
            "concurrent-horizontal-pod-autoscaler-syncs": 100,
            "kube-api-qps": 500,
            "kube-api-burst": 1000,
            "feature-gates": FEATURES,
            "v": 2,
            **_pair_flags("tls-cert-file", "tls-private-key-file", serving),
        }
        command = self._command("kube-controller-manager", flags)
        log = self.folder / "kube-controller-manager.log"
        return Manager("kube-controller-manager", command, ("", str(self._manager)), log)

    def _command(self, name: str, flags: Mapping[str, object]) -> list[str]:
        return [self.binaries.path(name), *(f"--{flag}={value}" for flag, value in flags.items())]


class Manager(Process):
    def answers_live(self) -> bool:
        """It listens: its controllers start within the second, and each test waits for them."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(self._health[1]))) == 0


def _pair_flags(certificate: str, key: str, pair: Pair) -> dict[str, object]:
    return {certificate: pair.certificate, key: pair.key}


def reachable_address() -> str | None:
    """An address of this machine that an endpoint may have; None where there is only loopback.

    Nothing is sent: connecting a datagram socket only asks the routing table.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        found: str = probe.getsockname()[0]
    return None if found.startswith("127.") else found
