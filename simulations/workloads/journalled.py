"""The sidecar's own journal as traffic: what it counted in each tick, and what it learned.

Owns how the journal's files are found and opened again, and how ticks become arrivals. What a
line says is known to `policies.journal`. The arrivals of a tick are told at its end, so all of a
model's come together there, weighing as many as they were.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import TextIOWrapper
from pathlib import Path

import numpy as np

from policies.journal import JournalError, read
from policies.snapshot import Model, Snapshot
from simulations.workloads import known, lines
from simulations.workloads.arrivals import Arrivals, Workload, WorkloadError
from simulations.workloads.catalogue import Catalogue, drawn

_CURRENT = "journal.jsonl"
_ROTATED = re.compile(r"journal-\d{8}T\d{6}Z-(?P<sequence>\d{6,})\.jsonl(\.gz)?")
_RUN_TICKS = 4096


@dataclass(slots=True)
class _Learned:
    """What the ticks so far told of one model."""

    size_bytes: int | None = None
    load_s: float | None = None
    requests: float = 0.0
    compute_s: float = 0.0


@dataclass(slots=True)
class _Told:
    """All that the ticks so far told."""

    time_s: list[float] = field(default_factory=list)
    model: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    place: dict[str, int] = field(default_factory=dict)
    learned: dict[str, _Learned] = field(default_factory=dict)
    unload_s: float | None = None
    first_s: float | None = None
    last_s: float = 0.0


def load(path: Path, *, seed: int = 0) -> tuple[Workload, Catalogue]:
    """The traffic of a journal (one file, or a folder of them), and its models as it knew them.

    seed: of the sizes of models that it never had measured.

    The clock starts with the first tick. Where the sidecar's own clock was set back, time stands
    still until it has caught up.

    Raises WorkloadError: there is no journal, or a line of it makes no sense.
    """
    position = _Position(path)
    told = _Told()
    try:
        for tick in read(position.lines()):
            _take(told, tick.snapshot)
    except JournalError as error:
        file, line = position.of(error.line_number)
        raise WorkloadError(file, line, f"{error.what}; allowed: a line of a journal") from None
    if told.first_s is None:
        raise WorkloadError(path, None, "no tick; allowed: a journal with one or more")
    times = np.array(told.time_s) - told.first_s
    models, weights = np.array(told.model, np.int32), np.array(told.weight)

    def runs() -> Iterator[Arrivals]:
        for first in range(0, len(times), _RUN_TICKS):
            which = slice(first, first + _RUN_TICKS)
            yield Arrivals(times[which], models[which], weights[which])

    workload = Workload(tuple(told.place), told.last_s - told.first_s, runs)
    return workload, _catalogue(told, seed)


def _take(told: _Told, snapshot: Snapshot) -> None:
    told.first_s = snapshot.now_s if told.first_s is None else told.first_s
    now_s = told.last_s = max(told.last_s, snapshot.now_s)
    told.unload_s = told.unload_s if snapshot.unload_s is None else snapshot.unload_s
    for name in sorted(snapshot.models):
        model = snapshot.models[name]
        place = told.place.setdefault(name, len(told.place))
        _learn(told.learned.setdefault(name, _Learned()), model)
        if model.arrivals > 0:
            told.time_s.append(now_s)
            told.model.append(place)
            told.weight.append(model.arrivals)


def _learn(learned: _Learned, model: Model) -> None:
    if model.footprint is not None and any(model.footprint.by_device.values()):
        learned.size_bytes = sum(model.footprint.by_device.values())
    learned.load_s = learned.load_s if model.load_s is None else model.load_s
    learned.requests += model.arrivals
    learned.compute_s += model.compute_s


def _catalogue(told: _Told, seed: int) -> Catalogue:
    models = drawn(tuple(told.place), seed)
    for name, learned in told.learned.items():
        profile = models[name]
        if learned.size_bytes is not None:
            size = learned.size_bytes
            profile = replace(profile, size_bytes=size, load_s=known.load_s(size))
        if learned.load_s is not None:
            profile = replace(profile, load_s=learned.load_s)
        if learned.requests > 0 and learned.compute_s > 0:
            profile = replace(profile, service_s=learned.compute_s / learned.requests)
        if told.unload_s is not None:
            profile = replace(profile, unload_s=told.unload_s)
        models[name] = profile
    return models


class _Position:
    """The lines of a journal's files as one, and where each of them stood."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # At which line of all a file's first one stands.
        self._begins: list[tuple[int, Path]] = []

    def lines(self) -> Iterator[str]:
        number = 1
        for file in _files(self._path):
            self._begins.append((number, file))
            for line in _lines(file):
                yield line
                number += 1

    def of(self, number: int) -> tuple[Path, int]:
        begin, file = max(entry for entry in self._begins if entry[0] <= number)
        return file, number - begin + 1


def _files(path: Path) -> list[Path]:
    """The files of a journal, oldest first; a file beside its packed copy says the same."""
    if not path.is_dir():
        return [path]
    rotated: dict[int, Path] = {}
    for file in sorted(path.iterdir()):
        if match := _ROTATED.fullmatch(file.name):
            rotated[int(match["sequence"])] = file
    current = path / _CURRENT
    return [*(rotated[key] for key in sorted(rotated)), *([current] if current.exists() else [])]


def _lines(file: Path) -> Iterator[str]:
    # Bytes that are not UTF-8 travel as surrogates, which the reader refuses.
    with TextIOWrapper(
        lines.unpacked(file), encoding="utf-8", errors="surrogateescape", newline="\n"
    ) as text:
        try:
            yield from text
        except EOFError:
            return  # cut short by a crash, as a torn line is
        except (gzip.BadGzipFile, zlib.error) as error:
            raise lines.damaged(file, error) from None
