"""The programs of a real control plane: found where they are, or built once from pinned modules.

Owns where kube-apiserver, kube-controller-manager and etcd lie, and the versions that go.mod and
go.sum beside it pin. Knows nothing of how they are run.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MODULE = Path(__file__).parent
SOURCES = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "etcd": "go.etcd.io/etcd/server/v3",
}
BUILD_TIMEOUT_S = 1800.0
ERROR_TAIL_CHARACTERS = 2000


class NoControlPlane(RuntimeError):
    """Nothing here can run one: there is no Go, and nobody names the programs."""


class BuildFailed(RuntimeError):
    """Go is here, and did not build them, or what is named is not there."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Paths of the three programs, and where they come from, for the report's head."""

    folder: Path
    source: str

    def path(self, name: str) -> str:
        return str(self.folder / name)


def find(environment: Mapping[str, str] = os.environ) -> Binaries:
    """Those that KUBEBUILDER_ASSETS names, else those of the cache, which the first call builds.

    Raises NoControlPlane where there is neither, and BuildFailed.
    """
    if named := environment.get("KUBEBUILDER_ASSETS"):
        return _named(Path(named))
    folder = cache("controlplane", MODULE, environment)
    if not _is_whole(folder):
        go = shutil.which("go")
        if go is None:
            raise NoControlPlane("go is not on PATH, and KUBEBUILDER_ASSETS is not set")
        with only_one(folder):
            if not _is_whole(folder):
                _build_all(go, folder)
    return Binaries(folder, f"built from {MODULE.name}/go.mod")


def kubernetes_version() -> str:
    """The version that go.mod pins, such as v1.34.4."""
    pinned = re.search(r"k8s\.io/kubernetes (v\S+)", (MODULE / "go.mod").read_text())
    assert pinned is not None, "go.mod requires no k8s.io/kubernetes"
    return pinned[1]


def _named(folder: Path) -> Binaries:
    missing = [name for name in SOURCES if not os.access(folder / name, os.X_OK)]
    if missing:
        raise BuildFailed(f"KUBEBUILDER_ASSETS is {str(folder)!r}, which lacks {missing}")
    return Binaries(folder, "KUBEBUILDER_ASSETS")


def cache(name: str, module: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Where what is built of a Go module is kept, as long as the module pins the same.

    go.sum alone names every version and what is in it; go.mod names what is built.
    """
    root = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    pinned = (module / "go.mod").read_bytes() + (module / "go.sum").read_bytes()
    return Path(root) / "remora" / name / hashlib.sha256(pinned).hexdigest()[:16]


def _is_whole(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in SOURCES)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Two sessions that start together would build the same thing twice, half as fast."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build_all(go: str, folder: Path) -> None:
    """A program appears under its name only when it is whole."""
    version = kubernetes_version()
    major, minor = version.removeprefix("v").split(".")[:2]
    base = "k8s.io/component-base/version"
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    linked = " ".join(["-s -w", *(f"-X {base}.{name}={value}" for name, value in stamps.items())])
    for name, package in SOURCES.items():
        half = folder / f"{name}.half"
        command = [go, "build", "-trimpath", "-mod=readonly", "-ldflags", linked, "-o", str(half)]
        build([*command, package])
        half.rename(folder / name)


def build(command: list[str], module: Path = MODULE) -> None:
    """Runs go, which must be its first word, in the folder of ``module``. Raises BuildFailed."""
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
    ended = subprocess.run(
        command,
        cwd=module,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if ended.returncode:
        raise BuildFailed(f"{command[-1]}: {ended.stderr[-ERROR_TAIL_CHARACTERS:]}")


if __name__ == "__main__":
    print(find().folder)
