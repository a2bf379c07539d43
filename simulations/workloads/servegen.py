"""ServeGen's windows: how many requests each client sent in each of them, and how unevenly.

Owns those files (``chunk-*-trace.csv``, no header; in each line a window's start, its rate in
requests a second, the coefficient of variation of the time between two of them, the distribution
fitted to that, and its shape and scale) and how arrivals are drawn from them. One client is one
tenant with a model of its own.

A window has as many requests as its rate says, exactly: the times between them are drawn with the
fitted shape, and stretched so that they fill it. The scale of the file is not used: the rate was
counted, the scale was fitted. Each window of each tenant has a seed of its own, so it comes out
the same whatever else is replayed.
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulations.workloads import lines
from simulations.workloads.arrivals import Arrivals, Workload, WorkloadError, joined
from simulations.workloads.ordering import sorted_run

DAY_S = 86400.0
_WINDOW_S = 600.0
_CHUNK = re.compile(r"chunk-(\d+)-trace\.csv(?:\.gz)?")
_DISTRIBUTIONS = ("Gamma", "Weibull", "Exponential")
_COLUMNS = "start, rate, CV, distribution, shape, scale"
_MOST_REQUESTS = 10**8


@dataclass(frozen=True, slots=True)
class _Window:
    """One tenant's requests from ``start_s`` on for ``length_s``.

    weibull: the times between two follow a Weibull distribution, else a gamma distribution (of
        which the exponential is the one of shape 1).
    """

    start_s: float
    length_s: float
    requests: int
    weibull: bool
    shape: float


def load(
    folder: Path,
    days: tuple[int, int] | None = None,
    *,
    most: int | None = None,
    seed: int = 0,
) -> Workload:
    """The traffic of all tenants whose files lie in ``folder`` or below it.

    days: the first and the last one, both included; day 0 begins where the files' clock does.
        The workload's clock starts with the first day; without, at the files' zero.
    most: arrivals in one window of one tenant. Where it has more requests, each arrival stands
        for several in a row, of which it has the time of the first. None: one for each request.
    seed: of all drawing.

    Models are named by the model family of ServeGen and the client's number, as ``m-mid/12``.
    Tenants that are idle on those days are named too.

    Raises WorkloadError: a file is not of this format; with its line.
    """
    files = _files(folder)
    windows = {name: _windows(path) for name, path in files.items()}
    end_s = max((w[-1].start_s + w[-1].length_s for w in windows.values() if w), default=0.0)
    if days is not None:
        first, last = days
        if not 0 <= first <= last or first * DAY_S >= end_s:
            there = (
                f"from 0 to {max(0, math.ceil(end_s / DAY_S) - 1)}, the first not after the last"
            )
            raise WorkloadError(folder, None, f"days {first} to {last}; allowed: {there}")
    from_s, to_s = (0.0, end_s) if days is None else (days[0] * DAY_S, (days[1] + 1) * DAY_S)
    agenda = _agenda(windows, from_s, to_s)

    def runs() -> Iterator[Arrivals]:
        for start_s, due in agenda:
            drawn = [_drawn(model, window, most, seed, name) for model, name, window in due]
            yield _merged(drawn, start_s - from_s)

    return Workload(tuple(files), min(to_s, end_s) - from_s, runs)


def _agenda(
    windows: Mapping[str, Sequence[_Window]], from_s: float, to_s: float
) -> list[tuple[float, list[tuple[int, str, _Window]]]]:
    """The windows with requests, by their start: model, its name, and the window."""
    by_start: dict[float, list[tuple[int, str, _Window]]] = {}
    for model, (name, own) in enumerate(windows.items()):
        for window in own:
            if window.requests and from_s <= window.start_s < to_s:
                by_start.setdefault(window.start_s, []).append((model, name, window))
    return sorted(by_start.items())


# --- drawing -------------------------------------------------------------------------------------


def _drawn(model: int, window: _Window, most: int | None, seed: int, name: str) -> Arrivals:
    """The window's arrivals, in seconds since its start."""
    random = np.random.default_rng([seed, zlib.crc32(name.encode()), round(window.start_s)])
    bundle = 1 if most is None else -(-window.requests // most)
    count = -(-window.requests // bundle)
    # One gap more than arrivals: the last of them leads to the window's end.
    gaps = _gaps(random, window, bundle, count + 1)
    times = np.cumsum(gaps)
    time_s = times[:-1] * (window.length_s / times[-1])
    weight = np.full(count, float(bundle))
    weight[-1] = window.requests - bundle * (count - 1)
    return Arrivals(time_s, np.full(count, model, np.int32), weight)


def _gaps(
    random: np.random.Generator, window: _Window, bundle: int, count: int
) -> NDArray[np.float64]:
    """Times between arrivals, in a unit of their own, from each to the ``bundle``-th after it."""
    if not window.weibull:
        # A sum of gamma-distributed times is gamma-distributed, and the shapes add up.
        gaps = random.standard_gamma(window.shape * bundle, count)
    elif bundle == 1:
        gaps = random.weibull(window.shape, count)
    else:
        # There is no such law for Weibull: mean and variance are kept.
        mean = math.gamma(1 + 1 / window.shape)
        spread = math.gamma(1 + 2 / window.shape) / mean**2 - 1
        gaps = random.standard_gamma(bundle / spread, count)
    # Very uneven gaps may all be too short for a float; then they are even.
    return gaps if gaps.sum() > 0 else np.ones(count)


def _merged(drawn: list[Arrivals], start_s: float) -> Arrivals:
    """Several tenants' arrivals in order of time, from the window's clock to the workload's."""
    run = sorted_run(joined(drawn))
    return Arrivals(run.time_s + start_s, run.model, run.weight)


# --- reading -------------------------------------------------------------------------------------


def _files(folder: Path) -> dict[str, Path]:
    """Each tenant's file by the tenant's name, by family and then by number."""
    found = sorted(
        (path.parent, int(match[1]), path)
        for path in folder.rglob("chunk-*-trace.csv*")
        if (match := _CHUNK.fullmatch(path.name))
    )
    if not found:
        problem = "no file of ServeGen there; allowed: chunk-*-trace.csv or .csv.gz, or folders"
        raise WorkloadError(folder, None, f"{problem} of them")
    families = Counter(parent.name for parent in dict.fromkeys(parent for parent, _, _ in found))
    files: dict[str, Path] = {}
    for parent, number, path in found:
        family = parent.resolve().name
        if families[parent.name] > 1:
            family = parent.relative_to(folder).as_posix()
        name = f"{family}/{number}"
        if name in files:
            problem = f"the same client as {files[name].name}; allowed: each once"
            raise WorkloadError(path, None, problem)
        files[name] = path
    return files


def _windows(path: Path) -> list[_Window]:
    """The windows of one tenant, which follow one another without a gap."""
    read = [(line, *_line(path, line, text)) for line, text in lines.numbered(path)]
    if not read:
        raise WorkloadError(path, None, f"empty; allowed: lines of {_COLUMNS}")
    begin_s = read[0][1]
    length_s = read[1][1] - begin_s if len(read) > 1 else _WINDOW_S
    if length_s <= 0:
        raise lines.wrong(path, read[1][0], "start", f"{read[1][1]:g}", f"above {begin_s:g}")
    windows: list[_Window] = []
    for index, (line, start_s, rate, weibull, shape) in enumerate(read):
        due_s = begin_s + index * length_s
        if abs(start_s - due_s) > 1e-6 * length_s:
            allowed = f"{due_s:g}, for windows of {length_s:g} s without a gap"
            raise lines.wrong(path, line, "start", f"{start_s:g}", allowed)
        if rate * length_s > _MOST_REQUESTS:
            allowed = f"at most {_MOST_REQUESTS:.0e} requests in a window"
            raise lines.wrong(path, line, "rate", f"{rate:g}", allowed)
        windows.append(_Window(start_s, length_s, round(rate * length_s), weibull, shape))
    return windows


def _line(path: Path, line: int, text: str) -> tuple[float, float, bool, float]:
    """Start, rate, whether Weibull, and shape."""
    fields = lines.fields(path, line, text)
    if len(fields) != 6:
        raise WorkloadError(path, line, f"{len(fields)} fields; allowed: {_COLUMNS}")
    start_s = _number(path, line, "start", fields[0])
    rate = _number(path, line, "rate", fields[1])
    cv = _number(path, line, "CV", fields[2])
    if rate == 0:
        return start_s, 0.0, False, 1.0
    kind = fields[3]
    if kind not in _DISTRIBUTIONS:
        raise lines.wrong(path, line, "distribution", kind, ", ".join(_DISTRIBUTIONS))
    if kind == "Exponential":
        return start_s, rate, False, 1.0
    shape = _number(path, line, "shape", fields[4]) if fields[4] else 0.0
    if shape == 0 and (kind == "Weibull" or cv == 0):
        raise lines.wrong(path, line, "shape", fields[4], "a number above 0")
    return start_s, rate, kind == "Weibull", shape or cv**-2


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise lines.wrong(path, line, column, text, "a number, 0 or more")
    return number
