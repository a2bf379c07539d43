"""The chart makes what Kustomize makes, refuses values that mean nothing, and says what is next."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import yaml

from tests.controlplane.client import Object
from tests.manifests.overlays import CHART, DEPLOY, containers, kinds, objects, of, templates
from tests.manifests.programs import helm

CLUSTER = {"Namespace", "ClusterRole", "ClusterRoleBinding", "APIService"}
Values = dict[str, Any]

ONLY_FLEET: Values = {"triton": {"enabled": False}, "fleet": {"enabled": True}}
# What of an overlay the chart makes too: kinds that stay out are made by something else.
SAME: dict[str, tuple[str, Values]] = {
    "single-gpu": ("models", {}),
    "multi-gpu": (
        "models",
        {
            "triton": {
                "gpus": 4,
                "sharedMemory": "8Gi",
                "resources": {
                    "requests": {"cpu": "16", "memory": "64Gi"},
                    "limits": {"memory": "128Gi"},
                },
            }
        },
    ),
    "cpu": (
        "models",
        {
            "triton": {
                "gpus": 0,
                "resources": {
                    "requests": {"cpu": "2", "memory": "8Gi"},
                    "limits": {"memory": "8Gi"},
                },
            }
        },
    ),
    "gateway": (
        "models",
        {"gateway": {"enabled": True}, "policy": {"scaling": {"routing": "by-model"}}},
    ),
    "fleet alone": ("remora", ONLY_FLEET),
    "keda": (
        "remora",
        {**ONLY_FLEET, "fleet": {"enabled": True, "keda": True, "customMetrics": False}},
    ),
}


def charted(namespace: str, values: Values) -> tuple[Object, ...]:
    ended = helm("template", "a", str(CHART), "--namespace", namespace, values=values)
    assert ended.returncode == 0, ended.stderr
    return tuple(each for each in yaml.safe_load_all(ended.stdout) if each)


def compared(found: Iterable[Object], namespace: str) -> dict[tuple[str, str], Object]:
    """Without what only one of the two has: names with hashes, the namespace, checksums, hooks."""
    text = json.dumps([each for each in found if not _is_hook(each)])
    text = re.sub(r'"(triton-envoy|triton-gateway)-[a-z0-9]{10}"', r'"\1"', text)
    same: dict[tuple[str, str], Object] = {}
    for each in json.loads(text):
        metadata = each["metadata"]
        if each["kind"] == "Namespace":
            continue
        if each["kind"] not in CLUSTER:
            metadata.setdefault("namespace", namespace)
        if each["kind"] == "Deployment":
            annotations = each["spec"]["template"]["metadata"].pop("annotations", {})
            assert all(key.startswith("checksum/") for key in annotations)
            _sort(each["spec"]["template"])
        if each["kind"] == "ConfigMap":
            each["data"] = {key: yaml.safe_load(value) for key, value in each["data"].items()}
        if metadata["namespace"] == namespace if each["kind"] not in CLUSTER else True:
            same[each["kind"], metadata["name"]] = each
    return same


def _sort(template: Any) -> None:
    """What is in no order."""
    template["spec"].get("volumes", []).sort(key=lambda each: each["name"])
    for each in containers(template):
        each.get("env", []).sort(key=lambda each: each["name"])


def _is_hook(each: Object) -> bool:
    return "helm.sh/hook" in each["metadata"].get("annotations", {})


@pytest.mark.parametrize("overlay", SAME)
def test_it_makes_what_kustomize_makes(overlay: str) -> None:
    namespace, values = SAME[overlay]
    ours = compared(charted(namespace, values), namespace)
    theirs = compared(objects(overlay), namespace)
    assert ours.keys() == theirs.keys()
    for name, each in theirs.items():
        assert ours[name] == each, name


def test_the_autoscalers_are_the_same() -> None:
    for values, overlay, kind in (
        ({"hpa": {"enabled": True}}, "fleet", "HorizontalPodAutoscaler"),
        ({"keda": {"enabled": True}}, "keda", "ScaledObject"),
    ):
        ours = of(charted("models", values), kind, "triton")
        assert ours["spec"] == of(objects(overlay), kind, "triton")["spec"]


def test_the_monitors_are_the_same() -> None:
    theirs = compared(objects("monitoring"), "models")
    ours = compared(charted("models", {"monitoring": {"enabled": True}}), "models")
    assert theirs.keys() <= ours.keys()
    for name, each in theirs.items():
        assert ours[name] == each, name
    fleet = charted("remora", {**ONLY_FLEET, "monitoring": {"enabled": True}})
    monitor = of(fleet, "PodMonitor", "remora-fleet")["spec"]
    assert monitor == of(objects("monitoring"), "PodMonitor", "remora-fleet")["spec"]


def test_values_reach_what_they_are_for() -> None:
    values: Values = {
        "images": {"remora": "r:1", "triton": "t:1", "envoy": "e:1"},
        "imagePullSecrets": [{"name": "secret"}],
        "triton": {"args": ["--log-verbose=1"]},
        "repository": {"claim": "mine", "create": False},
        "gateway": {"enabled": True, "replicas": 3},
        "fleet": {"enabled": True, "residentLabels": 64, "externalMetrics": True},
        "networkPolicies": {"enabled": False},
    }
    found = charted("models", values)
    assert kinds(found, "NetworkPolicy") == kinds(found, "PersistentVolumeClaim") == []
    used = {each["image"] for _, pod in _pods(found) for each in containers(pod)}
    assert used == {"r:1", "t:1", "e:1"}
    for _, pod in _pods(found):
        assert pod["spec"]["imagePullSecrets"] == [{"name": "secret"}]
    triton = of(found, "Deployment", "triton")["spec"]["template"]["spec"]
    assert "--log-verbose=1" in triton["containers"][0]["args"]
    (claim,) = (each for each in triton["volumes"] if "persistentVolumeClaim" in each)
    assert claim["persistentVolumeClaim"]["claimName"] == "mine"
    assert of(found, "Deployment", "triton-gateway")["spec"]["replicas"] == 3
    names = {each["metadata"]["name"] for each in kinds(found, "APIService")}
    assert len(names) == 3


def _pods(found: Iterable[Object]) -> list[tuple[str, Mapping[str, Any]]]:
    named = [copy.deepcopy(each) for each in found]
    for each in named:
        each["metadata"].setdefault("namespace", "models")
    return list(templates(named))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"triton": {"gpus": -1}}, "gpus"),
        ({"triton": {"gpu": 1}}, "gpu"),
        ({"triton": {"args": ["log-verbose=1"]}}, "args"),
        ({"fleet": {"residentLabels": 1000}}, "residentLabels"),
        ({"gateway": {"replicas": 0}}, "replicas"),
        ({"keda": {"address": "http://somewhere"}}, "address"),
        ({"hpa": {"enabled": True}, "keda": {"enabled": True}}, "not"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_values_that_mean_nothing_are_refused(values: Values, named: str) -> None:
    ended = helm("template", "a", str(CHART), values=values)
    assert ended.returncode != 0
    assert named in ended.stderr


def test_helm_finds_nothing_to_complain_of() -> None:
    for values in ({}, ONLY_FLEET, {"gateway": {"enabled": True}, "hpa": {"enabled": True}}):
        ended = helm("lint", "--strict", str(CHART), values=values)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_its_version_is_the_projects() -> None:
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == project["version"]
    images = yaml.safe_load((CHART / "values.yaml").read_text())["images"]
    assert images["remora"] == f"remora:{project['version']}"


def test_its_files_are_those_of_the_other_folders() -> None:
    for path in (CHART / "files").iterdir():
        assert path.is_symlink()
        assert path.resolve().is_relative_to(DEPLOY)
        assert path.is_file()
