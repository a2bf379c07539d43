"""The one form of all traffic: arrivals in order of time, in runs of arrays.

Owns that form. Knows nothing of where arrivals come from, nor of what comes of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class WorkloadError(ValueError):
    """Traffic that cannot be used: in which file and line, what it says, what is allowed."""

    def __init__(self, source: Path | str, line: int | None, problem: str) -> None:
        place = f"{source}" if line is None else f"{source}, line {line}"
        super().__init__(f"{place}: {problem}")
        self.source, self.line, self.problem = source, line, problem

    def __reduce__(self) -> tuple[type["WorkloadError"], tuple[Path | str, int | None, str]]:
        # By the arguments it was made with: it may be raised in another process.
        return type(self), (self.source, self.line, self.problem)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """One run of arrivals, each standing for one request or for several of the same model.

    time_s: (n,) float64, seconds since the workload's start; never falls, within a run or from
        one run to the next.
    model: (n,) int32, index into the workload's names.
    weight: (n,) float64, how many requests the arrival stands for; above 0.
    service_s: (n,) float64, seconds of execution of one request, where the source says; else
        None, and the catalogue knows.
    """

    time_s: NDArray[np.float64]
    model: NDArray[np.int32]
    weight: NDArray[np.float64]
    service_s: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.time_s)


@dataclass(frozen=True, slots=True)
class Workload:
    """Traffic over models. ``runs`` gives the same arrivals each time it is called.

    names: every model that may be asked, in a fixed order.
    duration_s: how long it lasts; no arrival is later.
    """

    names: tuple[str, ...]
    duration_s: float
    runs: Callable[[], Iterator[Arrivals]]

    def part(self, from_s: float, to_s: float) -> "Workload":
        """What arrives from ``from_s`` on and before ``to_s``, its clock starting at zero."""

        # An arrival may be as late as the end, which is nobody's beginning.
        before_s = np.inf if to_s >= self.duration_s else to_s

        def runs() -> Iterator[Arrivals]:
            for run in self.runs():
                if len(run) and run.time_s[0] >= before_s:
                    return
                first, last = np.searchsorted(run.time_s, (from_s, before_s), side="left")
                if first < last:
                    service_s = run.service_s
                    yield Arrivals(
                        run.time_s[first:last] - from_s,
                        run.model[first:last],
                        run.weight[first:last],
                        None if service_s is None else service_s[first:last],
                    )

        return Workload(self.names, max(0.0, min(to_s, self.duration_s) - from_s), runs)

    def together(self, step_s: float) -> "Workload":
        """Each model's first arrival in every step of ``step_s``, weighing as much as all of them.

        What decides residency does not depend on the rest: they find the model as the first
        one left it, unless it leaves within the step. Service times are the catalogue's then.
        """

        def runs() -> Iterator[Arrivals]:
            for step in _steps(self.runs(), step_s):
                # The first of each model, in the order in which they came.
                models, first, where = np.unique(step.model, return_index=True, return_inverse=True)
                order = np.argsort(first, kind="stable")
                weight = np.bincount(where, weights=step.weight).astype(np.float64)
                yield Arrivals(
                    step.time_s[first[order]], models[order].astype(np.int32), weight[order]
                )

        return Workload(self.names, self.duration_s, runs)


def _steps(runs: Iterator[Arrivals], step_s: float) -> Iterator[Arrivals]:
    """The same arrivals, cut where a step of ``step_s`` ends and nowhere else."""
    left: list[Arrivals] = []
    for run in runs:
        step = np.floor_divide(run.time_s, step_s)
        if left and len(run) and step[0] != left[-1].time_s[-1] // step_s:
            yield joined(left)
            left = []
        bounds = [0, *(np.flatnonzero(np.diff(step)) + 1), len(run)]
        for first, last in pairwise(bounds):
            if first == last:
                continue
            left.append(
                Arrivals(run.time_s[first:last], run.model[first:last], run.weight[first:last])
            )
            if last < len(run):
                yield joined(left)
                left = []
    if left:
        yield joined(left)


def joined(runs: list[Arrivals]) -> Arrivals:
    """Several runs as one; service times are kept where every run has them."""
    services = [run.service_s for run in runs]
    known = [service for service in services if service is not None]
    return Arrivals(
        np.concatenate([run.time_s for run in runs]) if runs else np.empty(0),
        np.concatenate([run.model for run in runs]) if runs else np.empty(0, np.int32),
        np.concatenate([run.weight for run in runs]) if runs else np.empty(0),
        np.concatenate(known) if runs and len(known) == len(runs) else None,
    )
