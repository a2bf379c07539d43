"""A real HorizontalPodAutoscaler scales by what real sidecars beside real Tritons offer.

Everything is as in production but the kubelet and the seconds: our manifests on a real control
plane, two replicas of the fleet service as the service account of theirs, a Deployment with our
patch, whose pods are a Triton and a sidecar each. The tests are one story, in their order: work
comes, accidents happen, work goes.
"""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from urllib3.exceptions import HTTPError

from simulations.testbed.tritonserver import find as find_triton
from tests.controlplane.authority import Pair
from tests.controlplane.binaries import MODULE, Binaries, build
from tests.controlplane.client import Client, manifests, path_of
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.deployed import (
    APIS,
    DEPLOY,
    HOME,
    HPA,
    LOADS,
    SCALED,
    Deployed,
    Replica,
    deployed,
    eventually,
    throughout,
)
from tests.controlplane.offering import Offering
from tests.controlplane.workload import Sidecar

# Requests a second of a model of which one pod does five: the work of 1.1, 1.7 and 2.4 pods. At a
# target of 0.7 for each it takes so many, with room on either side for a machine that is busy.
FOR_TWO, FOR_THREE, FOR_FOUR = 5.5, 8.5, 12.0
OWN = 1.5
STALE_S = 4.0
# So long the autoscaler, which looks every second, must not be led astray.
CALM_S = 9.0
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default"


@dataclass
class Story:
    """owners: by model the one pod that holds it."""

    deployed: Deployed
    offering: Offering
    owners: dict[str, str] = field(default_factory=dict)

    def settles(self, pods: int, within_s: float) -> None:
        """So many are wanted, run, and have told their load."""
        told = self.deployed
        eventually(
            lambda: told.wanted() == pods == len(told.loads()) == len(told.kubelet.running),
            within_s,
            lambda: (pods, told.wanted(), told.loads(), told.admin.get(HPA)["status"]),
        )

    def stays(self, pods: int, for_s: float = CALM_S) -> None:
        told = self.deployed
        throughout(
            lambda: told.wanted() == pods,
            for_s,
            lambda: (pods, told.loads(), told.admin.get(HPA)["status"]),
        )


