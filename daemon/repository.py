"""The model repository on disk, where this process can see it.

Owns what can be known of a model before it was ever loaded: its files' size, its hints,
the steps of an ensemble, its devices, and whether its files have changed. Optional: what
it cannot tell is learned from loads.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

_MIB = 2**20
_BYTECODE = "__pycache__"


@dataclass(frozen=True, slots=True)
class OnDisk:
    """One model's folder.

    file_bytes: files of the versions that Triton would serve.
    hint_bytes: its device memory, as its configuration hints; None without a hint.
    steps: models of an ensemble.
    gpus: numbers of the GPUs it names; empty for every visible one; None for CPU only.
    revision: changes whenever its files do, compiled bytecode apart.
    newest_mtime_s: time of its newest file, bytecode too: Triton compares by it.
    broken: why its configuration cannot be read; None when it can, or is not there.
    """

    name: str
    file_bytes: int = 0
    hint_bytes: int | None = None
    steps: tuple[str, ...] = ()
    gpus: tuple[int, ...] | None = ()
    revision: str = ""
    newest_mtime_s: float = 0.0
    broken: str | None = None


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size_bytes: int
    mtime_s: float


@dataclass(slots=True)
class Repository:
    """A repository's root folder; keeps what it read until files change."""

    root: Path
    _known: dict[str, tuple[tuple[_File, ...], OnDisk]] = field(default_factory=dict)

    def survey(self) -> Mapping[str, OnDisk]:
        """Every model folder by name. Walks all files, and reads only changed configurations.

        Raises OSError when the root itself cannot be listed.
        """
        known: dict[str, tuple[tuple[_File, ...], OnDisk]] = {}
        with os.scandir(self.root) as entries:
            folders = sorted((e.name, e.path) for e in entries if _is_model(e))
        for name, path in folders:
            files = tuple(sorted(_files(path), key=lambda file: file.path))
            before = self._known.get(name)
            # What made a configuration unreadable, as its permissions, may not show in its time.
            same = before is not None and before[0] == files and before[1].broken is None
            known[name] = before if before and same else (files, _read(name, Path(path), files))
        self._known = known
        return {name: on_disk for name, (_, on_disk) in known.items()}


def _is_model(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir() and not entry.name.startswith(".")
    except OSError:
        # A link that leads in a circle; it is no folder, and no trouble of the others.
        return False


def _files(folder: str) -> Iterator[_File]:
    """All files below ``folder``; folders count with their own time, as Triton counts them.

    Links are followed, since Triton follows them too and the weights often lie behind one;
    never back into a folder that is open already, for that would not end.
    """
    above = frozenset(map(_identity, _stats(os.path.dirname(folder), folder)))
    open_folders = [(folder, "", above)]
    while open_folders:
        current, inner, above = open_folders.pop()
        for name, seen in _entries(current):
            if not stat.S_ISDIR(seen.st_mode):
                yield _File(inner + name, seen.st_size, seen.st_mtime)
            elif _identity(seen) not in above:
                yield _File(inner + name + os.sep, 0, seen.st_mtime)
                path = os.path.join(current, name)
                open_folders.append((path, inner + name + os.sep, above | {_identity(seen)}))


def _entries(folder: str) -> list[tuple[str, os.stat_result]]:
    """What lies in ``folder``, without what cannot be seen.

    Somebody may be writing or removing files right now, and then the next survey sees the
    result; or a link leads nowhere, and then it stands in nobody's way.
    """
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                found.append((entry.name, entry.stat()))
    return found


def _stats(*paths: str) -> Iterator[os.stat_result]:
    for path in paths:
        with contextlib.suppress(OSError):
            yield os.stat(path)


def _identity(seen: os.stat_result) -> tuple[int, int]:
    return seen.st_dev, seen.st_ino


def _read(name: str, folder: Path, files: tuple[_File, ...]) -> OnDisk:
    config, broken = _config(folder)
    return OnDisk(
        name=name,
        file_bytes=_served_bytes(config, files),
        hint_bytes=_hint_bytes(config),
        steps=tuple(dict.fromkeys(s.model_name for s in config.ensemble_scheduling.step)),
        gpus=_gpus(config),
        revision=_revision(files),
        newest_mtime_s=max((file.mtime_s for file in files), default=0.0),
        broken=broken,
    )


def _config(folder: Path) -> tuple[Any, str | None]:
    config = model_config_pb2.ModelConfig()
    try:
        text = (folder / "config.pbtxt").read_text("utf-8")
        text_format.Parse(text, config, allow_unknown_field=True)
    except FileNotFoundError:
        # Legal: Triton completes the configuration of many backends by itself.
        return config, None
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        return model_config_pb2.ModelConfig(), str(error)
    return config, None


def _served_bytes(config: Any, files: tuple[_File, ...]) -> int:
    sizes: dict[int, int] = {}
    for file in files:
        version = file.path.partition(os.sep)[0]
        if version.isdecimal() and _BYTECODE not in file.path:
            sizes[int(version)] = sizes.get(int(version), 0) + file.size_bytes
    return sum(sizes.get(version, 0) for version in _served_versions(config, sorted(sizes)))


def _served_versions(config: Any, versions: list[int]) -> list[int]:
    policy = config.version_policy
    if policy.HasField("all"):
        return versions
    if policy.HasField("specific"):
        return [int(version) for version in policy.specific.versions]
    return versions[-max(1, policy.latest.num_versions) :]


def _hint_bytes(config: Any) -> int | None:
    """``parameters { key: "memory_mb" }``, else rate limiter resources ``gpu_memory``, in MiB."""
    if "memory_mb" in config.parameters:
        try:
            hint = float(config.parameters["memory_mb"].string_value)
        except ValueError:
            hint = 0.0
        return round(hint * _MIB) if 0 < hint < 2**30 else None
    resources = sum(
        resource.count * max(1, group.count)
        for group in config.instance_group
        for resource in group.rate_limiter.resources
        if resource.name == "gpu_memory"
    )
    return resources * _MIB if resources > 0 else None


def _gpus(config: Any) -> tuple[int, ...] | None:
    groups = list(config.instance_group)
    cpu = model_config_pb2.ModelInstanceGroup.KIND_CPU
    on_gpu = [group for group in groups if group.kind != cpu]
    if groups and not on_gpu:
        return None
    numbers = sorted({number for group in on_gpu for number in group.gpus})
    # One group without numbers stands for every GPU.
    return () if not on_gpu or any(not group.gpus for group in on_gpu) else tuple(numbers)


def _revision(files: tuple[_File, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        # A folder's own time changes when bytecode is written into it.
        if _BYTECODE not in file.path and not file.path.endswith(os.sep):
            digest.update(f"{file.path}\0{file.size_bytes}\0{file.mtime_s}\n".encode())
    return digest.hexdigest()[:16]
