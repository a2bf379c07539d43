"""A contest as a table: for the terminal, and as Markdown for a page.

Owns the columns and how their numbers are written. Computes nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

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


def for_terminal(contest: Contest) -> Table:
    table = Table(
        title=contest.scenario.name,
        caption=LEGEND,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for title in TITLES:
        table.add_column(title, justify="left" if title == "contestant" else "right", no_wrap=True)
    for entry in contest.entries:
        table.add_row(*row(entry))
    return table


def expectations(contest: Contest) -> Table | None:
    """What was expected of whom; None where nothing was."""
    found = Table(title="expectations", title_justify="left")
    for title in ("", "contestant", "figure", "value", "expected", "why"):
        found.add_column(title, justify="right" if title == "value" else "left")
    for entry in contest.entries:
        for verdict in contest.verdicts(entry.label):
            found.add_row(
                "[green]holds[/]" if verdict.holds else "[red]FAILS[/]",
                entry.label,
                verdict.figure,
                _number(verdict.value),
                str(verdict.expected),
                escape(verdict.expected.why),
            )
    return found if found.row_count else None


def markdown(contests: Sequence[Contest]) -> str:
    """One table for all of them, as GitHub reads it."""
    lines = [_line(("scenario", *TITLES)), _line(["---", "---", *["--:"] * (len(TITLES) - 1)])]
    for contest in contests:
        lines += [_line((contest.scenario.name, *row(entry))) for entry in contest.entries]
    return "\n".join([*lines, "", LEGEND, ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
