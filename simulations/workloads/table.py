"""A plain table of arrivals, ``time,model[,service_ms][,weight]``, as CSV or Parquet.

Owns its clock and its order. A table that fits is kept in memory, and may be in any order: it is
sorted by time, and rows of the same time stay as they stand. A larger one is read anew whenever
it is replayed, a piece at a time, and must be in order.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from simulations.workloads import table_csv, table_parquet
from simulations.workloads.arrivals import Arrivals, Workload, WorkloadError, joined
from simulations.workloads.ordering import sorted_run, taken
from simulations.workloads.table_rows import Names, Reader, Rows

# Some 36 bytes each.
MOST_IN_MEMORY = 20_000_000
_RUN_ROWS = 1 << 17


def load(
    path: Path,
    *,
    start: float | datetime | None = None,
    allowed: Callable[[str], bool] | None = None,
    most_in_memory: int = MOST_IN_MEMORY,
) -> Workload:
    """The traffic of one table.

    start: when the workload's clock starts, as the table counts: seconds, or a time with a zone.
        None: with the first arrival. What comes before it is an error.
    allowed: whether a model may be asked; None: any may.
    most_in_memory: rows up to which the table is kept, and may be in any order.

    Raises WorkloadError: naming the line (of Parquet, the row) that cannot be used, what stands
    there and what may.
    """
    reader: Reader = table_parquet.read if path.suffix == ".parquet" else table_csv.read
    names = Names(allowed)
    kept: list[Arrivals] | None = []
    count, first_s, last_s = 0, np.inf, 0.0
    first_line, disorder = 0, None
    for rows in reader(path, names):
        if disorder is None:
            disorder = _disorder(rows, last_s)
        earliest = int(np.argmin(rows.time_s))
        if rows.time_s[earliest] < first_s:
            first_s, first_line = float(rows.time_s[earliest]), int(rows.where[earliest])
        last_s = max(last_s, float(rows.time_s.max()))
        count += len(rows.time_s)
        if kept is not None:
            kept.append(_arrivals(rows))
            kept = kept if count <= most_in_memory else None
        if kept is None and disorder is not None:
            raise _too_large_to_sort(path, disorder, most_in_memory)
    if not count:
        raise WorkloadError(path, None, "nothing but a header; allowed: one row or more")
    zero_s = _zero_s(start, first_s)
    if zero_s > first_s:
        problem = f"time {first_s:.17g} is before the start; allowed: from {zero_s:.17g} on"
        raise WorkloadError(path, first_line, problem)
    if kept is not None:
        runs = _from_memory(kept, zero_s)
    else:
        runs = _from_file(path, reader, tuple(names.place), zero_s)
    return Workload(tuple(names.place), last_s - zero_s, runs)


def _zero_s(start: float | datetime | None, first_s: float) -> float:
    if start is None:
        return first_s
    return start.timestamp() if isinstance(start, datetime) else start


def _arrivals(rows: Rows) -> Arrivals:
    weight = np.ones(len(rows.time_s)) if rows.weight is None else rows.weight
    service_s = None if rows.service_ms is None else rows.service_ms / 1000
    return Arrivals(rows.time_s, rows.model, weight, service_s)


def _disorder(rows: Rows, before_s: float) -> tuple[int, float, float] | None:
    """The first row that is earlier than the one before it: where, its time, and that one's."""
    times = np.concatenate(([before_s], rows.time_s))
    falls = np.flatnonzero(np.diff(times) < 0)
    if not len(falls):
        return None
    at = int(falls[0])
    return int(rows.where[at]), float(times[at + 1]), float(times[at])


def _too_large_to_sort(path: Path, disorder: tuple[int, float, float], most: int) -> WorkloadError:
    line, time_s, before_s = disorder
    problem = f"time {time_s:.17g} follows {before_s:.17g}; allowed: times that do not fall,"
    return WorkloadError(path, line, f"{problem} in a table of more than {most} rows")


def _from_memory(kept: Sequence[Arrivals], zero_s: float) -> Callable[[], Iterator[Arrivals]]:
    whole = joined(list(kept))
    if np.any(np.diff(whole.time_s) < 0):
        whole = sorted_run(whole)

    def runs() -> Iterator[Arrivals]:
        for first in range(0, len(whole), _RUN_ROWS):
            yield _since(taken(whole, slice(first, first + _RUN_ROWS)), zero_s)

    return runs


def _from_file(
    path: Path, reader: Reader, names: Sequence[str], zero_s: float
) -> Callable[[], Iterator[Arrivals]]:
    def runs() -> Iterator[Arrivals]:
        again = Names(place={name: place for place, name in enumerate(names)})
        for rows in reader(path, again):
            yield _since(_arrivals(rows), zero_s)

    return runs


def _since(run: Arrivals, zero_s: float) -> Arrivals:
    return Arrivals(run.time_s - zero_s, run.model, run.weight, run.service_s)
