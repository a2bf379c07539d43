"""A real API server takes every overlay, each field of it, and every pod that it would make."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import pytest

from tests.controlplane.binaries import Binaries
from tests.controlplane.client import Client, Object, path_of
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.deployed import eventually
from tests.manifests.overlays import APPLIED, kinds, objects, templates
from tests.manifests.programs import definitions

# Those that somebody else has made.
NAMESPACES = ("monitoring",)


@pytest.fixture(scope="module")
def admin(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with ControlPlane(tmp_path_factory.mktemp("plane"), binaries) as plane:
        for name in NAMESPACES:
            plane.admin.apply(_namespace(name, {}))
        for each in definitions():
            plane.admin.apply(each)
            eventually(partial(_is_served, plane.admin, each), 30, partial(str, each))
        yield plane.admin


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
