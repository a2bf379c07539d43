"""Kustomize, Helm and the definitions of others' kinds, from Go modules pinned beside this.

Owns where they lie. Knows nothing of what our manifests say.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane import binaries
from tests.controlplane.binaries import NoControlPlane, build
from tests.controlplane.client import Object

MODULE = Path(__file__).parent
SOURCES = {
    "kustomize": "sigs.k8s.io/kustomize/kustomize/v5",
    "helm": "helm.sh/helm/v3/cmd/helm",
}
# Helm believes itself to be of an old Kubernetes unless it is told.
_VERSIONS = "helm.sh/helm/v3/pkg/chartutil.k8sVersion"
LINKED = f"-s -w -X {_VERSIONS}Major=1 -X {_VERSIONS}Minor=34"
# Module, and where in it the definitions are that our manifests need.
DEFINITIONS = {
    "github.com/kedacore/keda/v2": ("config/crd/bases/keda.sh_scaledobjects.yaml",),
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
}
TIMEOUT_S = 300.0


@cache
def program(name: str) -> str:
    """The program's path; the first call of all builds it. Raises NoControlPlane, BuildFailed."""
    folder = binaries.cache("manifests", MODULE)
    path = folder / name
    if not path.exists():
        go = _go()
        with binaries.only_one(folder):
            if not path.exists():
                half = folder / f"{name}.half"
                command = [go, "build", "-trimpath", "-mod=readonly", "-ldflags", LINKED]
                build([*command, "-o", str(half), SOURCES[name]], MODULE)
                half.rename(path)
    return str(path)


@cache
def rendered(folder: Path) -> tuple[Object, ...]:
    """What `kubectl apply -k` would apply, in its order."""
    command = [program("kustomize"), "build", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ended.returncode == 0, ended.stderr
    # A warning is of a field that the next version will refuse.
    assert ended.stderr == ""
    return tuple(each for each in yaml.safe_load_all(ended.stdout) if each)


def helm(
    *command: str, values: Mapping[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    """values: over those of the chart."""
    given = ["--values", "-"] if values is not None else []
    return subprocess.run(
        [program("helm"), *command, *given],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def definitions() -> list[Object]:
    """The CustomResourceDefinitions of the kinds that are not Kubernetes' own."""
    command = [_go(), "mod", "download", "-json", *DEFINITIONS]
    module = MODULE / "crds"
    ended = subprocess.run(
        command, cwd=module, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    decoder, text = json.JSONDecoder(), ended.stdout
    found: list[Object] = []
    while text := text.lstrip():
        told, end = decoder.raw_decode(text)
        text = text[end:]
        for name in DEFINITIONS[told["Path"]]:
            found += yaml.safe_load_all((Path(told["Dir"]) / name).read_text())
    return [each for each in found if each]


def _go() -> str:
    go = shutil.which("go")
    if go is None:
        raise NoControlPlane("go is not on PATH, so kustomize and helm cannot be built")
    return go
