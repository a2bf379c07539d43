"""The model repository on disk, where this process can see it.

Owns what can be known of a model before it was ever loaded: its files' size, its hints,
the steps of an ensemble, its devices, and whether its files have changed. Optional: what
it cannot tell is learned from loads.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

_MIB = 2**20
_BYTECODE = "__pycache__"
# What `remora pull` writes down beside what it has brought.
_OUR_RECORDS = ".remora"
_JUNK = ("lost+found",)
# What Triton takes where a configuration is silent on it.
_IDLE_US = 1_000_000
# Triton passes over a folder that is no number, and over a number with a leading zero.
_VERSION = re.compile(r"[1-9][0-9]*")
# A file that comes in the instant of a walk can leave its folder's time as the walk saw it; no
# file system's clock is so coarse that this is still so after that time.
_SETTLES_NS = 2 * 10**9

_Identity = tuple[int, int]
"""What a folder is, by whatever name it is reached: device and inode."""


@dataclass(frozen=True, slots=True)
class OnDisk:
    """One model's folder.

    file_bytes: files of the versions that Triton would serve.
    hint_bytes: memory it needs on each of its devices, as its configuration hints; None
        without a hint.
    steps: models of an ensemble.
    gpus: numbers of the GPUs it names; empty for every visible one; None where it asks for none.
    instances: how many executions can run at once; None where Triton itself decides.
    sequence_idle_s: its requests belong to sequences, which an unload would tear, and Triton
        ends one that is quiet for so long; None where requests stand alone.
    versions: a digest of each version's folder, by its number, and rest of all other files,
        compiled bytecode and our own records apart. served: the versions that Triton would serve.
    revision: changes whenever files do that it would be served from.
    newest_mtime_s: time of its newest file or folder, bytecode and its own folder too, since
        Triton compares those: what is newer can make the next load a full one.
    broken: why its configuration cannot be used; None when it can, or is not there.
    """

    name: str
    file_bytes: int = 0
    hint_bytes: int | None = None
    steps: tuple[str, ...] = ()
    gpus: tuple[int, ...] | None = ()
    instances: int | None = None
    sequence_idle_s: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    rest: str = ""
    served: tuple[str, ...] = ()
    revision: str = ""
    newest_mtime_s: float = 0.0
    broken: str | None = None

    @property
    def parts(self) -> Mapping[str, str]:
        """What it would be served from: digests by version, and of all other files by ""."""
        return {"": self.rest, **{number: self.versions[number] for number in self.served}}


_Stamp = tuple[int, int]
"""What shows a change: the time in nanoseconds, and the size in bytes."""

_NOTHING: _Stamp = (0, 0)

_Stamps = Mapping[str, _Stamp]
"""By path; the path of a folder ends with a slash."""


@dataclass(frozen=True, slots=True)
class _Known:
    """settled: every later change moves a stamp, that of a new file included."""

    stamps: _Stamps
    on_disk: OnDisk
    settled: bool


@dataclass(slots=True)
class Repository:
    """A repository's root folder; keeps what it read until files change."""

    root: Path
    _known: dict[str, _Known] = field(default_factory=dict)

    def survey(self) -> Mapping[str, OnDisk]:
        """Every model folder by name. Raises OSError when the root itself cannot be listed.

        Made for a thread: a thousand models of four files each take 25 ms while none has
        changed, most of it in system calls that let other threads run; the first time 0.3 s.
        """
        above = frozenset(_identity(os.stat(p)) for p in (self.root, *self.root.resolve().parents))
        self._known = {name: self._look(name, path, above) for name, path in self._folders()}
        return {name: known.on_disk for name, known in self._known.items()}

    def _folders(self) -> list[tuple[str, str]]:
        with os.scandir(self.root) as entries:
            return sorted(
                (entry.name, entry.path + os.sep)
                for entry in entries
                if not entry.name.startswith(".") and entry.name not in _JUNK and _is_folder(entry)
            )

    def _look(self, name: str, folder: str, above: frozenset[_Identity]) -> _Known:
        """One model; nothing is listed or read while no time and no size has moved.

        A folder's time tells of files that come and go, but not of one written in place, so
        files are looked at too.
        """
        before = self._known.get(name)
        # What makes a configuration unreadable, as its permissions, may not show in its time.
        if before and before.on_disk.broken is not None:
            before = None
        if before and before.settled and _is_unchanged(before.stamps):
            return before
        now_ns = time.time_ns()
        stamps = dict(_walk(folder, above))
        newest_ns = max((mtime_ns for mtime_ns, _ in stamps.values()), default=0)
        settled = newest_ns + _SETTLES_NS < now_ns
        if before and before.stamps == stamps:
            return replace(before, settled=settled)
        return _Known(stamps, _read(name, folder, stamps), settled)


