"""A contest as a table: for the terminal, and as Markdown for a page.

Owns the columns and how their numbers are written. Computes nothing.
"""

import math
from collections.abc import Iterator, Sequence

from rich.table import Table

from simulations import contested
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
        yield contested.expectations(TITLES[0], verdicts, number)


def markdown(contests: Sequence[Contest]) -> str:
    """One table for all of them, as GitHub reads it."""
    rows = ((each.scenario.name, *row(entry)) for each in contests for entry in each.entries)
    return contested.markdown(("scenario", *TITLES), rows, LEGEND)
