"""A comparison as a table: for the terminal, and as Markdown for a page.

Owns the columns and how their numbers are written. Computes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from simulations.comparison.results import Comparison, Entry


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    write: Callable[[Mapping[str, float]], str]


def number(value: float) -> str:
    """Three digits or more: 0.123, 12.3, 123, 12,345."""
    if value >= 100:
        return f"{value:,.0f}"
    if value == 0 or value >= 10:
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.3g}"


def _plain(name: str) -> Callable[[Mapping[str, float]], str]:
    return lambda figures: number(figures[name])


def _ratio(name: str) -> Callable[[Mapping[str, float]], str]:
    return lambda figures: f"{figures[name]:.2f}" if name in figures else "-"


_COLUMNS = (
    _Column("cold s", _plain("visible_cold_s")),
    _Column("/bound", _ratio("cold_to_bound")),
    _Column("load s", _plain("load_s")),
    _Column("/bound", _ratio("load_to_bound")),
    _Column("p50 s", _plain("p50_s")),
    _Column("p99 s", _plain("p99_s")),
    _Column("churn/h", _plain("churn_per_hour")),
    _Column("prewarms", _plain("prewarms")),
    _Column("failed", _plain("failed")),
)
WIDTH = 100
"""Columns that the table takes in a terminal; cut figures would be wrong ones."""
TITLES = ("budget", "policy", *(column.title for column in _COLUMNS))
LEGEND = (
    "cold s: from the first request for an absent model until it was ready. load s: all loads, "
    "prewarms too. /bound: as a multiple of the fewest seconds of loading that serve every "
    "request, proven by linear programming; who fails requests may load less, and so may who lets "
    "them wait together (speed: faithful). p50, p99: waits beyond a request's own execution. "
    "belady and static know the future."
)
BEST = "the fewest cold seconds of those that fail the fewest requests and do not know the future."


def row(entry: Entry) -> tuple[str, ...]:
    figures = entry.figures
    share = f"{entry.budget.share:.0%}"
    return share, entry.policy, *(column.write(figures) for column in _COLUMNS)


def for_terminal(comparison: Comparison) -> Table:
    table = Table(
        title=comparison.scenario,
        caption=LEGEND,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for title in TITLES:
        table.add_column(title, justify="left" if title == "policy" else "right", no_wrap=True)
    for budget in comparison.budgets:
        for entry in comparison.on(budget):
            table.add_row(*row(entry))
        table.add_section()
    return table


def markdown(comparisons: Sequence[Comparison]) -> str:
    """One table for all of them, as GitHub reads it."""
    titles = ("trace", *TITLES)
    lines = [_line(titles), _line(["---", "--:", "---", *["--:"] * len(_COLUMNS)])]
    for comparison in comparisons:
        for budget in comparison.budgets:
            best = comparison.best(budget)
            for entry in comparison.on(budget):
                cells = list(row(entry))
                if entry.policy == best:
                    cells[1] = f"**{cells[1]}**"
                lines.append(_line([comparison.scenario, *cells]))
    return "\n".join([*lines, "", f"{LEGEND} Bold: {BEST}", ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
