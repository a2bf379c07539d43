"""A real API server takes every overlay, each field of it, and every pod that it would make."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane.binaries import Binaries
from tests.controlplane.client import Client, Object, path_of
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.deployed import eventually
from tests.manifests.overlays import APPLIED, CHART, kinds, objects, templates
from tests.manifests.programs import definitions, helm

# Those that somebody else has made.
NAMESPACES = ("monitoring",)
CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding", "APIService")
ENABLED = {"enabled": True}


@pytest.fixture(scope="module")
def plane(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("plane"), binaries) as plane:
        for name in NAMESPACES:
            plane.admin.apply(_namespace(name, {}))
        for each in definitions():
            plane.admin.apply(each)
            eventually(partial(_is_served, plane.admin, each), 30, partial(str, each))
        yield plane


@pytest.fixture
def admin(plane: ControlPlane) -> Client:
    return plane.admin


def _is_served(admin: Client, definition: Object) -> bool:
    group, plural = definition["spec"]["group"], definition["spec"]["names"]["plural"]
    (version,) = (each["name"] for each in definition["spec"]["versions"] if each["storage"])
    return admin.answer("GET", f"/apis/{group}/{version}/{plural}")[0] == 200


def _namespace(name: str, labels: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }


@pytest.mark.parametrize("name", APPLIED)
def test_the_api_server_takes_all_of_it_twice(admin: Client, name: str) -> None:
    found = objects(name)
    for namespace in {each["metadata"].get("namespace") for each in found} - {None}:
        if admin.answer("GET", f"/api/v1/namespaces/{namespace}")[0] == 404:
            admin.apply(_namespace(namespace, {}))
    first = [admin.apply(each) for each in found]
    # What is applied again unchanged changes nothing, so nothing is written that a default turns
    # into something else.
    again = [admin.apply(each) for each in found]
    assert [_version(each) for each in again] == [_version(each) for each in first]


def _version(of: Object) -> tuple[str, str, object]:
    return of["kind"], of["metadata"]["name"], of["metadata"].get("generation")


@pytest.mark.parametrize("name", APPLIED)
def test_every_pod_may_be_made_under_the_strictest_standard(admin: Client, name: str) -> None:
    """As pod security `restricted` has it; somebody else's Triton is theirs to answer for."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    admin.apply(_namespace("restricted", labels))
    for _, template in templates(objects(name)):
        pod = copy.deepcopy(dict(template))
        if name == "existing-triton":
            pod["spec"]["securityContext"] |= {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            }
            pod["spec"]["containers"][0]["securityContext"] = {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
        pod |= {"apiVersion": "v1", "kind": "Pod"}
        pod["metadata"] = {"name": "one", "namespace": "restricted", **pod["metadata"]}
        path = "/api/v1/namespaces/restricted/pods?dryRun=All&fieldValidation=Strict"
        status, answer = admin.answer("POST", path, pod)
        assert status == 201, answer


def test_a_field_that_does_not_exist_would_be_refused(admin: Client) -> None:
    """So that the tests above can fail."""
    (deployment,) = kinds(objects("cpu"), "Deployment")
    wrong = copy.deepcopy(deployment)
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 30
    path = f"{path_of(wrong)}?fieldManager=test&fieldValidation=Strict&dryRun=All"
    headers = {"Content-Type": "application/apply-patch+yaml"}
    status, answer = admin.answer("PATCH", path, wrong, headers=headers)
    assert status >= 400
    assert "terminationGracePeriod" in str(answer)


# --- the chart ---


@dataclass(frozen=True)
class Helm:
    """Helm as an administrator of the cluster, in a namespace of its own."""

    kubeconfig: Path

    def __call__(self, verb: str, release: str, namespace: str, *more: str, **values: Any) -> str:
        """What it says."""
        chart = [str(CHART)] if verb in ("install", "upgrade") else []
        where = ("--kubeconfig", str(self.kubeconfig), "--namespace", namespace)
        given = values or None if chart else None
        ended = helm(verb, release, *chart, *where, *more, values=given)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture
def cluster(plane: ControlPlane, tmp_path: Path) -> Helm:
    pair = plane.authority.issue("helm", groups=["system:masters"])
    user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    return Helm(plane.kubeconfig(tmp_path / "kubeconfig", user))


def test_the_chart_is_installed_and_changed_and_says_what_is_next(
    admin: Client, cluster: Helm
) -> None:
    said = cluster("install", "triton", "charted", "--create-namespace", hpa={"enabled": True})
    assert "triton-door.charted" in said
    gateway = {"gateway": {"enabled": True}, "monitoring": {"enabled": True}}
    said = cluster("upgrade", "triton", "charted", **gateway)
    assert "triton-gateway.charted" in said
    assert "policy.scaling.routing" in said
    said = cluster("upgrade", "triton", "charted", **gateway, policy={"mode": "observe"})
    assert "touches nothing" in said
    by_model = {"scaling": {"routing": "by-model"}}
    said = cluster("upgrade", "triton", "charted", **gateway, policy=by_model, keda=ENABLED)
    assert "policy.scaling.routing" not in said
    deployments = admin.items("/apis/apps/v1/namespaces/charted/deployments")
    assert {each["metadata"]["name"] for each in deployments} == {"triton", "triton-gateway"}
    assert admin.items("/apis/keda.sh/v1alpha1/namespaces/charted/scaledobjects")
    assert not admin.items("/apis/autoscaling/v2/namespaces/charted/horizontalpodautoscalers")
    cluster("uninstall", "triton", "charted")
    assert not admin.items("/apis/apps/v1/namespaces/charted/deployments")


def test_the_fleet_service_is_installed_by_itself(admin: Client, cluster: Helm) -> None:
    # Of the tests before, which applied it without Helm.
    for each in objects("fleet alone"):
        if each["metadata"].get("namespace", "remora") != "remora" or each["kind"] in CLUSTER_WIDE:
            admin.delete(path_of(each))
    only = {"triton": {"enabled": False}, "fleet": ENABLED | {"externalMetrics": True}}
    said = cluster("install", "remora-fleet", "fleet", "--create-namespace", **only)
    assert "APIServices" in said
    services = admin.items("/apis/apiregistration.k8s.io/v1/apiservices")
    ours = [each for each in services if "metrics.k8s.io" in each["metadata"]["name"]]
    assert {each["spec"]["service"]["namespace"] for each in ours} == {"fleet"}
    assert len(ours) == 3
    cluster("uninstall", "remora-fleet", "fleet")
