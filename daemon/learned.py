"""What was learned about models and outlives a restart: footprints, load times, and which files
they were loaded from.

Owns the learned values and their file. Refuses to know how they were measured and what
they are used for. They can all be learned again, so no trouble with the file stops
anything: it is told by `LearnedStore.problem`, and the values stay in memory.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from policies.snapshot import HOST, ErrorClass

VERSION = 1
KEPT_FOOTPRINTS = 5
LATEST_WEIGHT = 0.3
_TOLD_ENTRIES = 3

E = TypeVar("E")
Bytes = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Learned:
    """What is known of one model from having loaded it here.

    footprints: measured bytes by device, the latest few, oldest first.
    load_s: how long a load takes, averaged exponentially; None before the first.
    samples: footprints ever measured of this revision.
    learned_at_s: when anything was last learned, seconds since the epoch, UTC.
    revision: of the files that the footprints were measured with; None when unknown.
    """

    learned_at_s: Seconds
    footprints: tuple[Mapping[str, Bytes], ...] = ()
    load_s: Seconds | None = None
    samples: Annotated[int, Field(ge=0)] = 0
    revision: str | None = None

    @property
    def footprint_bytes(self) -> Mapping[str, int] | None:
        """The most it took lately, by device; None while no footprint was measured.

        Of the host's memory the median: it belongs to everybody, and what another process
        took during a load was never the model's. Only samples on the devices of the latest
        one count: a model that moved to another device does not need both.
        """
        if not self.footprints:
            return None
        latest = self.footprints[-1]
        alike = [sample for sample in self.footprints if sample.keys() == latest.keys()]
        return {
            device: _of_many(device, sorted(sample[device] for sample in alike))
            for device in latest
        }


def _of_many(device: str, samples: Sequence[int]) -> int:
    return samples[(len(samples) - 1) // 2] if device == HOST else samples[-1]


@dataclass(frozen=True, slots=True)
class Former:
    """A model as it was before it left for changed files: what it takes to have that again.

    parts: what it was served from. versions: those that it served.
    config: what Triton ran it with, as JSON.
    """

    parts: Mapping[str, str]
    versions: tuple[str, ...]
    config: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Changed files that failed to load."""

    revision: str
    at_s: Seconds
    error_class: ErrorClass
    message: str


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy of a model that is in memory, or was before it was swapped.

    parts: digests of what it was loaded from; None when unknown.
    """

    parts: Mapping[str, str] | None = None
    former: Former | None = None
    refused: Refused | None = None


_NO_COPY = Copy()
_ENTRY = TypeAdapter(Learned)
_COPY = TypeAdapter(Copy)
_FOOTPRINT = TypeAdapter(Mapping[str, Bytes])
_SECONDS = TypeAdapter(Seconds)
_ENTRIES = TypeAdapter(dict[str, Learned])
_COPIES = TypeAdapter(dict[str, Copy])


class LearnedStore:
    """Learned values by model, in memory and, with a path, in a file.

    path: the JSON file; None keeps everything in memory only. A file that cannot be
        understood is set aside beside itself, never overwritten.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._models: dict[str, Learned] = {}
        self._copies: dict[str, Copy] = {}
        self._dirty = False
        self._saving = Lock()
        self._problem: str | None = None
        if path is not None:
            self._load(path)

    @property
    def problem(self) -> str | None:
        """What went wrong with the file, in words, until a save succeeds."""
        return self._problem

    def get(self, model: str) -> Learned | None:
        return self._models.get(model)

    def copy(self, model: str) -> Copy:
        return self._copies.get(model, _NO_COPY)

    def take_copy(self, model: str, copy: Copy) -> None:
        """Remember ``copy`` as the one of ``model``; an empty one is as good as none."""
        if copy == self.copy(model):
            return
        self._copies[model] = copy
        if copy == _NO_COPY:
            del self._copies[model]
        self._dirty = True

    def learn_footprint(
        self, model: str, by_device: Mapping[str, int], at_s: float, revision: str | None
    ) -> None:
        """Take in one measured footprint; one of other files replaces all before.

        Raises:
            ValueError: a negative size, or a time that is none; nothing is learned.
        """
        sample = dict(_FOOTPRINT.validate_python(by_device))
        before = self._before(model, at_s)
        if None not in (revision, before.revision) and revision != before.revision:
            before = replace(before, footprints=(), samples=0)
        self._put(
            model,
            replace(
                before,
                footprints=(*before.footprints, sample)[-KEPT_FOOTPRINTS:],
                samples=before.samples + 1,
                revision=revision or before.revision,
            ),
        )

    def learn_load_time(self, model: str, load_s: float, at_s: float) -> None:
        """Take in how long one load took.

        Raises:
            ValueError: a negative or infinite time, or none; nothing is learned.
        """
        latest_s = _SECONDS.validate_python(load_s)
        before = self._before(model, at_s)
        if before.load_s is not None:
            latest_s = before.load_s + LATEST_WEIGHT * (latest_s - before.load_s)
        self._put(model, replace(before, load_s=latest_s))

    def forget(self, model: str) -> None:
        if self._models.pop(model, None) is not None:
            self._dirty = True

    def save(self) -> None:
        """Write the file if anything changed; it is whole or it is the one before.

        Blocks on the disk, so the loop calls it in a thread.
        """
        with self._saving:
            self._save()

    def _save(self) -> None:
        if self._path is None or not self._dirty:
            return
        # Cleared first, so that what is learned while the disk is busy is saved next time.
        self._dirty = False
        document = {
            "version": VERSION,
            "models": _dumped(_ENTRIES, dict(self._models)),
            "copies": _dumped(_COPIES, dict(self._copies)),
        }
        try:
            _replace_file(self._path, to_json(document, indent=1))
        except OSError as error:
            self._dirty = True
            self._problem = f"learned values are not saved: {error}"
        else:
            self._problem = None

    def _before(self, model: str, at_s: float) -> Learned:
        at_s = _SECONDS.validate_python(at_s)
        return replace(self._models.get(model, Learned(at_s)), learned_at_s=at_s)

    def _put(self, model: str, learned: Learned) -> None:
        self._models[model] = learned
        self._dirty = True

    def _load(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            self._problem = f"learned values cannot be read: {error}"
            return
        try:
            entries, copies = _entries(content)
        except _UnusableError as error:
            self._problem = f"{path}: {error}; {_set_aside(path)}"
            return
        self._models, dropped = _accepted(_ENTRY, entries)
        self._copies, dropped_copies = _accepted(_COPY, copies)
        dropped += dropped_copies
        if dropped:
            told = "; ".join(dropped[:_TOLD_ENTRIES])
            more = f"; and {len(dropped) - _TOLD_ENTRIES} more" * (len(dropped) > _TOLD_ENTRIES)
            self._problem = f"{path}: dropped {told}{more}"
            self._dirty = True


class _UnusableError(Exception):
    """A file of which nothing can be used."""


def _entries(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entries of models and of copies as the file has them, not yet looked at one by one."""
    try:
        document = from_json(content)
    except ValueError as error:
        raise _UnusableError(f"not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("models"), dict):
        raise _UnusableError("not a file of learned values")
    version = document.get("version")
    if version != VERSION:
        raise _UnusableError(f"its version is {version!r}, and this Remora knows {VERSION}")
    # Files from before copies were remembered have none.
    copies = document.get("copies")
    return document["models"], copies if isinstance(copies, dict) else {}


def _accepted(adapter: TypeAdapter[E], entries: dict[str, Any]) -> tuple[dict[str, E], list[str]]:
    accepted: dict[str, E] = {}
    dropped: list[str] = []
    for name, entry in entries.items():
        try:
            accepted[name] = adapter.validate_python(entry)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join([name, *map(str, first["loc"])])
            dropped.append(f"{where}: {first['msg']}")
    return accepted, dropped


def _dumped(adapter: TypeAdapter[dict[str, E]], entries: dict[str, E]) -> dict[str, Any]:
    dumped: dict[str, Any] = adapter.dump_python(entries, mode="json", exclude_defaults=True)
    return dict(sorted(dumped.items()))


def _set_aside(path: Path) -> str:
    """Give a useless file another name for a person to look at; says what came of it."""
    try:
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        aside = path.with_name(f"{path.name}.corrupt-{written:%Y%m%dT%H%M%SZ}")
        path.rename(aside)
    except OSError as error:
        return f"it cannot be set aside: {error}"
    return f"set aside as {aside.name}"


def _replace_file(path: Path, content: bytes) -> None:
    """Atomically: a crash at any moment leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    # Without this a power failure may still undo the new name.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
