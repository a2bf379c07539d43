"""A version that an MLflow registry names by alias, stage or number, as a version for Triton.

Owns the way through MLflow's client, whose address and credentials come from the environment.
Refuses artifacts that the registry says are elsewhere than with itself or in a bucket: a path of
this machine, or another server that would be shown our credentials.
"""

import os
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from daemon.pulling.folders import Files
from daemon.pulling.offers import (
    CONFIG,
    VERSION,
    Offer,
    Refused,
    Release,
    RemoteFile,
    Unreachable,
    checked,
    told,
)

# What Triton's backends look for in a version's folder unless the configuration names another.
TRITON_FILES = (
    "model.py",
    "model.onnx",
    "model.plan",
    "model.pt",
    "model.savedmodel",
    "model.graphdef",
    "model.xml",
    "model.dali",
    "model.json",
)
SERVER = "MLFLOW_TRACKING_URI"
_MOST_FILES = 10_000


class _Artifacts(Protocol):
    def files(self) -> list[RemoteFile]: ...

    def fetch(self, file: RemoteFile, target: Path) -> None: ...


class Registered:
    """A `Source`: the version that ``models:/…`` stands for now."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._artifacts: _Artifacts | None = None

    def offer(self) -> Offer:
        with told(self._uri):
            client = _client()
            found = _resolved(client, self._uri)
            if found.status != "READY":
                raise Unreachable(f"{self._uri}: version {found.version} is {found.status}")
            if not VERSION.fullmatch(found.version):
                raise Refused(
                    f"{self._uri} is version {found.version!r}; allowed: a number above 0"
                )
            place = client.get_model_version_download_uri(found.name, found.version)
        self._artifacts = _artifacts(place)
        files = tuple(self._artifacts.files())
        tops = {file.path.split("/")[0] for file in files}
        if not tops & set(TRITON_FILES):
            held = ", ".join(sorted(tops)[:10]) or "nothing"
            raise Refused(f"{place} holds {held}; allowed: one of {', '.join(TRITON_FILES)}")
        origin = f"models:/{found.name}/{found.version} ({place})"
        beside = tuple(file for file in files if file.path == CONFIG)
        return Offer({int(found.version): Release(origin, files)}, beside)

    def fetch(self, file: RemoteFile, target: Path) -> None:
        assert self._artifacts is not None, "what was never offered is never fetched"
        self._artifacts.fetch(file, target)


def _client() -> Any:
    # MLflow reports each use of its client to its makers, and draws bars, unless told not to.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    return MlflowClient()


def _resolved(client: Any, uri: str) -> Any:
    """The registry's entry of the version that ``uri`` stands for."""
    named = uri.removeprefix("models:/")
    if "@" in named:
        return client.get_model_version_by_alias(*named.split("@"))
    name, which = named.split("/")
    if which.isdecimal():
        return client.get_model_version(name, which)
    with warnings.catch_warnings():
        # Stages are on their way out, and many registries still live by them.
        warnings.simplefilter("ignore", FutureWarning)
        of_stage = client.get_latest_versions(name, [which])
    if not of_stage:
        raise Unreachable(f"{uri}: no version has the stage {which}")
    return max(of_stage, key=lambda version: int(version.version))


def _artifacts(place: str) -> _Artifacts:
    if place.startswith("s3://"):
        return _Bucket(place)
    if place.startswith("mlflow-artifacts:/") and not place.startswith("mlflow-artifacts://"):
        return _Server(place)
    raise Refused(f"its artifacts are at {place!r}; allowed: mlflow-artifacts:/PATH or s3://BUCKET")


class _Bucket:
    """Artifacts that clients read from a bucket themselves."""

    def __init__(self, place: str) -> None:
        self._all = Files(place)

    def files(self) -> list[RemoteFile]:
        return list(self._all.listed().values())

    def fetch(self, file: RemoteFile, target: Path) -> None:
        self._all.fetch(file.origin, target)


class _Server:
    """Artifacts that the MLflow server hands out."""

    def __init__(self, place: str) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        self._place = place
        with told(place):
            self._repository = get_artifact_repository(place)

    def files(self) -> list[RemoteFile]:
        found: list[RemoteFile] = []
        folders = [""]
        while folders:
            above = folders.pop()
            with told(self._place):
                entries = self._repository.list_artifacts(above or None)
            for entry in entries:
                path = checked(entry.path)
                if entry.is_dir:
                    folders.append(path)
                else:
                    mark = f"{self._place}/{path}"
                    found.append(RemoteFile(path, path, entry.file_size, mark))
            if len(found) + len(folders) > _MOST_FILES:
                raise Refused(f"{self._place}: too many files; allowed: up to {_MOST_FILES}")
        return found

    def fetch(self, file: RemoteFile, target: Path) -> None:
        with told(self._place), TemporaryDirectory(dir=target.parent) as folder:
            Path(self._repository.download_artifacts(file.origin, folder)).rename(target)
