"""What was asked before this pod began: fetched piece by piece, the newest first.

Owns which questions tell it, how large each may be, and how much is enough. Refuses to ask by
itself, and to know what is learned from it (`policies.seeding`).
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from daemon.foresight import answers
from daemon.foresight.server import Server, TooLarge
from policies.forecast import Floats
from policies.policy import Prometheus
from policies.seeding import Counts

_DAY_S = 86_400
FINE_S, COARSE_S = 60, 300
"""Steps of the latest day, and of the days before it."""
MOST_COUNTS = 1_000_000
"""Of all models and steps together; some dozen megabytes, while they are here."""
_FIRST_POINTS = 60
_MOST_POINTS = 5_000
_ROOMY_COUNTS = 20_000
"""An answer with fewer leaves room for one of twice as many steps."""


@dataclass(slots=True)
class Past:
    """layers: the ends of the steps still to be fetched, the newest layer first. points: how many
    of them come next. is_cut: there would be more, and it is too much."""

    spec: Prometheus
    layers: list[range]
    pieces: list[Counts] = field(default_factory=list)
    points: int = _FIRST_POINTS
    is_cut: bool = False

    @classmethod
    def before(cls, spec: Prometheus, until_s: float) -> "Past":
        """All of the past that ``spec`` wants, up to ``until_s``."""
        fine_s = max(FINE_S, math.ceil(spec.window_s))
        coarse_s = max(COARSE_S, fine_s)
        end_s = math.floor(until_s)
        middle_s = end_s - int(min(spec.history_s, _DAY_S)) // fine_s * fine_s
        begin_s = middle_s - int(max(0.0, spec.history_s - _DAY_S)) // coarse_s * coarse_s
        fine = range(middle_s + fine_s, end_s + 1, fine_s)
        coarse = range(begin_s + coarse_s, middle_s + 1, coarse_s)
        return cls(spec, [layer for layer in (fine, coarse) if layer])

    @property
    def is_done(self) -> bool:
        return not self.layers

    def fetch(self, server: Server, models: Collection[str], dropped: Counter[str]) -> None:
        """Takes in one more piece. Raises AskError, after which the same piece comes again."""
        layer = self.layers[0]
        piece = layer[-self.points :]
        # What is not asked for at all need not travel.
        query = f"({asked(self.spec, piece.step)}) > 0"
        try:
            answer = server.stepped(query, piece[0], piece[-1], piece.step)
        except TooLarge:
            if self.points == 1:
                self._cut()
            self.points = max(1, self.points // 4)
            return
        found = answers.counts(answer, self.spec.label, models, piece, dropped)
        self.pieces.append(found)
        rest = layer[: -len(piece)]
        self.layers[:1] = [rest] if rest else []
        if sum(map(len, self.pieces)) >= MOST_COUNTS:
            self._cut()
        if len(found) < _ROOMY_COUNTS:
            self.points = min(2 * self.points, _MOST_POINTS)

    def _cut(self) -> None:
        self.is_cut = bool(self.layers)
        self.layers = []

    def counts(self) -> Counts:
        """All that was fetched."""
        names = sorted({name for piece in self.pieces for name in piece.names})
        place = {name: row for row, name in enumerate(names)}
        rows = [
            np.array([place[name] for name in piece.names], np.intp)[piece.model]
            for piece in self._full()
        ]
        return Counts(
            names=names,
            model=np.concatenate([np.empty(0, np.intp), *rows]),
            from_s=_joined(piece.from_s for piece in self._full()),
            length_s=_joined(piece.length_s for piece in self._full()),
            requests=_joined(piece.requests for piece in self._full()),
        )

    def _full(self) -> Iterator[Counts]:
        return (piece for piece in self.pieces if len(piece))


def asked(spec: Prometheus, window_s: float) -> str:
    """The query with its window written out."""
    return spec.query.replace("{window}", f"{round(window_s * 1000)}ms")


def _joined(arrays: Iterable[Floats]) -> Floats:
    return np.concatenate([np.empty(0), *arrays])
