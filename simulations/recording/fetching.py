"""Fetches one piece of the range, and turns it into counts.

Owns which questions a piece needs, for counters and for rates, and how large the next may be.
Writes nothing.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from simulations.recording.counting import (
    Carry,
    Rows,
    Series,
    Stretch,
    Target,
    absorb,
    gathered,
    measured,
    rated,
)
from simulations.recording.errors import BadQuery, BadSpec, NothingFound
from simulations.recording.server import Labels, Samples, Server, quoted
from simulations.recording.spec import RecordSpec, Span

# What Prometheus gives of one series in a range query; raw samples keep to it as well.
MOST_POINTS = 11_000
# Of all series together: a few megabytes of JSON, far below the server's own 50 million.
MOST_SAMPLES = 250_000
FIRST_PIECE_S = 1800.0
# How far back Prometheus itself looks for a series' value.
LOOKBACK_MS = 300_000


@dataclass(frozen=True, slots=True)
class Piece:
    """What one piece gave. samples: how many in all; points: of the series with the most."""

    rows: Rows
    models: set[str]
    measured: list[Stretch]
    carry: Carry
    samples: int
    points: int


class Fetcher:
    """The questions of one recording; each method raises RecordError."""

    def __init__(self, server: Server, spec: RecordSpec, span: Span) -> None:
        self._server, self._spec, self._span = server, spec, span
        self._up: str | None = None

    def before(self) -> Carry:
        """What is known of counters as the range begins, where it is a recording of counters.

        Raises NothingFound where nothing in the range matches.
        """
        if self._spec.kind == "rate":
            return Carry()
        from_ms = self._span.from_ms
        return self._counters(Carry(), from_ms - LOOKBACK_MS, from_ms).carry

    def look_around(self) -> None:
        """Learns which targets the series come from."""
        if self._spec.kind == "rate":
            return
        span, query = self._span, self._spec.query
        try:
            found = self._server.series(query, span.from_ms, span.to_ms)
        except BadQuery as error:
            raise BadQuery(
                f"{error}; counters are chosen by a plain selector, as"
                ' metric{label="value"}, and an expression must give a rate'
            ) from None
        if not found:
            raise self.nothing()
        self._up = _up_query(found)

    def piece(self, carry: Carry, first: int, steps: int) -> Piece:
        """Steps ``first`` to before ``first + steps``; ``carry`` comes from the piece before."""
        span = self._span
        if self._spec.kind == "counter":
            return self._counters(carry, span.start_ms(first), span.start_ms(first + steps))
        # A rate at a step's end speaks of the step.
        begin_ms, end_ms = span.start_ms(first + 1), span.start_ms(first + steps)
        found = self._server.stepped(self._spec.query, begin_ms, end_ms, span.step_ms)
        named = [(self._model(each.labels), each) for each in found]
        rows = gathered(
            rated(model, each.time_ms, self._plausible(each), span) for model, each in named
        )
        seen = measured([each.time_ms for each in found], span)
        return Piece(rows, {name for name, _ in named}, seen, carry, *_sizes(found))

    def nothing(self) -> NothingFound:
        """An error that says what resembles what was asked for."""
        spec, names = self._spec, self._server.metrics()
        asked = [word for word in re.findall(r"[a-zA-Z_:][\w:]*", spec.query) if len(word) > 2]
        known = [word for word in asked if word in names]
        problem = f"{spec.source}: nothing matches {spec.query} from {spec.since} to {spec.until}"
        if known:
            return NothingFound(f"{problem}; {known[0]} exists, but not with these labels then")
        near = [name for word in asked for name in get_close_matches(word, names, 5, 0.6)]
        near = list(dict.fromkeys(near))[:8] or sorted(names)[:8]
        said = f"there are {', '.join(near)}" if near else "it has no metrics at all"
        return NothingFound(f"{problem}; {said}")

    def _counters(self, carry: Carry, from_ms: int, to_ms: int) -> Piece:
        found = self._server.raw(self._spec.query, from_ms, to_ms)
        scrapes = self._scrapes(from_ms, to_ms)
        series = sorted(map(self._series, found), key=lambda each: each.key)
        self._check_step([*scrapes.values(), *(each.time_ms for each in found)])
        rows, carry = absorb(carry, series, scrapes, self._span)
        seen = measured([*scrapes.values(), *(each.time_ms for each in found)], self._span)
        return Piece(rows, {each.model for each in series}, seen, carry, *_sizes(found))

    def _scrapes(self, from_ms: int, to_ms: int) -> dict[Target, NDArray[np.int64]]:
        """When each target was scraped with success."""
        if self._up is None:
            return {}
        found = self._server.raw(self._up, from_ms, to_ms)
        return {_target(each.labels): each.time_ms[each.value == 1] for each in found}

    def _series(self, samples: Samples) -> Series:
        value, labels = samples.value, samples.labels
        if not (np.isfinite(value).all() and (value >= 0).all()):
            raise BadQuery(f"{_shown(labels)} is no counter: it is not always 0 or more")
        return Series(
            json.dumps(labels, sort_keys=True, ensure_ascii=False),
            self._model(labels),
            _target(labels),
            samples.time_ms,
            value,
        )

    def _plausible(self, samples: Samples) -> NDArray[np.float64]:
        value = samples.value
        if np.isinf(value).any() or (value < 0).any():
            raise BadQuery(f"{_shown(samples.labels)} is no rate: it is not always 0 or more")
        return value

    def _model(self, labels: Labels) -> str:
        missing = [name for name in self._spec.labels if not labels.get(name)]
        if missing:
            raise BadSpec(
                f"label {missing[0]!r} names the model, but a series has none: {_shown(labels)}"
            )
        return ":".join(labels[name] for name in self._spec.labels)

    def _check_step(self, times_ms: list[NDArray[np.int64]]) -> None:
        every = [np.diff(each) for each in times_ms if len(each) > 2]
        if not every:
            return
        usual_ms = float(np.median(np.concatenate(every)))
        # Scrapes come some milliseconds early or late.
        if usual_ms > 1.05 * self._span.step_ms:
            raise BadSpec(
                f"step is {self._spec.step_s:g} s, but the server looks every"
                f" {usual_ms / 1000:g} s; the step must be at least as long"
            )


def next_piece(steps: int, piece: Piece) -> int:
    """How many steps to fetch after ``steps`` of them gave ``piece``: at most twice as many."""
    share = max(piece.points / MOST_POINTS, piece.samples / MOST_SAMPLES, 1e-9)
    return max(1, min(2 * steps, MOST_POINTS, int(steps / share)))


def first_piece(span: Span) -> int:
    return max(1, min(int(FIRST_PIECE_S * 1000 / span.step_ms), MOST_POINTS))


def _up_query(series: Iterable[Labels]) -> str | None:
    jobs = sorted({labels["job"] for labels in series if labels.get("job")})
    return f"up{{job=~{quoted('|'.join(map(re.escape, jobs)))}}}" if jobs else None


def _target(labels: Labels) -> Target:
    return labels.get("job", ""), labels.get("instance", "")


def _sizes(found: list[Samples]) -> tuple[int, int]:
    sizes = [len(each.time_ms) for each in found]
    return sum(sizes), max(sizes, default=0)


def _shown(labels: Labels) -> str:
    inside = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    return f"{{{inside}}}"
