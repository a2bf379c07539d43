"""Remora as its manifests deploy it, on a real control plane whose pods are processes here.

Owns what a cluster's operator would do, and what the missing controllers would: the Service's
endpoints, and the fleet's processes in place of its pods. Knows nothing of what is right.
"""

from __future__ import annotations

import base64
import http.client
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import urllib3
import yaml

from simulations.testbed.installation import Installation
from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.tritonserver import free_ports
from tests.controlplane.authority import Authority, Pair
from tests.controlplane.client import Client, Object, manifests, path_of
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.kubelet import Kubelet
from tests.controlplane.metricserver import endpoint
from tests.controlplane.workload import ROOT, Command, Site, Workload, workload

DEPLOY = ROOT / "deploy"
HOME = "remora"
SERVICE = "remora-fleet"
NETWORK = "127.94.0"
SCALED = "/apis/apps/v1/namespaces/default/deployments/triton"
HPA = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/triton"
APIS = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default"
LOADS = f"{APIS}/pods/*/remora_load"
COST = "controller.kubernetes.io/pod-deletion-cost"

POLICY = """\
tick: 500ms
budget: 600MiB
residency: {minimum: 0s, cooldown: 0s}
# What takes minutes in a cluster takes seconds here; and a queue that this machine makes by being
# busy with other things says nothing.
scaling: {window: 6s, down: 3s, lead: 0s, queue_slo: 10s}
# More than there is, which the Deployment shall be told.
models:
  huge: {pin: true, footprint: 2GiB}
"""
# One instance that answers one request at a time, so five a second are the work of one pod.
MODELS = (
    ModelSpec("common", 20, load_s=0.3, compute_ms=200, max_batch_size=0),
    ModelSpec("own-a", 20, load_s=5.0, compute_ms=200, max_batch_size=0),
    ModelSpec("own-b", 20, load_s=5.0, compute_ms=200, max_batch_size=0),
    ModelSpec("huge", 20, load_s=0.3, compute_ms=200, max_batch_size=0),
)


