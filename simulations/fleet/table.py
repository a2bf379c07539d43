"""A contest as a table: for the terminal, and as Markdown for a page.

Owns the columns and how their numbers are written. Computes nothing.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.table import Table

from simulations import contested
from simulations.comparison.table import number
from simulations.fleet.contest import Contest, Entry

WIDTH = 150
LEGEND = (
    "cold s: seconds in which somebody waited for a model to load, over all models and pods. cold: "
    "requests that did not find their model there. p99 s: wait beyond a request's own execution. "
    "loads/s: the most that began in any second. copies: of a model while it has any, on average "
    "and at most. last copies: gone by decision + with their pod. moved: models that changed pods "
    "because pods came or went, as a multiple of what each pod's fair part would be. said, heard: "
    "messages a second to the broker, and to each pod. agreed s: the longest until all pods knew "
    "again of each other."
)


def _number(value: float) -> str:
    return number(value) if math.isfinite(value) else "never"


_COLUMNS: Mapping[str, Callable[[Mapping[str, float]], str]] = {
    "cold s": lambda found: _number(found["cold_s"]),
    "cold": lambda found: _number(found["cold_requests"]),
    "p99 s": lambda found: _number(found["p99_s"]),
    "failed": lambda found: _number(found["failed"]),
    "requests": lambda found: _number(found["requests"]),
    "loads": lambda found: _number(found["loads"]),
    "loads/s": lambda found: f"{found['most_loads_per_s']:g}",
    "copies": lambda found: f"{found['copies_mean']:.2f}, {found['copies_most']:g}",
    "last copies": lambda found: (
        f"{found['last_copies_evicted']:g} + {found['last_copies_lost']:g}"
    ),
    "moved": lambda found: f"{found['moved_to_fair']:.2f}" if found["moved"] else "–",
    "said": lambda found: f"{found['said_per_s']:.1f}" if found["said_per_s"] else "–",
    "heard": lambda found: f"{found['heard_per_s']:.1f}" if found["heard_per_s"] else "–",
    "agreed s": lambda found: _number(found["agreed_s"]) if found["agreed_s"] else "–",
}
TITLES = ("contestant", *_COLUMNS)


def row(entry: Entry) -> tuple[str, ...]:
    return (entry.label, *(write(entry.figures) for write in _COLUMNS.values()))


def tables(contest: Contest) -> Iterator[Table]:
    """What came of it, and what was expected of whom, where anything was."""
    rows = map(row, contest.entries)
    yield contested.for_terminal(contest.scenario.name, TITLES, rows, LEGEND)
    verdicts = [
        (entry.label, verdict)
        for entry in contest.entries
        for verdict in contest.verdicts(entry.label)
    ]
    if verdicts:
        yield contested.expectations(TITLES[0], verdicts, _number)


def markdown(contests: Sequence[Contest]) -> str:
    """One table for all of them, as GitHub reads it."""
    rows = ((each.scenario.name, *row(entry)) for each in contests for entry in each.entries)
    return contested.markdown(("scenario", *TITLES), rows, LEGEND)
