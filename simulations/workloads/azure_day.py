"""One day's file of Azure Functions 2019: who called whom how often in each minute.

Owns that file's form and what may be wrong in it. Keeps only what is not zero: some 50 bytes for
each minute in which a function is called while the file is read, and 12 after that.
"""

import re
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulations.workloads import lines
from simulations.workloads.arrivals import WorkloadError
from simulations.workloads.azure_models import IDENTITY, Identity

_MINUTE = re.compile(r"(?:minute_)?(\d{1,4})")
_COLUMNS = "HashOwner, HashApp, HashFunction, perhaps Trigger, and one for each minute"
_COUNT = "a whole number of calls from 0 to 10 million"
_MOST_CALLS = 10**7


@dataclass(frozen=True, slots=True)
class _Header:
    """Where a file has what: the columns of the identity (None where it has no such), the minute
    columns in order of their numbers, and how many columns there are."""

    identity: tuple[int | None, int | None, int | None]
    minutes: tuple[int, ...]
    first_minute: int
    columns: int

    @property
    def minutes_last(self) -> bool:
        """The minutes stand in order at the end, as in the public files."""
        width = len(self.minutes)
        return self.minutes == tuple(range(self.columns - width, self.columns))


@dataclass(frozen=True, slots=True)
class Day:
    """One file: the calls of minute i are ``model[start[i]:start[i + 1]]``, as often as ``calls``.

    model: index into ``functions``, ascending within a minute.
    """

    functions: tuple[Identity, ...]
    first_minute: int
    start: NDArray[np.int64]
    model: NDArray[np.int32]
    calls: NDArray[np.int64]


def read_day(path: Path) -> Day:
    """The file as it is. Raises WorkloadError: it is not of this format; with its line."""
    rows = lines.numbered(path)
    number, text = next(rows, (0, ""))
    if not number:
        raise WorkloadError(path, None, "empty; allowed: a header and one line for each function")
    header = _header(path, number, text)
    place: dict[Identity, int] = {}
    models: list[NDArray[np.int32]] = []
    minutes: list[NDArray[np.int16]] = []
    calls: list[NDArray[np.int32]] = []
    with warnings.catch_warnings():
        # Where numpy does not yet raise on what is no number, it warns that it will.
        warnings.simplefilter("error", DeprecationWarning)
        for line, row in rows:
            function, each = _row(path, line, row, header)
            model = place.setdefault(function, len(place))
            active = np.flatnonzero(each)
            models.append(np.full(len(active), model, np.int32))
            minutes.append(active.astype(np.int16))
            calls.append(each[active].astype(np.int32))
    if not place:
        raise WorkloadError(path, number, "nothing but a header; allowed: a line per function")
    return _by_minute(header, tuple(place), models, minutes, calls)


def _by_minute(
    header: _Header,
    functions: tuple[Identity, ...],
    models: list[NDArray[np.int32]],
    minutes: list[NDArray[np.int16]],
    calls: list[NDArray[np.int32]],
) -> Day:
    """The same counts, first by minute and then by model; of a function told twice, the sum."""
    model, minute, count = np.concatenate(models), np.concatenate(minutes), np.concatenate(calls)
    # Rows are nearly sorted by model already, and minutes are short integers: both sort fast.
    order = np.lexsort((model, minute))
    model, minute, count = model[order], minute[order], count[order]
    del order
    first = np.ones(len(model), np.bool_)
    first[1:] = (model[1:] != model[:-1]) | (minute[1:] != minute[:-1])
    total = np.zeros(0, np.int64)
    if len(count):
        total = np.add.reduceat(count, np.flatnonzero(first), dtype=np.int64)
    start = np.searchsorted(minute[first], np.arange(len(header.minutes) + 1))
    return Day(functions, header.first_minute, start, model[first], total)


def _header(path: Path, line: int, text: str) -> _Header:
    columns = lines.fields(path, line, text)
    if "HashFunction" not in columns:
        problem = (
            f"no column HashFunction in {lines.listed(columns)}; allowed: the columns {_COLUMNS}"
        )
        raise WorkloadError(path, line, problem)
    minutes = sorted(
        (int(match[1]), place)
        for place, column in enumerate(columns)
        if (match := _MINUTE.fullmatch(column))
    )
    if not minutes:
        raise WorkloadError(
            path, line, f"no minute in {lines.listed(columns)}; allowed: {_COLUMNS}"
        )
    for (before, _), (after, _) in pairwise(minutes):
        if after != before + 1:
            problem = f"minute {after} follows minute {before}; allowed: each minute once, no gap"
            raise WorkloadError(path, line, problem)
    owner, app, function = (columns.index(name) if name in columns else None for name in IDENTITY)
    return _Header(
        (owner, app, function),
        tuple(place for _, place in minutes),
        minutes[0][0],
        len(columns),
    )


def _row(path: Path, line: int, text: str, header: _Header) -> tuple[Identity, NDArray[np.int64]]:
    fields, calls = _quick_row(text, header)
    if calls is None:
        # The exact way, which also finds out what is wrong.
        fields = lines.fields(path, line, text)
        calls = _counts_one_by_one(path, line, fields, header)
    identity = tuple("" if place is None else fields[place].strip() for place in header.identity)
    owner, app, function = identity
    if not function:
        raise lines.wrong(path, line, "HashFunction", function, "a name")
    return (owner, app, function), calls


def _quick_row(text: str, header: _Header) -> tuple[list[str], NDArray[np.int64] | None]:
    """The fields before the minutes, and the counts; None where it takes more to read the row."""
    before = header.columns - len(header.minutes)
    fields = text.split(",", before)
    if not header.minutes_last or '"' in text or len(fields) <= before:
        return fields, None
    return fields, _counts(fields.pop(), len(header.minutes))


def _counts(text: str, width: int) -> NDArray[np.int64] | None:
    """The counts in ``text``, or None where it is anything but ``width`` of them."""
    try:
        calls = np.fromstring(text, dtype=np.int64, sep=",")
    except (ValueError, DeprecationWarning):
        return None
    whole = len(calls) == width == text.count(",") + 1
    return calls if whole and calls.min() >= 0 and calls.max() <= _MOST_CALLS else None


def _counts_one_by_one(
    path: Path, line: int, fields: list[str], header: _Header
) -> NDArray[np.int64]:
    if len(fields) != header.columns:
        problem = f"{len(fields)} fields; allowed: {header.columns}, as the header has"
        raise WorkloadError(path, line, problem)
    calls = np.zeros(len(header.minutes), np.int64)
    for index, place in enumerate(header.minutes):
        text = fields[place].strip()
        # The digits that str.isdigit and int know beyond these are nobody's calls.
        if not (text.isascii() and text.isdigit() and int(text) <= _MOST_CALLS):
            minute = f"minute {header.first_minute + index}"
            raise lines.wrong(path, line, minute, fields[place], _COUNT)
        calls[index] = int(text)
    return calls
