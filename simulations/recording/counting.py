"""From samples to requests in each step.

Owns how a counter becomes counts: restarts, births, gaps. Pure: asks nobody, opens no file.

Counts are differences of raw samples, not Prometheus' ``increase``, which extrapolates to the
window's edges and gives fractions. So they are whole, and their sum is what the counter moved.

- An increment lies in the steps after the one with the earlier sample, up to the one with the
  later. Where that is more than one step, nobody looked in between: the row is as long as what
  is not known, and holds the exact count.
- A counter that fell has restarted at zero; what it counted after its last sample is lost.
  Where whole steps passed unseen meanwhile, they are recorded as unknown too.
- A series that was not there while its target was being scraped did not exist (Triton drops a
  model's counters as it unloads it): it counts from zero. A target's first series do not: who
  knows how long it ran before anybody looked.
- A step in which nothing was scraped is a gap, and not a step without requests.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simulations.recording.spec import Span

Target = tuple[str, str]

# One scrape without a series may be two replicas of Prometheus taking turns; two are an absence.
ABSENT_SCRAPES = 2


@dataclass(frozen=True, slots=True)
class Series:
    """Samples of one series, in order of time; ``key`` is unique to its labels."""

    key: str
    model: str
    target: Target
    time_ms: NDArray[np.int64]
    value: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LastSeen:
    """A series' last sample, and how many scrapes of its target have passed without it since."""

    target: Target
    time_ms: int
    value: float
    absent: int = 0


