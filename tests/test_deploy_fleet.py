"""The fleet's manifests agree with the code and each other; tests/controlplane applies them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.fleet.settings import PREFIX, FleetSettings
from daemon.settings import table

DEPLOY = Path(__file__).parent.parent / "deploy"
EXTERNAL = DEPLOY / "components" / "external-metrics" / "apiservice.yaml"
FILES = (*sorted((DEPLOY / "fleet").glob("[0-9]*.yaml")), EXTERNAL)
OBJECTS = [each for path in FILES for each in yaml.safe_load_all(path.read_text())]
HPA = yaml.safe_load((DEPLOY / "components" / "hpa" / "hpa.yaml").read_text())
SETTINGS = FleetSettings(own_namespace="remora")


def of(kind: str, name: str = "remora-fleet") -> dict[str, Any]:
    (found,) = (
        each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )
    return dict(found)


def container() -> dict[str, Any]:
    (found,) = of("Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_every_variable_is_a_setting_of_the_fleet() -> None:
    known = {name for _, name, _, _ in table(FleetSettings, PREFIX)}
    assert {each["name"] for each in container()["env"]} <= known


def test_ports_are_where_the_fleet_listens() -> None:
    ports = {each["name"]: each["containerPort"] for each in container()["ports"]}
    assert ports == {"api": SETTINGS.api_port, "http": SETTINGS.http_port}
    (port,) = of("Service")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (443, "api")


def test_names_are_those_that_the_fleet_uses() -> None:
    assert of("Service")["metadata"]["name"] == SETTINGS.service
    named = {
        resource: rule["resourceNames"]
        for rule in of("Role")["rules"]
        for resource in rule["resources"]
        if "resourceNames" in rule
    }
    assert named == {"leases": [SETTINGS.lease], "secrets": [f"{SETTINGS.service}-ca"]}


def test_selectors_find_the_pods() -> None:
    labels = of("Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = (
        of("Deployment")["spec"]["selector"]["matchLabels"],
        of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of("Service")["spec"]["selector"],
    )
    for selector in selectors:
        assert selector.items() <= labels.items()


def test_the_loss_of_one_replica_leaves_one() -> None:
    assert of("Deployment")["spec"]["replicas"] == 2
    assert of("PodDisruptionBudget")["spec"]["minAvailable"] == 1
    assert of("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@pytest.mark.parametrize("binding", [each for each in OBJECTS if "subjects" in each])
def test_every_binding_binds_a_role_that_is_there(binding: dict[str, Any]) -> None:
    here = {(each["kind"], each["metadata"]["name"]) for each in OBJECTS}
    theirs = {("Role", "extension-apiserver-authentication-reader")}
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in here | theirs


def test_the_fleet_may_do_nothing_to_everything() -> None:
    for role in (of("ClusterRole"), of("Role")):
        for rule in role["rules"]:
            for field in ("apiGroups", "resources", "verbs"):
                assert "*" not in rule[field]


def test_secrets_are_read_by_name_only() -> None:
    for role in (of("ClusterRole"), of("Role")):
        for rule in role["rules"]:
            if "secrets" in rule["resources"] and "resourceNames" not in rule:
                assert rule["verbs"] == ["create"]


def test_api_services_lead_to_the_service_and_are_named_in_the_role() -> None:
    services = [each for each in OBJECTS if each["kind"] == "APIService"]
    for each in services:
        spec = each["spec"]
        assert each["metadata"]["name"] == f"{spec['version']}.{spec['group']}"
        assert spec["service"] == {"name": SETTINGS.service, "namespace": "remora"}
        assert "insecureSkipTLSVerify" not in spec
    (rule,) = (rule for rule in of("ClusterRole")["rules"] if "resourceNames" in rule)
    assert set(rule["resourceNames"]) == {each["metadata"]["name"] for each in services}


def test_the_newer_version_is_preferred() -> None:
    older, newer = (
        of("APIService", f"{version}.custom.metrics.k8s.io")["spec"]["versionPriority"]
        for version in ("v1beta1", "v1beta2")
    )
    assert older < newer


def test_all_that_can_be_is_in_one_namespace() -> None:
    """So that the name is changed by one search."""
    said = {
        name
        for path in FILES
        for name in re.findall(r"^\s*namespace: (\S+)$", path.read_text(), re.MULTILINE)
    }
    assert said == {"remora", "kube-system"}


def test_the_hpa_reads_our_metric_of_each_pod() -> None:
    (metric,) = HPA["spec"]["metrics"]
    assert metric["type"] == "Pods"
    assert metric["pods"]["metric"] == {"name": "remora_load"}
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "700m"}


def test_the_hpa_grows_faster_than_it_shrinks() -> None:
    up, down = (HPA["spec"]["behavior"][each] for each in ("scaleUp", "scaleDown"))
    assert up["stabilizationWindowSeconds"] < down["stabilizationWindowSeconds"]
    assert max(each["value"] for each in down["policies"]) < max(
        each["value"] for each in up["policies"]
    )
