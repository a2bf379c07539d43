"""What our service accounts may do, asked of a real API server: so much, and nothing else."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.controlplane.binaries import Binaries
from tests.controlplane.client import Client, Object
from tests.controlplane.cluster import ControlPlane
from tests.manifests.overlays import TRITONS, objects, templates

HOME, ELSEWHERE = "remora", "models"
FLEET = f"system:serviceaccount:{HOME}:remora-fleet"
# An account that nobody has bound to anything.
NOBODY = f"system:serviceaccount:{HOME}:nobody"
REVIEWS = "/apis/authorization.k8s.io/v1"
LEASES, APISERVICES = "coordination.k8s.io", "apiregistration.k8s.io"
AUTHENTICATION = "extension-apiserver-authentication"
OWN_APIS = (
    "v1beta1.custom.metrics.k8s.io",
    "v1beta2.custom.metrics.k8s.io",
    "v1beta1.external.metrics.k8s.io",
)


class Right(NamedTuple):
    """name: of the one object that it is for; empty for any."""

    verb: str
    group: str
    resource: str
    name: str = ""


EVERYWHERE = {
    *(Right(verb, "", "pods") for verb in ("list", "watch", "patch")),
    *(Right(verb, "", "events") for verb in ("get", "create", "patch")),
    Right("get", "apps", "deployments"),
    Right("create", "authorization.k8s.io", "subjectaccessreviews"),
    Right("list", APISERVICES, "apiservices"),
    *(
        Right(verb, APISERVICES, "apiservices", name)
        for verb in ("get", "patch")
        for name in OWN_APIS
    ),
}
AT_HOME = {
    Right("create", "", "secrets"),
    Right("create", LEASES, "leases"),
    *(Right(verb, "", "secrets", "remora-fleet-ca") for verb in ("get", "update")),
    *(Right(verb, LEASES, "leases", "remora-fleet") for verb in ("get", "update")),
}
# The cluster's own role for whoever serves an API in it.
IN_KUBE_SYSTEM = {
    Right(verb, "", "configmaps", AUTHENTICATION) for verb in ("get", "list", "watch")
}
REFUSED = [
    (ELSEWHERE, Right("delete", "", "pods")),
    (ELSEWHERE, Right("create", "", "pods")),
    (ELSEWHERE, Right("create", "", "pods/exec")),
    (ELSEWHERE, Right("create", "", "pods/eviction")),
    (ELSEWHERE, Right("get", "", "pods/log")),
    (ELSEWHERE, Right("update", "apps", "deployments")),
    (ELSEWHERE, Right("patch", "apps", "deployments/scale")),
    (ELSEWHERE, Right("list", "", "secrets")),
    (ELSEWHERE, Right("create", "", "secrets")),
    (ELSEWHERE, Right("get", "", "configmaps")),
    (ELSEWHERE, Right("get", LEASES, "leases", "remora-fleet")),
    (HOME, Right("get", "", "secrets", "another")),
    (HOME, Right("list", "", "secrets")),
    (HOME, Right("update", LEASES, "leases", "another")),
    (HOME, Right("delete", LEASES, "leases", "remora-fleet")),
    ("kube-system", Right("get", "", "configmaps", "another")),
    ("kube-system", Right("update", "", "configmaps", AUTHENTICATION)),
    ("", Right("get", "", "nodes")),
    ("", Right("create", "authentication.k8s.io", "tokenreviews")),
    ("", Right("patch", APISERVICES, "apiservices", "v1.apps")),
    ("", Right("create", "rbac.authorization.k8s.io", "clusterrolebindings")),
    ("", Right("impersonate", "", "users")),
]


@pytest.fixture(scope="module")
def plane(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("plane"), binaries) as plane:
        kinds = ("Namespace", "ServiceAccount", "ClusterRole", "Role")
        for each in (*objects("fleet alone"), *objects("cpu")):
            if each["kind"].removesuffix("Binding") in kinds:
                plane.admin.apply(each)
        nobody = {"name": "nobody", "namespace": HOME}
        plane.admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": nobody})
        yield plane


def rights(plane: ControlPlane, namespace: str, account: str, within: str) -> set[Right]:
    """What the API server says to the account's own question, in the namespace `within`."""
    context = ssl.create_default_context(cafile=str(plane.authority.certificate))
    client = Client(plane.url, context, plane.token(namespace, account))
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": within},
    }
    status, answer = client.answer("POST", f"{REVIEWS}/selfsubjectrulesreviews", review)
    client.close()
    assert status == 201, answer
    assert not answer["status"]["incomplete"]
    return {
        Right(verb, group, resource, name)
        for rule in answer["status"]["resourceRules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    }


def is_allowed(plane: ControlPlane, user: str, within: str, right: Right) -> bool:
    resource, _, subresource = right.resource.partition("/")
    asked = {"namespace": within, "resource": resource, "subresource": subresource}
    asked |= {"verb": right.verb, "group": right.group, "name": right.name}
    review: Object = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": asked},
    }
    status, answer = plane.admin.answer("POST", f"{REVIEWS}/subjectaccessreviews", review)
    assert status == 201, answer
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize(
    ("within", "wanted"),
    [
        (ELSEWHERE, EVERYWHERE),
        (HOME, EVERYWHERE | AT_HOME),
        ("kube-system", EVERYWHERE | IN_KUBE_SYSTEM),
    ],
)
def test_the_fleet_service_may_do_what_it_does_and_nothing_else(
    plane: ControlPlane, within: str, wanted: set[Right]
) -> None:
    anybody = rights(plane, HOME, "nobody", within)
    assert rights(plane, HOME, "remora-fleet", within) - anybody == wanted
    for right in wanted:
        assert is_allowed(plane, FLEET, within, right), right
        assert not is_allowed(plane, NOBODY, within, right), right


@pytest.mark.parametrize(("within", "right"), REFUSED)
def test_the_fleet_service_is_refused(plane: ControlPlane, within: str, right: Right) -> None:
    assert not is_allowed(plane, FLEET, within, right)


def test_a_triton_pod_may_do_what_anybody_may(plane: ControlPlane) -> None:
    for within in (ELSEWHERE, HOME, "kube-system"):
        its = rights(plane, ELSEWHERE, "triton", within)
        assert its == rights(plane, HOME, "nobody", within)


@pytest.mark.parametrize("overlay", [name for name in TRITONS if name != "existing-triton"])
def test_a_triton_pod_has_no_token_to_ask_with(overlay: str) -> None:
    for _, template in templates(objects(overlay)):
        assert template["spec"]["automountServiceAccountToken"] is False
