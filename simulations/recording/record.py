"""Records how often each model was asked for, from a Prometheus server into a Parquet file.

Owns the order of things: go on where an earlier run stopped, fetch piece after piece, put the
whole together. The file's columns:

time_s    float64  start of the step, seconds since 1970
model     string
requests  float64  counted in it; null where nobody knows, for nobody looked
step_s    float64  how long it was: more than one step where nobody looked in between, and then
                   ``requests`` is exact and only when they came is not known

A step without a row had no request. Every model has a row in the first step, though, so that the
file names all and begins when the range does. In order of time_s, then model. The schema's
metadata says under ``remora.recording``, as JSON, where it comes from.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from simulations.recording import fetching
from simulations.recording.counting import Rows, Stretch, gaps, joined
from simulations.recording.errors import TargetTaken, TooLarge, Unreachable
from simulations.recording.fetching import Fetcher, Piece
from simulations.recording.server import Server
from simulations.recording.spec import RecordSpec
from simulations.recording.unfinished import Reached, Unfinished, different, write_whole

METADATA = b"remora.recording"


@dataclass(frozen=True, slots=True)
class Progress:
    """After each piece. samples: that Prometheus has given to this run."""

    done_s: float
    total_s: float
    samples: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a recording holds. gap_s: seconds in which nothing was scraped at all."""

    models: int
    requests: float
    gap_s: float
    from_s: float
    to_s: float


def record(
    spec: RecordSpec,
    target: Path,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    now_s: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Recorded:
    """Records into ``target``. With the same arguments again it fetches only what is missing, of
    the range that the first run meant by them; of a finished recording, nothing.

    Raises RecordError.
    """
    if target.exists():
        return _finished(spec, target)
    unfinished = Unfinished(target, spec)
    with unfinished.alone(), closing(Server(spec, sleep)) as server:
        reached = unfinished.reached()
        span = reached.span if reached else spec.span(time.time() if now_s is None else now_s)
        fetcher = Fetcher(server, spec, span)
        with _tidied(unfinished):
            fetcher.look_around()
            if reached is None:
                reached = Reached(span, fetching.first_piece(span), carry=fetcher.before())
            reached = _fetched(fetcher, unfinished, reached, progress)
        if not reached.models:
            unfinished.remove()
            raise fetcher.nothing()
        rows = _whole(unfinished.rows(reached), reached)
        told = _told(spec, rows, reached)
        write_whole(target, _table(rows, reached, told))
        unfinished.remove()
    return _summary(told)


@contextmanager
def _tidied(unfinished: Unfinished) -> Iterator[None]:
    """Leaves nothing behind where nothing was fetched, and says so where something was."""
    try:
        yield
    except BaseException as error:
        if unfinished.reached() is None:
            unfinished.remove()
        elif isinstance(error, Unreachable):
            problem = "what has come is kept, and the same command goes on from there"
            raise Unreachable(f"{error}; {problem}") from None
        raise


def _fetched(
    fetcher: Fetcher,
    unfinished: Unfinished,
    reached: Reached,
    progress: Callable[[Progress], None],
) -> Reached:
    span, samples = reached.span, 0
    step_s = span.step_ms / 1000
    while reached.done < span.steps:
        reached, piece = _next(fetcher, reached)
        unfinished.keep(piece.rows, reached)
        samples += piece.samples
        progress(Progress(reached.done * step_s, span.steps * step_s, samples))
    return reached


def _next(fetcher: Fetcher, reached: Reached) -> tuple[Reached, Piece]:
    """One piece further, in as small a one as Prometheus wants."""
    steps = min(reached.piece, reached.span.steps - reached.done)
    try:
        piece = fetcher.piece(reached.carry, reached.done, steps)
    except TooLarge:
        if steps == 1:
            raise
        return _next(fetcher, replace(reached, piece=steps // 2))
    further = reached.further(steps, piece.models, piece.measured, piece.carry)
    return replace(further, piece=fetching.next_piece(steps, piece)), piece


def _whole(parts: list[Rows], reached: Reached) -> Rows:
    """Every part's rows, with what nobody knows, in order of steps and then models."""
    rows = joined(parts)
    long = rows.chosen(rows.steps > 1)
    unknown = [_unknown(long, model, reached) for model in range(len(reached.models))]
    # What is long and zero has said by now that its stretch is no gap.
    rows = joined([rows.chosen(rows.requests != 0), *unknown])
    rows = joined([rows, _edges(rows, reached)])
    return rows.chosen(np.lexsort((rows.model, rows.first)))


def _unknown(long: Rows, model: int, reached: Reached) -> Rows:
    """The stretches without a scrape that no count of the model spans."""
    own = long.chosen(long.model == model)
    spanned = zip(own.first.tolist(), (own.first + own.steps).tolist(), strict=True)
    known: list[Stretch] = [*reached.measured, *spanned]
    return _alike(model, gaps(known, reached.span.steps), np.nan)


def _edges(rows: Rows, reached: Reached) -> Rows:
    """Rows of zero, so that each model has one in the first step, and one model in the last."""
    steps, begun = reached.span.steps, {*rows.model[rows.first == 0].tolist()}
    silent = [
        _alike(model, [(0, 1)], 0.0) for model in range(len(reached.models)) if model not in begun
    ]
    if not (rows.first + rows.steps == steps).any() and steps > 1:
        silent.append(_alike(0, [(steps - 1, steps)], 0.0))
    return joined(silent)


def _alike(model: int, stretches: list[Stretch], requests: float) -> Rows:
    ends = np.array(stretches, np.int64).reshape(-1, 2)
    count = len(stretches)
    models, values = np.full(count, model, np.int32), np.full(count, requests)
    return Rows(ends[:, 0], ends[:, 1] - ends[:, 0], models, values)


def _table(rows: Rows, reached: Reached, told: dict[str, Any]) -> Any:
    span, names = reached.span, pa.array(reached.models, pa.string())
    columns = {
        "time_s": (span.from_ms + rows.first * span.step_ms) / 1000,
        "model": names.take(pa.array(rows.model)),
        "requests": pa.array(rows.requests, mask=np.isnan(rows.requests)),
        "step_s": rows.steps * span.step_ms / 1000,
    }
    return pa.table(columns).replace_schema_metadata({METADATA: json.dumps(told)})


def _told(spec: RecordSpec, rows: Rows, reached: Reached) -> dict[str, Any]:
    """What the file says of itself; ``recording`` holds the arguments, no credentials."""
    span = reached.span
    unseen = sum(end - first for first, end in gaps(reached.measured, span.steps))
    return {
        "recording": spec.identity(),
        "from_s": span.from_ms / 1000,
        "to_s": span.to_ms / 1000,
        "models": len(reached.models),
        "requests": float(np.nansum(rows.requests)),
        "gap_s": unseen * span.step_ms / 1000,
    }


def _finished(spec: RecordSpec, target: Path) -> Recorded:
    try:
        told = json.loads((pq.read_schema(target).metadata or {})[METADATA])
        there, summary = told["recording"], _summary(told)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        raise TargetTaken(f"{target} exists and is no recording; name another file") from None
    if there != spec.identity():
        problem = different(there, spec.identity())
        raise TargetTaken(f"{target} is another recording ({problem}); name another file")
    return summary


def _summary(told: dict[str, Any]) -> Recorded:
    names = ("models", "requests", "gap_s", "from_s", "to_s")
    return Recorded(**{name: told[name] for name in names})
