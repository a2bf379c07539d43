"""kubectl before a real API server and its controllers, and pods that a stand-in kubelet runs.

A pod is a real Triton with the real sidecar, at an address of its own; the fleet service is two
processes with the account of their manifest. There is no scheduler, no volume and no network, and
the controllers of Jobs are not among those that run.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.tritonserver import find as find_triton
from tests.controlplane import binaries
from tests.controlplane.authority import Authority
from tests.controlplane.cluster import ControlPlane, reachable_address
from tests.controlplane.deployed import Deployed, Replica, eventually, started
from tests.controlplane.kubelet import Kubelet
from tests.controlplane.offering import Offering
from tests.controlplane.workload import Site, workload
from tests.manifests.overlays import DEPLOY
from tests.manifests.walkthrough.typist import Typist

MINE = {
    "pods/kustomization.yaml": """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../../deploy/overlays/cpu]
""",
    "kustomization.yaml": """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [pods]
configMapGenerator:
  - name: remora-policy
    namespace: models
    behavior: replace
    files: [policy.yaml]
""",
    "policy.yaml": "preset: balanced\n",
}
COMPONENTS = "components: [../../deploy/components/gateway, ../../deploy/components/gossip]"
# One instance that answers one request at a time: a pod does five a second.
COMMON = ModelSpec("common", 20, load_s=0.3, compute_ms=200, max_batch_size=0)
WORK_OF_1_7_PODS_PER_S = 8.5
METRICS = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/models/pods/*/remora_load"


def play(folder: Path) -> None:
    address = reachable_address()
    if address is None:
        raise SystemExit("this machine has no address but loopback, which no endpoint may have")
    with ControlPlane(folder / "plane", binaries.find()) as plane:
        pair = plane.authority.issue("operator", groups=["system:masters"])
        user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        config = plane.kubeconfig(folder / "kubeconfig", user)
        typed = Typist(folder, KUBECONFIG=str(config))
        shutil.copytree(DEPLOY, folder / "deploy")
        for name, text in MINE.items():
            (folder / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "mine" / name).write_text(text)
        _apply(typed)
        with _pods(plane, folder) as (site, deployed), ExitStack() as stack:
            _scale(typed, site, deployed, address, stack)
            _join(typed)
        _remove(typed)


def _apply(typed: Typist) -> None:
    typed.types("kubectl version")
    typed.says("Triton, Remora and Envoy; the Job that uploads, the CronJob that pulls.")
    typed.types("kubectl apply -k mine")
    typed.types("kubectl apply -k deploy/upload")
    typed.types("kubectl apply -k deploy/pull")
    typed.types("kubectl -n models get deployments,pods")
    typed.says("A changed policy is a changed ConfigMap, and no new pod.")
    typed.types("printf 'preset: latency-first\\n' > mine/policy.yaml")
    typed.types("remora check mine/policy.yaml | head -3")
    typed.types("kubectl apply -k mine | grep -v unchanged")
    typed.types("kubectl -n models get deployments,replicasets")


@contextmanager
def _pods(plane: ControlPlane, folder: Path) -> Iterator[tuple[Site, Deployed]]:
    sidecars = Authority.create(folder / "sidecars", "sidecars")
    write_repository(folder / "models", (COMMON,))
    policy = folder / "mine/policy.yaml"
    site = Site(folder, find_triton(), sidecars, folder / "models", policy, 9400, 9410, 9411)
    with Kubelet(plane.admin, "models", lambda *pod: workload(site, *pod), "127.95.0") as kubelet:
        eventually(lambda: kubelet.running, 90, lambda: "no pod runs")
        yield site, Deployed(plane, kubelet)


def _scale(typed: Typist, site: Site, deployed: Deployed, address: str, stack: ExitStack) -> None:
    typed.says("The fleet service, and the autoscaler.")
    typed.types("kubectl get apiservices | grep metrics.k8s.io")
    typed.types("kubectl apply -k deploy/overlays/fleet")
    typed.types("kubectl -n models get pods")
    _start_fleet(site, deployed, address, stack)
    typed.waits(lambda: len(deployed.kubelet.running) == 2, 120, "two pods run")
    typed.waits(lambda: _told(typed) == 2, 120, "both have told their load")
    typed.types("kubectl get apiservices | grep metrics.k8s.io")
    typed.types(f"kubectl get --raw '{METRICS}'")
    typed.types("kubectl -n models get hpa triton")
    typed.says("Work for 1.7 pods comes.")
    offering = stack.enter_context(Offering(deployed.doors))
    offering.rate(COMMON.name, WORK_OF_1_7_PODS_PER_S)
    typed.waits(lambda: len(deployed.kubelet.running) == 3, 240, "three pods run")
    typed.types(f'kubectl get --raw \'{METRICS}\' | grep -o \'"value":"[^"]*"\'')
    typed.types("kubectl -n models get hpa triton")
    typed.types("kubectl -n models describe hpa triton | sed -n '/^Events/,$p'")
    typed.types("kubectl -n models get pods -l remora.dev/sidecar=true")


def _told(typed: Typist) -> int:
    status, said = typed.asks(f"kubectl get --raw '{METRICS}'")
    return said.count('"describedObject"') if status == 0 else 0


def _start_fleet(site: Site, deployed: Deployed, address: str, stack: ExitStack) -> None:
    shown = site.authority.issue("fleet")
    for name in ("fleet-0", "fleet-1"):
        replica = started(deployed, site, shown, address, name)
        deployed.replicas[name] = replica
        stack.enter_context(replica.process)
    for replica in deployed.replicas.values():
        eventually(partial(_is_ready, replica), 60, replica.log)
        deployed.admin.apply(replica.slice)


def _is_ready(replica: Replica) -> bool:
    return replica.is_ready


def _join(typed: Typist) -> None:
    typed.says("A gateway before the pods, and gossip between them: the pods are replaced.")
    typed.types(f"echo '{COMPONENTS}' >> mine/pods/kustomization.yaml")
    typed.types("echo 'scaling: {routing: by-model}' >> mine/policy.yaml")
    typed.types("kubectl apply -k mine | grep -v unchanged")
    typed.types("kubectl -n models rollout status deployment/triton --timeout=5m")
    typed.types("kubectl -n models get deployments,services")


def _remove(typed: Typist) -> None:
    typed.says("What not to do: the service goes, and its APIServices stay.")
    typed.types("kubectl -n remora delete service,deployment remora-fleet")
    # What is served of groups is looked at anew each minute; before that a namespace still goes.
    time.sleep(60)
    print("(a minute later)")
    typed.types("kubectl get apiservices | grep metrics.k8s.io")
    typed.types("kubectl create namespace scratch")
    typed.types("kubectl delete namespace scratch --timeout=15s")
    failed = '{.status.conditions[?(@.type=="NamespaceDeletionDiscoveryFailure")].message}'
    typed.types(f"kubectl get namespace scratch -o jsonpath='{{.status.phase}}: {failed}'")
    typed.says("The APIServices go, and so does the namespace; then the rest.")
    typed.types("kubectl delete -f deploy/fleet/4-apiservices.yaml")
    typed.types("kubectl wait --for=delete namespace/scratch --timeout=2m")
    typed.types("kubectl delete --ignore-not-found -k deploy/overlays/fleet --wait=false")
    typed.types("kubectl delete --ignore-not-found -k mine --wait=false")
    typed.types("kubectl wait --for=delete namespace/remora --timeout=2m")