def _is_unchanged(stamps: _Stamps) -> bool:
    return all(_stamp(path) == stamp for path, stamp in stamps.items())


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except OSError:
        # It is being removed right now, or is a link to nowhere.
        return _NOTHING
    return found.st_mtime_ns, found.st_size


def _identity(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino


def _walk(folder: str, above: frozenset[_Identity]) -> Iterator[tuple[str, _Stamp]]:
    """The stamps of ``folder`` and of all below. Links are followed, as Triton follows them.

    above: the folders it lies in. A link up to one of them is left alone: it would lead round
    in a circle, or through the whole disk.
    """
    try:
        found = os.stat(folder)
    except OSError:
        yield folder, _NOTHING
        return
    if _identity(found) in above:
        return
    yield folder, (found.st_mtime_ns, found.st_size)
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from _walk(entry.path + os.sep, above | {_identity(found)})
        else:
            yield entry.path, _stamp(entry.path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        # Removed since it was listed, or not ours to read: then Triton will say so.
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link in a circle of links leads nowhere.
        return False


def configured(name: str, config: Any) -> OnDisk:
    """What a model's configuration alone tells, wherever it comes from."""
    return OnDisk(
        name=name,
        hint_bytes=_hint_bytes(config),
        steps=tuple(dict.fromkeys(s.model_name for s in config.ensemble_scheduling.step)),
        gpus=_gpus(config),
        instances=_instances(config),
        sequence_idle_s=_sequence_idle_s(config),
    )


def _sequence_idle_s(config: Any) -> float | None:
    if not config.HasField("sequence_batching"):
        return None
    return (config.sequence_batching.max_sequence_idle_microseconds or _IDLE_US) / 1e6


def _read(name: str, folder: str, stamps: _Stamps) -> OnDisk:
    below = {path[len(folder) :]: stamp for path, stamp in stamps.items()}
    config, broken = _config(name, folder)
    digests = _digests(below)
    rest, found = digests.pop("", ""), sorted(map(int, digests))
    served = tuple(str(v) for v in _served_versions(config, found) if str(v) in digests)
    return replace(
        configured(name, config),
        file_bytes=_served_bytes(config, below),
        versions=digests,
        rest=rest,
        served=served,
        revision=_digest([rest, *(f"{number} {digests[number]}" for number in served)]),
        newest_mtime_s=max((mtime_ns for mtime_ns, _ in stamps.values()), default=0) / 1e9,
        broken=broken,
    )


def _config(name: str, folder: str) -> tuple[Any, str | None]:
    """The configuration, an empty one where there is none to use, and what is wrong with it."""
    config = model_config_pb2.ModelConfig()
    try:
        text = Path(folder, "config.pbtxt").read_text("utf-8")
        text_format.Parse(text, config, allow_unknown_field=True)
    except FileNotFoundError:
        # Legal: Triton completes the configuration of many backends by itself.
        return config, None
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        return model_config_pb2.ModelConfig(), f"config.pbtxt: {error}"
    if config.name not in ("", name):
        return config, f"config.pbtxt: its name is {config.name!r}, not that of its folder"
    return config, None


def _served_bytes(config: Any, below: _Stamps) -> int:
    sizes: dict[int, int] = {}
    for path, (_, size_bytes) in below.items():
        version, in_folder, inner = path.partition(os.sep)
        if in_folder and _VERSION.fullmatch(version):
            counts = inner and not inner.endswith(os.sep) and not _is_bytecode(inner)
            sizes[int(version)] = sizes.get(int(version), 0) + (size_bytes if counts else 0)
    return sum(sizes.get(version, 0) for version in _served_versions(config, sorted(sizes)))


def _served_versions(config: Any, versions: list[int]) -> list[int]:
    policy = config.version_policy
    if policy.HasField("all"):
        return versions
    if policy.HasField("specific"):
        return sorted({int(version) for version in policy.specific.versions})
    return versions[-max(1, policy.latest.num_versions) :]


def _hint_bytes(config: Any) -> int | None:
    """``parameters { key: "memory_mb" }``, else rate limiter resources ``gpu_memory``, in MiB.

    The parameter speaks for the model, a resource for each instance of its group.
    """
    if "memory_mb" in config.parameters:
        try:
            hint_mib = float(config.parameters["memory_mb"].string_value)
        except ValueError:
            return None
        return round(hint_mib * _MIB) if 0 < hint_mib < 2**30 else None
    numbers = {number for group in config.instance_group for number in group.gpus} or {0}
    # Groups on different devices do not add up; the fullest device tells.
    fullest_mib = max(
        sum(_resource_mib(group) for group in config.instance_group if _is_on(group, number))
        for number in numbers
    )
    return fullest_mib * _MIB if fullest_mib > 0 else None


def _resource_mib(group: Any) -> int:
    resources = group.rate_limiter.resources
    each_mib = sum(int(resource.count) for resource in resources if resource.name == "gpu_memory")
    return each_mib * max(1, int(group.count))


def _is_on(group: Any, number: int) -> bool:
    return not group.gpus or number in group.gpus


def _gpus(config: Any) -> tuple[int, ...] | None:
    if config.HasField("ensemble_scheduling"):
        return None
    groups = list(config.instance_group)
    on_gpu = [g for g in groups if g.kind != model_config_pb2.ModelInstanceGroup.KIND_CPU]
    if groups and not on_gpu:
        return None
    # A group without numbers stands for every GPU, and so does the group that Triton makes up.
    if not all(group.gpus for group in on_gpu):
        return ()
    return tuple(sorted({number for group in on_gpu for number in group.gpus}))


def _instances(config: Any) -> int | None:
    """A group has its count on each GPU that it names; one that names none is counted once."""
    counts = [max(1, int(group.count)) * max(1, len(group.gpus)) for group in config.instance_group]
    return sum(counts) or None


def _digests(below: _Stamps) -> dict[str, str]:
    """A digest of each version's folder by its number, and of all other files by ""."""
    lines: dict[str, list[str]] = {}
    for path, (mtime_ns, size_bytes) in sorted(below.items()):
        if not path or path.endswith(os.sep):
            # A folder's own time changes when bytecode is written into it, or another version.
            mtime_ns = size_bytes = 0
        if not _is_bytecode(path) and not _is_our_record(path):
            first, is_below, _ = path.partition(os.sep)
            part = first if is_below and _VERSION.fullmatch(first) else ""
            lines.setdefault(part, []).append(f"{path}\0{size_bytes}\0{mtime_ns}")
    return {part: _digest(each) for part, each in lines.items()}


def _digest(lines: Iterable[str]) -> str:
    text = "\n".join(lines)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _is_bytecode(path: str) -> bool:
    return _BYTECODE in path.split(os.sep)


def _is_our_record(path: str) -> bool:
    return any(part.startswith(_OUR_RECORDS) for part in path.split(os.sep))
