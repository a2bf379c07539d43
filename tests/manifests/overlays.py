"""What there is to apply, and what is asked of an object wherever it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.controlplane.client import Object
from tests.manifests.programs import rendered

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "chart"
OVERLAYS = sorted(path.name for path in (DEPLOY / "overlays").iterdir())
APPLIED = {
    **{name: DEPLOY / "overlays" / name for name in OVERLAYS},
    "fleet alone": DEPLOY / "fleet",
    "upload": DEPLOY / "upload",
    "pull": DEPLOY / "pull",
    "monitoring": DEPLOY / "monitoring",
}
TRITONS = ("single-gpu", "multi-gpu", "cpu", "existing-triton", "gateway")


def objects(name: str) -> tuple[Object, ...]:
    return rendered(APPLIED[name])


def of(found: Iterable[Object], kind: str, name: str) -> Object:
    (one,) = (each for each in found if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return one


def kinds(found: Iterable[Object], kind: str) -> list[Object]:
    return [each for each in found if each["kind"] == kind]


def templates(found: Iterable[Object]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Namespace, and template, of whatever makes pods."""
    for each in found:
        if each["kind"] in ("Deployment", "Job"):
            yield each["metadata"]["namespace"], each["spec"]["template"]
        elif each["kind"] == "CronJob":
            yield each["metadata"]["namespace"], each["spec"]["jobTemplate"]["spec"]["template"]


def containers(template: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Native sidecars first, as they start."""
    spec = template["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]


def container(template: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    (one,) = (each for each in containers(template) if each["name"] == name)
    return one


def listens(template: Mapping[str, Any]) -> dict[str, int]:
    """By name, the ports of all its containers."""
    return {
        port["name"]: port["containerPort"]
        for each in containers(template)
        for port in each.get("ports", ())
    }
