"""What commands say of contests: tables for the terminal, Markdown for a page, JSON.

Owns their form. Refuses to know who competes, and in what (`simulations.scaling`, `.fleet`).
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simulations.trial import Verdict

Row = Sequence[str]


class Scenario(Protocol):
    @property
    def about(self) -> str: ...


class Contest(Protocol):
    """One scenario and what came of it; as_values: all of it, as JSON has it."""

    @property
    def scenario(self) -> Scenario: ...

    @property
    def holds(self) -> bool: ...

    def as_values(self) -> dict[str, Any]: ...


C = TypeVar("C", bound=Contest)


def report(
    contests: Sequence[C],
    tables: Callable[[C], Iterable[Table]],
    as_markdown: Callable[[Sequence[C]], str] | None,
    *,
    width: int,
    json_out: Path | None,
) -> int:
    """Prints the ``tables`` of each contest, or all as Markdown; the exit status: 1 when an
    expectation does not hold.

    width: what the widest table takes, in columns.
    """
    if json_out is not None:
        # The same bytes for the same outcomes.
        values = [contest.as_values() for contest in contests]
        json_out.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", "utf-8")
    if as_markdown is not None:
        print(as_markdown(contests), end="")
    else:
        console = Console()
        console.width = max(console.width, width)
        for contest in contests:
            console.print(contest.scenario.about, markup=False, highlight=False)
            for table in tables(contest):
                console.print(table)
    return 0 if all(contest.holds for contest in contests) else 1


def finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """As JSON has them: a time that never ended is null."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def for_terminal(name: str, titles: Row, rows: Iterable[Row], legend: str) -> Table:
    """One contest; the first column says who."""
    table = Table(
        title=name,
        caption=legend,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for title in titles:
        table.add_column(title, justify="left" if title == titles[0] else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def expectations(
    who: str, verdicts: Iterable[tuple[str, Verdict]], number: Callable[[float], str]
) -> Table:
    """What was expected of whom, who being a ``who``."""
    found = Table(title="expectations", title_justify="left")
    for title in ("", who, "figure", "value", "expected", "why"):
        found.add_column(title, justify="right" if title == "value" else "left")
    for label, verdict in verdicts:
        found.add_row(
            "[green]holds[/]" if verdict.holds else "[red]FAILS[/]",
            label,
            verdict.figure,
            number(verdict.value),
            str(verdict.expected),
            escape(verdict.expected.why),
        )
    return found


def markdown(titles: Row, rows: Iterable[Row], legend: str) -> str:
    """One table for several contests, as GitHub reads it; the first two columns say which and
    who."""
    lines = [_line(titles), _line(["---", "---", *["--:"] * (len(titles) - 2)])]
    return "\n".join([*lines, *map(_line, rows), "", legend, ""])


def _line(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"