@dataclass
class Replica:
    """One process of the fleet service, and where it listens."""

    name: str
    address: str
    api_port: int
    http_port: int
    keda_port: int
    process: Command

    @property
    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.address, self.http_port, timeout=2.0)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def log(self) -> str:
        return self.process.log()

    @property
    def slice(self) -> Object:
        """Leads the Service to it."""
        return endpoint(SERVICE, HOME, self.address, self.api_port)

    @property
    def slice_path(self) -> str:
        return path_of(self.slice)

    def answer(
        self, path: str, context: ssl.SSLContext, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Asks it without the API server between; the certificate must be the Service's."""
        name = f"{SERVICE}.{HOME}.svc"
        with urllib3.HTTPSConnectionPool(
            self.address,
            self.api_port,
            ssl_context=context,
            assert_hostname=name,
            server_hostname=name,
            retries=False,
            timeout=10.0,
        ) as pool:
            answer = pool.request("GET", path, headers=headers)
            return answer.status, answer.data


@dataclass
class Deployed:
    """shunned: pods that clients do not go to, as no balancer would send them to one that hangs."""

    plane: ControlPlane
    kubelet: Kubelet[Workload]
    replicas: dict[str, Replica] = field(default_factory=dict)
    shunned: set[str] = field(default_factory=set)

    @property
    def admin(self) -> Client:
        return self.plane.admin

    def wanted(self) -> int:
        """How many pods the Deployment is told to have."""
        return int(self.admin.get(SCALED)["spec"]["replicas"])

    def pods(self) -> dict[str, Object]:
        """Those of the Deployment that are not being deleted, by name."""
        items = self.admin.items("/api/v1/namespaces/default/pods")
        return {
            each["metadata"]["name"]: each
            for each in items
            if "deletionTimestamp" not in each["metadata"]
        }

    def costs(self) -> dict[str, int]:
        """By pod; one without the annotation costs 0."""
        return {
            name: int(pod["metadata"].get("annotations", {}).get(COST, "0"))
            for name, pod in self.pods().items()
        }

    def holders(self, model: str) -> set[str]:
        """The pods to which a Service for this model would lead."""
        path = "/api/v1/namespaces/default/pods?labelSelector=app%3Dtriton%2C"
        items = self.admin.items(f"{path}resident.remora.dev%2F{model}%3Dtrue")
        return {each["metadata"]["name"] for each in items}

    def loads(self) -> dict[str, str]:
        """What the autoscaler would read, by pod; empty while nobody answers."""
        status, answer = self.admin.answer("GET", LOADS)
        assert status != 200 or isinstance(answer, dict), answer
        rows = answer["items"] if status == 200 else []
        return {row["describedObject"]["name"]: row["value"] for row in rows}

    def doors(self) -> dict[str, str]:
        """Where clients go, by pod."""
        running = self.kubelet.running
        return {name: running[name].door for name in running.keys() - self.shunned}

    def writer(self) -> str:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/remora-fleet"
        status, lease = self.admin.answer("GET", path)
        return str(lease["spec"].get("holderIdentity", "")) if status == 200 else ""

    def authority(self) -> str:
        """Whom the API server believes behind our APIServices, PEM."""
        spec = self.admin.get(
            "/apis/apiregistration.k8s.io/v1/apiservices/v1beta2.custom.metrics.k8s.io"
        )["spec"]
        return base64.b64decode(spec.get("caBundle", "")).decode()


def eventually(holds: Callable[[], object], within_s: float, what: Callable[[], object]) -> None:
    """`what` is asked for when it fails, so that it tells how things stand then."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s, f"not so within {within_s:g} s: {what()}"
        time.sleep(0.1)


def throughout(holds: Callable[[], object], for_s: float, what: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + for_s
    while time.monotonic() < deadline_s:
        assert holds(), what()
        time.sleep(0.2)


@contextmanager
def deployed(
    plane: ControlPlane, installation: Installation, address: str, folder: Path
) -> Iterator[Deployed]:
    """Everything applied, two replicas of the fleet ready, and two pods that run."""
    sidecars = Authority.create(folder / "sidecars", "sidecars")
    write_repository(folder / "models", MODELS)
    (folder / "policy.yaml").write_text(POLICY)
    port, door_http, door_grpc = free_ports(3)
    site = Site(
        folder,
        installation,
        sidecars,
        folder / "models",
        folder / "policy.yaml",
        port,
        door_http,
        door_grpc,
    )
    plane.admin.apply_all(manifests(DEPLOY / "fleet"))
    plane.admin.apply_all(manifests(DEPLOY / "components/external-metrics/apiservice.yaml"))
    _deploy_triton(plane.admin, port)
    with ExitStack() as stack:
        kubelet = stack.enter_context(
            Kubelet(plane.admin, "default", lambda *pod: workload(site, *pod), NETWORK)
        )
        running = Deployed(plane, kubelet)
        shown = sidecars.issue("fleet")
        for name in ("fleet-0", "fleet-1"):
            replica = started(running, site, shown, address, name)
            running.replicas[name] = replica
            stack.enter_context(replica.process)
        for replica in running.replicas.values():
            eventually(partial(_is_ready, replica), 60, replica.log)
            plane.admin.apply(replica.slice)
        eventually(lambda: len(kubelet.running) == 2, 90, lambda: kubelet.running)
        yield running


def started(deployed: Deployed, site: Site, shown: Pair, address: str, name: str) -> Replica:
    """A replica that runs as the service account of its manifest."""
    plane = deployed.plane
    token = plane.token(HOME, "remora-fleet")
    config = plane.kubeconfig(site.folder / f"{name}.yaml", {"token": token})
    api_port, http_port, keda_port = free_ports(3)
    told: dict[str, object] = {
        "KUBECONFIG": config,
        "OWN_NAMESPACE": HOME,
        "IDENTITY": name,
        "HOST": address,
        "API_PORT": api_port,
        "HTTP_PORT": http_port,
        "KEDA_PORT": keda_port,
        "EXTERNAL_METRICS": "true",
        "POLICY": site.policy,
        "COLLECT_INTERVAL": "1s",
        "COLLECT_TIMEOUT": "700ms",
        "STALE": "4s",
        "LEASE_DURATION": "5s",
        "REMOVAL_INTERVAL": "2s",
        "RESIDENT_LABELS": 8,
        "SIDECAR_CA": site.authority.certificate,
        "SIDECAR_CERTIFICATE": shown.certificate,
        "SIDECAR_KEY": shown.key,
    }
    environment = {f"REMORA_FLEET_{key}": value for key, value in told.items()}
    process = Command(["fleet"], environment, site.folder / f"{name}.log")
    return Replica(name, address, api_port, http_port, keda_port, process)


def _is_ready(replica: Replica) -> bool:
    return replica.is_ready


def _deploy_triton(admin: Client, port: int) -> None:
    """A Triton as somebody may have it, with our patch over it, and our autoscaler."""
    labels = {"app": "triton", "remora.dev/sidecar": "true"}
    triton = {
        "name": "triton",
        "image": "triton",
        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
    }
    made: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "triton", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "triton"}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels, "annotations": {"remora.dev/port": str(port)}},
                "spec": {
                    "containers": [triton],
                    "volumes": [{"name": "models", "emptyDir": {}}],
                },
            },
        },
    }
    patch = yaml.safe_load((DEPLOY / "components/sidecar/patch.yaml").read_text())
    admin.create({**made, "spec": {**made["spec"], "paused": True}})
    admin.patch(path_of(made), patch, "application/strategic-merge-patch+json")
    admin.merge(path_of(made), {"spec": {"paused": False}})
    admin.apply_all(manifests(DEPLOY / "components/hpa/hpa.yaml", _hasty))


def _hasty(hpa: Object) -> Object:
    """Our autoscaler with windows of seconds, for minutes are too long for a test."""
    hpa["metadata"]["namespace"] = "default"
    behavior: dict[str, Any] = hpa["spec"]["behavior"]
    behavior["scaleDown"]["stabilizationWindowSeconds"] = 5
    for rules in behavior.values():
        for policy in rules["policies"]:
            policy["periodSeconds"] = 5
    return hpa
