"""The public format of Azure Functions 2019: one function a row, one count of calls a minute.

Owns those files and what a count of a minute means. One function is one model. The k calls of a
minute are evenly spaced, with a phase of the function's own, so that what a timer calls stays
periodic; within the minute the trace says nothing more.

One day is in memory at a time, whatever a download of the whole set has: several days are parsed
anew whenever they are replayed, and only a single one is kept.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulations.workloads import azure_models, counts, known
from simulations.workloads.arrivals import Arrivals, Workload, WorkloadError
from simulations.workloads.azure_day import Day, read_day
from simulations.workloads.azure_models import Identity, named
from simulations.workloads.catalogue import Catalogue
from simulations.workloads.ordering import sorted_run

_MINUTE_S = 60.0
_DAY_MINUTES = 1440


def load(
    invocations: Sequence[Path],
    durations: Path | None = None,
    memory: Path | None = None,
    *,
    aggregate: bool = False,
    seed: int = 0,
) -> tuple[Workload, Catalogue]:
    """The traffic of files of invocations, one for each day in order, and its models.

    durations: service times of one request, in milliseconds (the median, else the average).
    memory: what each function had allocated, in megabytes; its load time follows from that.
    aggregate: one arrival for each minute of a function, when its first call comes, weighing as
        much as all calls of the minute; else one arrival for each call.
    seed: of the sizes that no file tells.

    The clock starts with the first minute of the first file; file i tells of the minutes of the
    i-th day after it. Models are named by the first digits of their function's hash.

    Raises WorkloadError: a file is not of this format; with its line.
    """
    if not invocations:
        raise WorkloadError("invocations", None, "no file; allowed: one or more")
    place: dict[Identity, int] = {}
    begins: list[float] = []
    origin, duration_s, only = None, 0.0, None
    for number, path in enumerate(invocations):
        day = read_day(path)
        origin = day.first_minute if origin is None else origin
        begins.append((_DAY_MINUTES * number + day.first_minute - origin) * _MINUTE_S)
        duration_s = begins[-1] + (len(day.start) - 1) * _MINUTE_S
        for function in day.functions:
            place.setdefault(function, len(place))
        only = day if len(invocations) == 1 else None
    names = named(tuple(place))
    phase = np.array([counts.phase("/".join(function)) for function in place])

    def runs() -> Iterator[Arrivals]:
        for path, begin_s in zip(invocations, begins, strict=True):
            day = only or read_day(path)
            where = np.array([place[function] for function in day.functions], np.int32)
            yield from _arrivals(day, where, phase, begin_s, aggregate)

    workload = Workload(tuple(names.values()), duration_s, runs)
    service_s = {} if durations is None else azure_models.service_s(durations, names)
    size_bytes = {} if memory is None else azure_models.size_bytes(memory, names)
    models = known.catalogue(workload.names, seed, size_bytes=size_bytes, service_s=service_s)
    return workload, models


# --- from counts to arrivals ---------------------------------------------------------------------


def _arrivals(
    day: Day,
    where: NDArray[np.int32],
    phase: NDArray[np.float64],
    begin_s: float,
    aggregate: bool,
) -> Iterator[Arrivals]:
    """The arrivals of each minute that has some."""
    for minute, (first, last) in enumerate(zip(day.start[:-1], day.start[1:], strict=True)):
        if first == last:
            continue
        run = counts.spread(
            begin_s + minute * _MINUTE_S,
            _MINUTE_S,
            where[day.model[first:last]],
            day.calls[first:last],
            phase,
            aggregate=aggregate,
        )
        yield sorted_run(run)
