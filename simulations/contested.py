"""Contests as tables: for the terminal, and as Markdown for a page.

Owns their form. Refuses to know who competes, and in what (`simulations.scaling`, `.fleet`).
"""

from collections.abc import Callable, Iterable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from simulations.trial import Verdict

Row = Sequence[str]


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
) -> Table | None:
    """What was expected of whom, who being a ``who``; None where nothing was."""
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
    return found if found.row_count else None


def markdown(titles: Row, rows: Iterable[Row], legend: str) -> str:
    """One table for several contests, as GitHub reads it; the first two columns say which and
    who."""
    lines = [_line(titles), _line(["---", "---", *["--:"] * (len(titles) - 2)])]
    return "\n".join([*lines, *map(_line, rows), "", legend, ""])


def _line(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"
