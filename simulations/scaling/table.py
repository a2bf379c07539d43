"""A contest as a table: for the terminal, and as Markdown for a page.

Owns the columns and how their numbers are written. Computes nothing.
"""

import math
from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from simulations.comparison.table import number
from simulations.scaling.contest import Contest, Entry
from simulations.scaling.outcome import TO_CLAIRVOYANT

TITLES = ("signal", "replicas", "reversals", "SLO", "pod-hours", "/clairvoyant", "p99 s", "failed")
WIDTH = 100
LEGEND = (
    "replicas: the least and the most wanted. reversals: times that they rose after a fall, or "
    "fell after a rise. SLO: share of requests that waited no longer than they may beyond their "
    "own execution. /clairvoyant: pod-hours as a multiple of those of a scaler that knows the "
    "future."
)


def row(entry: Entry) -> tuple[str, ...]:
    figures = entry.figures
    least, most = figures["replicas_least"], figures["replicas_most"]
    return (
        entry.label,
        f"{least:g}" if least == most else f"{least:g}–{most:g}",
        f"{figures['reversals']:g}",
        # Rounded down: 99.99 % is not all.
        f"{math.floor(figures['attainment'] * 10_000) / 100:.2f} %",
        number(figures["pod_hours"]),
        f"{figures[TO_CLAIRVOYANT]:.2f}",
        number(figures["p99_s"]) if math.isfinite(figures["p99_s"]) else "never",
        number(figures["failed"]),
    )


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
        table.add_column(title, justify="left" if title == "signal" else "right", no_wrap=True)
    for entry in contest.entries:
        table.add_row(*row(entry))
    return table


def expectations(contest: Contest) -> Table | None:
    """What was expected of whom; None where nothing was."""
    found = Table(title="expectations", title_justify="left")
    for title in ("", "signal", "figure", "value", "expected", "why"):
        found.add_column(title, justify="right" if title == "value" else "left")
    for entry in contest.entries:
        for verdict in contest.verdicts(entry.label):
            found.add_row(
                "[green]holds[/]" if verdict.holds else "[red]FAILS[/]",
                entry.label,
                verdict.figure,
                number(verdict.value),
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
