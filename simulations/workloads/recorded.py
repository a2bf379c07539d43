"""A recording of request rates as traffic: how often each model was asked for in each step.

Owns what a recording's columns mean here: ``time_s``, the start of a step since 1970; ``model``;
``requests`` counted in it, empty or NaN where nobody knows; ``step_s``, how long it was. Knows
nothing of where recordings come from.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulations.workloads import counts, table_parquet
from simulations.workloads.arrivals import Arrivals, Workload, WorkloadError
from simulations.workloads.ordering import in_order

_COLUMNS = ["time_s", "model", "requests", "step_s"]
_ALLOWED = {
    "time_s": "seconds since 1970, 0 or more",
    "requests": "a number, 0 or more, or empty where nobody knows",
    "step_s": "seconds above 0",
}
_MOST = 1e12


@dataclass(frozen=True, slots=True)
class _Steps:
    time_s: NDArray[np.float64]
    step_s: NDArray[np.float64]
    requests: NDArray[np.float64]
    model: list[str]


def load(path: Path, *, aggregate: bool = False) -> Workload:
    """The traffic of a recording. The requests of a step are evenly spaced, with a phase of the
    model's own; steps of which nobody knows are empty.

    aggregate: one arrival for each step of a model, when its first request comes, weighing as
        much as all of them; else one for each request.

    The clock starts with the first step.

    Raises WorkloadError: no such Parquet, or a row (counted from 1) that cannot be used.
    """
    place: dict[str, int] = {}
    begins: list[float] = []
    end_s = 0.0
    for steps in _read(path):
        begins.append(float(steps.time_s.min()))
        end_s = max(end_s, float((steps.time_s + steps.step_s).max()))
        for name in dict.fromkeys(steps.model):
            place.setdefault(name, len(place))
    zero_s = min(begins)
    # Before this, none of the batches behind this one has an arrival.
    bounds = [*np.minimum.accumulate(begins[:0:-1])[::-1], np.inf]
    phases = np.array([counts.phase(name) for name in place])

    def pieces() -> Iterator[tuple[float, Arrivals]]:
        for steps, bound_s in zip(_read(path), bounds, strict=True):
            model = np.fromiter(map(place.__getitem__, steps.model), np.int32, len(steps.model))
            asked = np.flatnonzero(steps.requests > 0)
            yield (
                float(bound_s) - zero_s,
                counts.spread(
                    steps.time_s[asked] - zero_s,
                    steps.step_s[asked],
                    model[asked],
                    steps.requests[asked],
                    phases,
                    aggregate=aggregate,
                ),
            )

    return Workload(tuple(place), end_s - zero_s, lambda: in_order(pieces()))


def _read(path: Path) -> Iterator[_Steps]:
    first = 1
    for batch in table_parquet.batches(path, _COLUMNS):
        time_s, requests, step_s = (
            table_parquet.numeric(
                path, batch, column, first, _ALLOWED[column], gaps=column == "requests"
            )
            for column in ("time_s", "requests", "step_s")
        )
        _check(path, first, "time_s", time_s, (time_s >= 0) & (time_s <= _MOST))
        fits = np.isnan(requests) | ((requests >= 0) & (requests <= _MOST))
        _check(path, first, "requests", requests, fits)
        _check(path, first, "step_s", step_s, (step_s > 0) & (step_s <= _MOST))
        yield _Steps(time_s, step_s, requests, table_parquet.texts(path, batch, "model", first))
        first += len(batch)


def _check(
    path: Path, first: int, column: str, values: NDArray[np.float64], fits: NDArray[np.bool_]
) -> None:
    bad = np.flatnonzero(~fits)
    if len(bad):
        row, value = first + int(bad[0]), f"{values[bad[0]]:g}"
        problem = f"row {row}: {column} is {value!r}; allowed: {_ALLOWED[column]}"
        raise WorkloadError(path, None, problem)
