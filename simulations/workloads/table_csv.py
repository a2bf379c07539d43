"""A table of arrivals as comma-separated text, packed with gzip or not.

Owns how text becomes rows: many lines at once, and one by one only where something is wrong.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path

import numpy as np

from simulations.workloads import lines
from simulations.workloads.arrivals import WorkloadError
from simulations.workloads.table_rows import (
    ALLOWED,
    COLUMNS,
    NUMBERS,
    Names,
    Rows,
    Wrong,
    check,
    refusal,
)

_CHUNK_LINES = 1 << 16


def read(path: Path, names: Names) -> Iterator[Rows]:
    """The file's rows. Raises WorkloadError with the line that cannot be used."""
    numbered = lines.numbered(path)
    line, text = next(numbered, (0, ""))
    if not line:
        raise WorkloadError(path, None, f"empty; allowed: a header ({COLUMNS}) and rows")
    header = lines.fields(path, line, text)
    check_columns(path, line, header)
    seconds: Callable[[str], float] | None = None
    while chunk := list(islice(numbered, _CHUNK_LINES)):
        if seconds is None:
            first = lines.fields(path, *chunk[0])
            text = first[header.index("time")] if len(first) == len(header) else ""
            seconds = float if _is_number(text) else _since_1970
        rows = _quickly(chunk, header, names, seconds)
        if rows is None:
            raise _what_is_wrong(path, chunk, header, names, seconds)

        check(rows, _as_written(path, dict(chunk), header))
        yield rows


def _as_written(path: Path, texts: Mapping[int, str], header: list[str]) -> Wrong:
    """Errors that show values as the lines have them, and not as the numbers they mean."""

    def error(line: int, column: str, _value: str, allowed: str) -> WorkloadError:
        value = lines.fields(path, line, texts[line])[header.index(column)]
        return lines.wrong(path, line, column, value, allowed)

    return error


def check_columns(path: Path, line: int | None, header: list[str]) -> None:
    unknown = [column for column in header if column not in (*NUMBERS, "model")]
    missing = [column for column in ("time", "model") if column not in header]
    if unknown or missing or len(set(header)) < len(header):
        problem = f"the columns are {lines.listed(header)}; allowed: {COLUMNS}, each once"
        raise WorkloadError(path, line, problem)


def _quickly(
    chunk: list[tuple[int, str]],
    header: list[str],
    names: Names,
    seconds: Callable[[str], float],
) -> Rows | None:
    """The rows of these lines, or None where one of them is wrong."""
    count = len(chunk)
    try:
        table = list(csv.reader((text for _, text in chunk), strict=True))
        # A quotation over several lines makes rows fewer, and an odd row fails the zip.
        if len(table) != count:
            return None
        columns = dict(zip(header, zip(*table, strict=True), strict=True))
        time_s = np.fromiter(map(seconds, columns["time"]), np.float64, count)
        numbers = {
            column: np.fromiter(map(float, columns[column]), np.float64, count)
            for column in ("service_ms", "weight")
            if column in columns
        }
    except (csv.Error, ValueError, OverflowError):
        return None
    model = names.places([name.strip() for name in columns["model"]])
    if isinstance(model, int):
        return None
    where = np.fromiter((line for line, _ in chunk), np.int64, count)
    return Rows(where, time_s, model, numbers.get("service_ms"), numbers.get("weight"))


def _what_is_wrong(
    path: Path,
    chunk: list[tuple[int, str]],
    header: list[str],
    names: Names,
    seconds: Callable[[str], float],
) -> WorkloadError:
    """The error of the first of these lines that has one."""
    for line, text in chunk:
        fields = lines.fields(path, line, text)
        if len(fields) != len(header):
            problem = f"{len(fields)} fields; allowed: {len(header)}, as the header has"
            return WorkloadError(path, line, problem)
        for column, value in zip(header, fields, strict=True):
            if column == "model" and names.refused(value):
                return lines.wrong(path, line, column, *refusal(value))
            if column in NUMBERS and not _reads(value, seconds if column == "time" else float):
                return lines.wrong(path, line, column, value, ALLOWED[column])
    raise AssertionError("lines that could not be read at once can be read one by one")


def _reads(text: str, number: Callable[[str], float]) -> bool:
    try:
        number(text)
    except (ValueError, OverflowError):
        return False
    return True


def _is_number(text: str) -> bool:
    return _reads(text, float) or not _reads(text, _since_1970)


def _since_1970(text: str) -> float:
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        # Whose clock showed it nobody can tell.
        raise ValueError("a time without a zone")
    return moment.timestamp()