@dataclass(frozen=True, slots=True)
class Scraped:
    """How often a target has been scraped since the recording began, and when last."""

    times: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Carry:
    """What the next piece of the range has to know of the ones before."""

    series: Mapping[str, LastSeen] = field(default_factory=dict)
    targets: Mapping[Target, Scraped] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rows:
    """Counts, each over ``steps`` steps from step ``first`` on; NaN where it is not known.

    model: its name, or in a whole recording, which is long, its place among the names.
    """

    first: NDArray[np.int64]
    steps: NDArray[np.int64]
    model: NDArray[np.str_] | NDArray[np.int32]
    requests: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)

    def chosen(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "Rows":
        return Rows(self.first[which], self.steps[which], self.model[which], self.requests[which])


def step_of(time_ms: NDArray[np.int64], span: Span) -> NDArray[np.int64]:
    """The step that ends with or after each time; negative before the range."""
    return -((span.from_ms - time_ms) // span.step_ms) - 1


def absorb(
    carry: Carry,
    series: Iterable[Series],
    scrapes: Mapping[Target, NDArray[np.int64]],
    span: Span,
) -> tuple[Rows, Carry]:
    """The counts of one piece of the range, later than all that ``carry`` knows.

    scrapes: when each target was scraped with success, as its ``up`` says; none where the server
    has no ``up`` for it, and then every return of a series is a continuation.
    """
    pieces: list[Rows] = []
    last = {key: _without(seen, scrapes) for key, seen in carry.series.items()}
    for each in series:
        up = scrapes.get(each.target, _NEVER)
        pieces.append(
            _counted(each, up, carry.series.get(each.key), carry.targets.get(each.target), span)
        )
        later = len(up) - int(np.searchsorted(up, each.time_ms[-1], side="right"))
        last[each.key] = LastSeen(each.target, int(each.time_ms[-1]), float(each.value[-1]), later)
    return gathered(pieces), Carry(last, {**carry.targets, **_scraped(carry.targets, scrapes)})


_NEVER = np.empty(0, np.int64)
_BEFORE_ALL_MS = -1


def _without(seen: LastSeen, scrapes: Mapping[Target, NDArray[np.int64]]) -> LastSeen:
    return replace(seen, absent=seen.absent + len(scrapes.get(seen.target, _NEVER)))


def _scraped(
    before: Mapping[Target, Scraped], scrapes: Mapping[Target, NDArray[np.int64]]
) -> dict[Target, Scraped]:
    return {
        target: Scraped(len(up) + (before[target].times if target in before else 0), int(up[-1]))
        for target, up in scrapes.items()
        if len(up)
    }


def _counted(
    series: Series,
    up: NDArray[np.int64],
    known: LastSeen | None,
    seen: Scraped | None,
    span: Span,
) -> Rows:
    """The increments of one series; ``known`` is its last sample, ``seen`` its target, before."""
    if known is None:
        # As if it had been last seen before everything, with what it shows first: that counts
        # only where scrapes without it prove that it began later.
        absent = 0 if seen is None else seen.times
        known = LastSeen(series.target, _BEFORE_ALL_MS, float(series.value[0]), absent)
    time_ms = np.concatenate([[known.time_ms], series.time_ms])
    value = np.concatenate([[known.value], series.value])
    earlier, later = time_ms[:-1], time_ms[1:]
    passed = np.searchsorted(up, later, side="left")
    missed = passed - np.searchsorted(up, earlier, side="right")
    missed[0] += known.absent
    # A sample with a time of its own, and not its scrape's, proves nothing by an absence.
    anew = (missed >= ABSENT_SCRAPES) & np.isin(later, up)
    fell = ~anew & (np.diff(value) < 0)
    requests = np.where(anew | fell, value[1:], np.diff(value))
    after_ms = np.where(anew, _scrape_before(passed, up, seen), earlier)
    rows = _placed(series.model, after_ms, later, requests, span)
    hidden = fell & (rows.steps > 1)
    lost = replace(rows.chosen(hidden), requests=np.full(int(hidden.sum()), np.nan))
    return joined([rows.chosen(after_ms != _BEFORE_ALL_MS), lost])


def _scrape_before(
    passed: NDArray[np.intp], up: NDArray[np.int64], seen: Scraped | None
) -> NDArray[np.int64]:
    """The target's scrape before each sample, where ``passed`` came before it in this piece."""
    earlier_ms = _BEFORE_ALL_MS if seen is None else seen.last_ms
    return np.concatenate([np.array([earlier_ms], np.int64), up])[passed]


def _placed(
    model: str,
    after_ms: NDArray[np.int64],
    until_ms: NDArray[np.int64],
    requests: NDArray[np.float64],
    span: Span,
) -> Rows:
    last = step_of(until_ms, span)
    first = np.maximum(np.minimum(step_of(after_ms, span) + 1, last), 0)
    return Rows(first, last - first + 1, np.full(len(last), model), requests)


def rated(model: str, time_ms: NDArray[np.int64], per_s: NDArray[np.float64], span: Span) -> Rows:
    """Counts from rates, each sampled at the end of its step; NaN stays unknown."""
    steps = np.ones(len(time_ms), np.int64)
    requests = per_s * (span.step_ms / 1000)
    return Rows(step_of(time_ms, span), steps, np.full(len(time_ms), model), requests)


def gathered(pieces: Iterable[Rows]) -> Rows:
    """One row for each model and stretch of steps within the range, in order of these.

    Those without a request go: no row means none. They stay where they are longer than a step,
    for there they say that a stretch nobody looked at is known all the same.
    """
    rows = joined(pieces)
    rows = rows.chosen((rows.requests != 0) | (rows.steps > 1))
    keys = np.rec.fromarrays([rows.first, rows.steps, rows.model, np.isnan(rows.requests)])
    if not len(keys):
        return rows
    _, one, where = np.unique(keys, return_index=True, return_inverse=True)
    requests = np.bincount(where, weights=rows.requests).astype(np.float64)
    found = Rows(rows.first[one], rows.steps[one], rows.model[one], requests)
    # What ends before the range has no step left.
    return found.chosen(found.steps > 0)


def joined(pieces: Iterable[Rows]) -> Rows:
    every = [each for each in pieces if len(each)]
    if not every:
        return Rows(_NEVER, _NEVER, np.empty(0, np.str_), np.empty(0))
    return Rows(
        np.concatenate([each.first for each in every]),
        np.concatenate([each.steps for each in every]),
        np.concatenate([each.model for each in every]),
        np.concatenate([each.requests for each in every]),
    )


Stretch = tuple[int, int]


def measured(times_ms: Iterable[NDArray[np.int64]], span: Span) -> list[Stretch]:
    """The stretches of steps, each from its first to before its second, with a scrape in each."""
    every = [step_of(each, span) for each in times_ms]
    steps = np.unique(np.concatenate(every)) if every else _NEVER
    return merged([(int(step), int(step) + 1) for step in steps if 0 <= step < span.steps])


def merged(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same steps in as few stretches as possible, in order."""
    found: list[Stretch] = []
    for first, end in sorted(stretches):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((first, end))
    return found


def gaps(known: Iterable[Stretch], steps: int) -> list[Stretch]:
    """What of the first ``steps`` steps is in none of the ``known`` stretches."""
    found, at = [], 0
    for first, end in [*merged(known), (steps, steps)]:
        if at < first:
            found.append((at, first))
        at = max(at, end)
    return found
