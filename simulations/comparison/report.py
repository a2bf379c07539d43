"""A comparison as one HTML page that needs nothing else: text, table, figures.

Owns the page and what it says about each figure. Draws nothing itself.
"""

from collections.abc import Iterator
from dataclasses import replace
from html import escape

from simulations.comparison import plots, table
from simulations.comparison.results import Budget, Comparison

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 66rem; margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; }
h2 { font-size: 1.1rem; margin: 2.4rem 0 .3rem; }
p { margin: .3rem 0 .8rem; max-width: 50rem; }
.note { color: #555; font-size: .9rem; }
figure { margin: .6rem 0 0; }
figure svg { width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
th, td { padding: .22rem .8rem; text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid #999; font-weight: 600; }
th:nth-child(2), td:nth-child(2) { text-align: left; }
tr.first td { border-top: 1px solid #ccc; }
tr.best td { background: #eef6ee; }
"""


def html(comparison: Comparison) -> str:
    """The page; the same bytes for the same comparison."""
    body = "\n".join(_body(comparison))
    title = f"{escape(comparison.scenario)}: policies compared"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def _body(comparison: Comparison) -> Iterator[str]:
    yield f"<p>{escape(comparison.about)}</p>"
    yield f'<p class="note">{escape(_extent(comparison))}</p>'
    yield _table(comparison)
    middle = comparison.budgets[len(comparison.budgets) // 2]
    shown = _shown(comparison, middle)
    yield _section(
        "Cold seconds over the budget",
        "Left, what clients felt: from the first request for an absent model until it was ready. "
        "Right, all loading, prewarms included, so that what a prewarm costs is seen as well. No "
        "policy, not even one that knows the future, loads for fewer seconds than the dashed "
        "line; only visible seconds can fall below it, by loading before somebody asks.",
        plots.cold_over_budget(comparison),
    )
    yield _section(
        "How long requests waited",
        "The share of requests that waited longer than the seconds below, for each policy: the "
        "further left and down a line, the better. Those that found their model ready and free "
        "waited less than a millisecond and are not drawn. Requests that were never served have "
        "no wait; the table counts them.",
        plots.waits(comparison),
    )
    yield _section(
        f"Who was resident when, at a budget of {middle.share:.0%}",
        "The models that came and went the most. A bar is one stay in memory, its black beginning "
        "the load. Many short bars in one row are a model that is evicted and asked for again.",
        plots.residency(comparison, middle, shown),
    )
    yield _section(
        "Churn",
        "Models that left memory, per hour. Each is work for Triton, and a cold start if the "
        "model is asked for again.",
        plots.churn(comparison),
    )
    yield _section(
        "Reserved memory",
        "What residents, loads under way and unloads that are not over take together. It may "
        f"touch the budget and never exceeds it. Of {' and '.join(shown)}.",
        plots.memory(comparison, shown),
    )


def _extent(comparison: Comparison) -> str:
    outcome = comparison.entries[0].outcome
    budgets = ", ".join(
        f"{budget.share:.0%} ({budget.budget_bytes / 2**30:.1f} GiB)"
        for budget in comparison.budgets
    )
    return (
        f"{outcome.requests:,.0f} requests in {outcome.duration_s / 3600:.1f} hours. All models "
        f"together take {comparison.total_bytes / 2**30:.1f} GiB; budgets: {budgets}."
    )


def _shown(comparison: Comparison, budget: Budget) -> list[str]:
    """The policy named first, and the best of the others."""
    first = comparison.policies[0]
    others = tuple(entry for entry in comparison.entries if entry.policy != first)
    return [first, *([replace(comparison, entries=others).best(budget)] if others else [])]


def _table(comparison: Comparison) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in table.TITLES)
    rows = []
    for budget in comparison.budgets:
        entries = list(comparison.on(budget))
        best = comparison.best(budget)
        for entry in entries:
            kinds = [
                kind for kind, holds in _kinds(entry is entries[0], entry.policy == best) if holds
            ]
            cells = "".join(f"<td>{escape(cell)}</td>" for cell in table.row(entry))
            rows.append(f'<tr class="{" ".join(kinds)}">{cells}</tr>')
    body = "\n".join(rows)
    legend = f'<p class="note">{escape(table.LEGEND)} Green: {table.BEST}</p>'
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>\n{legend}"
    )


def _kinds(first: bool, best: bool) -> tuple[tuple[str, bool], ...]:
    return ("first", first), ("best", best)


def _section(title: str, text: str, svg: str) -> str:
    return (
        f"<section>\n<h2>{escape(title)}</h2>\n<p>{escape(text)}</p>\n"
        f"<figure>{svg}</figure>\n</section>"
    )
