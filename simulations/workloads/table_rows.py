"""Rows of a table of arrivals, whichever file they stand in, and what may stand in them.

Owns the checks of values that are numbers already. Knows no file format.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulations.workloads.arrivals import WorkloadError

COLUMNS = "time and model, perhaps service_ms and weight"
NUMBERS = ("time", "service_ms", "weight")
ALLOWED = {
    "time": "seconds, 0 or more, or a time as 2026-01-31T08:00:00Z, all of one kind",
    "service_ms": "milliseconds, 0 or more",
    "weight": "a number of requests above 0",
}
# Far more than any number of seconds since 1970, or of requests, that makes sense.
_MOST = 1e12


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows, as they follow each other in the file.

    where: each one's place in the file, as messages name it.
    time_s: as the file counts; of times of day, since 1970 in UTC.
    """

    where: NDArray[np.int64]
    time_s: NDArray[np.float64]
    model: NDArray[np.int32]
    service_ms: NDArray[np.float64] | None
    weight: NDArray[np.float64] | None


@dataclass(slots=True)
class Names:
    """Models by their place, as they appear; refuses those that are not allowed."""

    allowed: Callable[[str], bool] | None = None
    place: dict[str, int] = field(default_factory=dict)

    def refused(self, name: str) -> bool:
        return not name or (self.allowed is not None and not self.allowed(name))

    def places(self, names: list[str]) -> NDArray[np.int32] | int:
        """Each name's place; else the index of the first that is refused."""
        place = self.place
        for name in dict.fromkeys(names):
            if name not in place:
                if self.refused(name):
                    return names.index(name)
                place[name] = len(place)
        return np.fromiter(map(place.__getitem__, names), np.int32, len(names))


def refusal(name: str) -> tuple[str, str]:
    """What is wrong with a model's name that `Names` refuses, and what is allowed."""
    return name, "a model of the catalogue" if name else "a name"


Wrong = Callable[[int, str, str, str], WorkloadError]


def check(rows: Rows, error: Wrong) -> None:
    """Raises ``error(where, column, value, allowed)`` of the first number that may not be."""
    for column, values, low in (
        ("time", rows.time_s, 0.0),
        ("service_ms", rows.service_ms, 0.0),
        ("weight", rows.weight, np.nextafter(0.0, 1.0)),
    ):
        if values is None:
            continue
        bad = np.flatnonzero(~((values >= low) & (values <= _MOST)))
        if len(bad):
            first = int(bad[0])
            raise error(int(rows.where[first]), column, f"{values[first]:g}", ALLOWED[column])


Reader = Callable[[Path, Names], Iterator[Rows]]