@pytest.fixture(scope="module")
def story(
    binaries: Binaries, address: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("fleet")
    with (
        ControlPlane(folder / "plane", binaries) as plane,
        deployed(plane, find_triton(), address, folder) as running,
        Offering(running.doors) as offering,
    ):
        plane.admin.apply(_bound("remora-metrics-reader", "reader"))
        offering.rate("common", FOR_TWO)
        story = Story(running, offering)
        story.settles(2, 60)
        yield story


def _bound(role: str, user: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{role}-{user}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }


# --- who may ask ---


def test_the_api_server_lets_through_only_who_may_read(story: Story) -> None:
    plane = story.deployed.plane
    anonymous = ssl.create_default_context(cafile=str(plane.authority.certificate))
    callers = {
        "anonymous": Client(plane.url, anonymous),
        "false token": Client(plane.url, anonymous, token="false"),
        "nobody": plane.client("nobody"),
        "reader": plane.client("reader"),
    }
    answers = {name: caller.answer("GET", LOADS)[0] for name, caller in callers.items()}
    for caller in callers.values():
        caller.close()
    assert answers == {"anonymous": 403, "false token": 401, "nobody": 403, "reader": 200}


def test_around_the_api_server_nobody_is_believed(story: Story) -> None:
    """The fleet's port is open to every pod of a cluster."""
    plane = story.deployed.plane
    masters = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
    nobody = {"X-Remote-User": "nobody", "X-Remote-Group": "system:authenticated"}
    reader = {"X-Remote-User": "reader", "X-Remote-Group": "system:authenticated"}
    wrong_name = plane.front_proxy.issue("somebody-else")
    wrong_authority = plane.authority.issue("front-proxy-client", groups=["system:masters"])
    for replica in story.deployed.replicas:
        assert _around(story, replica, None, masters) == 401
        assert _around(story, replica, wrong_name, masters) == 401
        assert _around(story, replica, wrong_authority, masters) in (0, 401)
        assert _around(story, replica, plane.proxy, {}) == 401
        assert _around(story, replica, plane.proxy, nobody) == 403
        assert _around(story, replica, plane.proxy, reader) == 200


def _around(story: Story, replica: str, pair: Pair | None, headers: Mapping[str, str]) -> int:
    """The status; 0 when there is not even a connection."""
    context = ssl.create_default_context(cadata=story.deployed.authority())
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    try:
        return story.deployed.replicas[replica].answer(LOADS, context, headers)[0]
    except HTTPError:
        return 0


def test_both_versions_and_the_external_metric_tell_the_same(story: Story) -> None:
    reader = story.deployed.plane.client("reader")
    newer = reader.get(LOADS)["items"]
    older = reader.get(LOADS.replace("v1beta2", "v1beta1"))["items"]
    (whole,) = reader.get(f"{EXTERNAL}/remora_load")["items"]
    one = reader.get(f"{APIS}/deployments.apps/triton/remora_load")["items"]
    reader.close()
    assert {row["describedObject"]["name"] for row in newer} == set(story.deployed.pods())
    assert {row["metric"]["name"] for row in newer} == {"remora_load"}
    assert {row["metricName"] for row in older} == {"remora_load"}
    total = sum(_milli(row["value"]) for row in newer)
    assert _milli(whole["value"]) == pytest.approx(total, abs=150)
    assert [row["describedObject"]["kind"] for row in one] == ["Deployment"]


def _milli(quantity: str) -> int:
    return int(quantity.removesuffix("m")) if quantity.endswith("m") else int(quantity) * 1000


@pytest.fixture(scope="module")
def keda(tmp_path_factory: pytest.TempPathFactory) -> str:
    """KEDA's own client, which needs Go even where the control plane's programs are given."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not on PATH, so KEDA's own client cannot be built")
    program = str(tmp_path_factory.mktemp("keda") / "keda")
    build([go, "build", "-mod=readonly", "-trimpath", "-o", program, "."], MODULE / "keda")
    return program


def test_keda_is_told_the_sum_and_never_a_false_zero(story: Story, keda: str) -> None:
    for replica in story.deployed.replicas.values():
        total = sum(_milli(value) for value in story.deployed.loads().values())
        ours, gone = (_keda(keda, replica, name) for name in ("triton", "nothing"))
        (spec,) = ours["GetMetricSpec"]["metricSpecs"]
        assert (spec["targetSize"], spec["targetSizeFloat"]) == (700, 700)
        (value,) = ours["GetMetrics"]["metricValues"]
        assert value["metricValue"] == pytest.approx(total, abs=150)
        assert value["metricValueFloat"] == value["metricValue"]
        assert ours["IsActive"] == ours["StreamIsActive"] == {"result": True}
        assert gone["GetMetrics"]["code"] == gone["IsActive"]["code"] == "Unavailable"


def _keda(program: str, replica: Replica, name: str) -> Any:
    """By method, what KEDA's client makes of the answer."""
    command = [program, f"{replica.address}:{replica.keda_port}", "default", name]
    ended = subprocess.run(command, capture_output=True, check=True, timeout=30)
    return json.loads(ended.stdout)


# --- work comes ---


def test_pods_are_as_many_as_the_work_needs(story: Story) -> None:
    story.stays(2)
    for rate, pods, own in ((FOR_THREE, 3, "own-a"), (FOR_FOUR, 4, "own-b")):
        before = set(story.deployed.pods())
        story.offering.rate("common", rate)
        story.settles(pods, 60)
        story.stays(pods)
        # What only the newest holds, for later.
        (newest,) = set(story.deployed.pods()) - before
        story.offering.rate(own, OWN, to=newest)
        story.owners[own] = newest


def test_the_deployment_is_told_that_its_pins_do_not_fit(story: Story) -> None:
    def told() -> list[str]:
        events = story.deployed.admin.items("/api/v1/namespaces/default/events")
        about = ((event["involvedObject"]["kind"], event["reason"]) for event in events)
        return [reason for kind, reason in about if kind == "Deployment"]

    eventually(lambda: "PinsDoNotFit" in told(), 40, told)


def test_a_model_s_label_leads_to_the_pods_that_hold_it_and_to_no_other(story: Story) -> None:
    told = story.deployed
    eventually(
        lambda: (
            told.holders("common") == set(told.pods())
            and all(told.holders(model) == {pod} for model, pod in story.owners.items())
        ),
        60,
        lambda: (story.owners, {name: told.holders(name) for name in ("common", *story.owners)}),
    )
    # It is pinned, and fits nowhere.
    assert told.holders("huge") == set()
    # Nothing else was touched, or the Deployment would have made other pods.
    template = told.admin.get(SCALED)["spec"]["template"]["metadata"]["labels"]
    assert all(
        template.items() <= pod["metadata"]["labels"].items() for pod in told.pods().values()
    )


@pytest.mark.parametrize(
    ("verb", "group", "resource", "subresource"),
    [
        ("delete", "", "pods", ""),
        ("update", "", "pods", ""),
        ("create", "", "pods", "exec"),
        ("create", "", "pods", "eviction"),
        ("patch", "", "pods", "status"),
        ("patch", "apps", "deployments", ""),
        ("patch", "", "services", ""),
        ("get", "", "secrets", ""),
    ],
)
def test_the_fleet_may_write_to_pods_and_do_nothing_else_with_them(
    story: Story, verb: str, group: str, resource: str, subresource: str
) -> None:
    asked = {"namespace": "default", "verb": verb, "group": group, "resource": resource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{HOME}:remora-fleet",
            "resourceAttributes": {**asked, "subresource": subresource},
        },
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    status, answer = story.deployed.admin.answer("POST", path, review)
    assert (status, answer["status"]["allowed"]) == (201, False)


# --- accidents happen ---


def test_a_dead_sidecar_changes_nothing(story: Story) -> None:
    name, sidecar = _some_sidecar(story)
    story.deployed.shunned.add(name)
    sidecar.kill()
    eventually(lambda: _is_left_out(story, name), 2 * STALE_S, story.deployed.loads)
    story.stays(4)
    sidecar.restart()
    _welcomed_back(story, name, sidecar)


def test_a_pod_whose_sidecar_stays_dead_has_no_labels_in_the_end(story: Story) -> None:
    told = story.deployed
    name, sidecar = _some_sidecar(story)
    others = set(told.pods()) - {name}
    told.shunned.add(name)
    sidecar.kill()
    eventually(lambda: _is_left_out(story, name), 2 * STALE_S, told.loads)
    # Unknown is no reason yet.
    assert name in told.holders("common")
    eventually(
        lambda: told.holders("common") == others, 6 * STALE_S, lambda: told.holders("common")
    )
    sidecar.restart()
    _welcomed_back(story, name, sidecar)
    eventually(lambda: name in told.holders("common"), 30, sidecar.log)


def test_a_sidecar_that_hangs_changes_nothing(story: Story) -> None:
    name, sidecar = _some_sidecar(story)
    story.deployed.shunned.add(name)
    sidecar.freeze()
    eventually(lambda: _is_left_out(story, name), 2 * STALE_S, story.deployed.loads)
    story.stays(4)
    sidecar.thaw()
    _welcomed_back(story, name, sidecar)


def test_a_pod_that_is_deleted_is_replaced_and_no_more(story: Story) -> None:
    name, _ = _some_sidecar(story)
    story.deployed.shunned.add(name)
    story.deployed.kubelet.drain_s = CALM_S
    story.deployed.admin.delete(f"/api/v1/namespaces/default/pods/{name}")
    eventually(lambda: _is_left_out(story, name), 2, story.deployed.loads)
    story.stays(4, CALM_S + 3)
    story.deployed.kubelet.drain_s = 0.0
    story.settles(4, 30)


def test_a_dead_replica_of_the_fleet_changes_nothing(story: Story) -> None:
    told = story.deployed
    writer = told.writer()
    (other,) = told.replicas.keys() - {writer}
    replica = told.replicas[writer]
    # The newest pod has its label too.
    eventually(lambda: told.holders("common") == set(told.pods()), 30, told.pods)
    holders = {model: told.holders(model) for model in ("common", *story.owners)}
    replica.process.kill()
    story.stays(4, 2)
    # As the endpoints' controller does when a pod is not ready.
    told.admin.delete(replica.slice_path)
    eventually(lambda: len(told.loads()) == 4, 5, told.loads)
    eventually(lambda: told.writer() == other, 15, told.writer)
    story.stays(4)
    assert {model: told.holders(model) for model in holders} == holders
    replica.process.restart()
    eventually(lambda: replica.is_ready, 30, replica.log)
    told.admin.apply(replica.slice)
    story.stays(4, 3)


def _some_sidecar(story: Story) -> tuple[str, Sidecar]:
    """Of a pod that holds nothing of its own."""
    running = story.deployed.kubelet.running
    name = min(running.keys() - set(story.owners.values()))
    return name, running[name].sidecar


def _is_left_out(story: Story, name: str) -> bool:
    """It alone: the others are told as before, and it not as 0."""
    loads = story.deployed.loads()
    return name not in loads and len(loads) >= 3


def _welcomed_back(story: Story, name: str, sidecar: Sidecar) -> None:
    eventually(lambda: name in story.deployed.loads(), 30, sidecar.log)
    story.deployed.shunned.discard(name)
    story.stays(4, 3)


# --- work goes ---


def test_the_pod_whose_loss_hurts_least_goes_first(story: Story) -> None:
    """Without a cost the newest pods would go, and with them the models that only they hold."""
    told = story.deployed
    owners = set(story.owners.values())

    def is_dear() -> bool:
        costs = told.costs()
        return min(costs[name] for name in owners) > max(
            cost for name, cost in costs.items() if name not in owners
        )

    # A pod's cost is written once a minute at most.
    eventually(is_dear, 90, lambda: (owners, told.costs()))
    story.offering.rate("common", FOR_TWO)
    story.settles(2, 60)
    assert set(told.pods()) == owners
    story.stays(2)
    assert told.admin.get(HPA)["status"]["desiredReplicas"] == 2


def test_the_fleet_was_never_refused_what_its_role_should_allow(story: Story) -> None:
    for name in story.deployed.replicas:
        assert "forbidden" not in story.deployed.replicas[name].log()


def test_it_is_removed_as_it_says_and_holds_nothing_up(story: Story) -> None:
    """Last, for it is gone then."""
    admin = story.deployed.admin
    external = DEPLOY / "components/external-metrics/apiservice.yaml"
    objects = manifests(DEPLOY / "fleet") + manifests(external)
    for each in sorted(objects, key=lambda each: each["kind"] != "APIService"):
        admin.delete(path_of(each))
    gone = f"/api/v1/namespaces/{HOME}"
    eventually(lambda: admin.answer("GET", gone)[0] == 404, 60, lambda: admin.get(gone))
