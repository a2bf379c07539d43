"""What a search found, as a policy file and as a table.

Owns the file's header, the table and the verdict. The file is the policy as it was written, with
the values that were found in place of its own; `remora check` reads it.
"""

from collections.abc import Mapping, Sequence

import yaml
from rich import box
from rich.table import Table

from simulations.comparison.table import number
from simulations.decider import laid_over
from simulations.scenario import Scenario
from simulations.tuning.judging import BEFORE, DEFAULT, TUNED, Judged
from simulations.tuning.search import Figures, Search
from simulations.tuning.space import Space

_TOLD = {
    "visible_cold_s": "cold s",
    "load_s": "load s",
    "cold_starts": "starts",
    "p99_s": "p99 s",
    "churn_per_hour": "churn/h",
    "failed": "failed",
}
_TO_BOUND = ("visible_cold_s", "load_s")


_CAPTION = (
    "cold s: from the first request for an absent model until it was ready. bound: the fewest "
    "seconds of loading that serve each request when it comes; who lets requests gather, or fails "
    "them, may load less."
)


def policy_file(scenario: Scenario, search: Search, judged: Judged | None, seed: int) -> str:
    """judged: None where the search was interrupted before anybody was."""
    lines = [*_found(scenario, search, judged, seed)]
    if judged is not None:
        lines += _judged(search.space, judged)
    header = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    written = laid_over(scenario.decider.written, search.best)
    return header + yaml.safe_dump(written, sort_keys=False, allow_unicode=True)


def _found(scenario: Scenario, search: Search, judged: Judged | None, seed: int) -> Sequence[str]:
    costs = search.space.objective.items()
    objective = " + ".join(f"{cost:g} × {name}" for name, cost in costs if cost)
    lines = [
        f"Found by `remora tune` on the first half of the traffic of the scenario {scenario.name},",
        f"in {search.runs} runs with seed {seed}. Searched were",
        *(f"  {key}" for key in search.space.knobs),
        f"for the least {objective}.",
    ]
    if judged is None:
        lines.append(f"Interrupted: this was the best on {search.share:.0%} of that half, and what")
        lines.append("it does on the second nobody has seen.")
    elif not search.best:
        lines.append("Nothing better was found: this is the policy as it was.")
    return lines


def _judged(space: Space, judged: Judged) -> Sequence[str]:
    rival = judged.best_rival(space.score)
    shown = [TUNED, BEFORE, *([DEFAULT] if DEFAULT in judged.second else []), rival]
    lines = ["On the second half, which the search did not see:"]
    for name in shown:
        of = judged.second[name]
        told = ", ".join(f"{figure} {number(of[figure])}" for figure in _TOLD)
        lines.append(f"  {name}: objective {number(space.score(of))}, {told}")
    return [*lines, f"  bound: load_s {number(judged.bound_s)}", *verdict(space, judged)]


def verdict(space: Space, judged: Judged) -> Sequence[str]:
    """Whether it paid, in the search's own terms and on the half that it did not see."""
    rival = judged.best_rival(space.score)
    beside = {"the policy as it was": BEFORE, "the default policy": DEFAULT}
    beside[f"the best rival, {rival}"] = rival
    cost = space.score(judged.second[TUNED])
    return [
        f"On the second half it costs {_change(cost, space.score(judged.second[name]))} {words}."
        for words, name in beside.items()
        if name in judged.second
    ]


def _change(cost: float, other: float) -> str:
    if cost == other:
        return "as much as"
    if not other:
        return "more than the nothing of"
    return f"{abs(cost / other - 1):.1%} {'less' if cost < other else 'more'} than"


def as_table(space: Space, judged: Judged) -> Table:
    """Everybody who was judged, and the bound."""
    table = Table(
        title="tuned on the first half, judged on the second",
        caption=_CAPTION,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for title in ("half", "policy", "objective"):
        table.add_column(title, justify="right" if title == "objective" else "left", no_wrap=True)
    for name, title in _TOLD.items():
        table.add_column(title, justify="right", no_wrap=True)
        if name in _TO_BOUND:
            table.add_column("/bound", justify="right", no_wrap=True)
    _rows(table, "first", space, judged.first, None)
    _rows(table, "second", space, judged.second, judged.bound_s)
    bound = {"load_s": judged.bound_s}
    table.add_row("second", "bound", "-", *_cells(bound, judged.bound_s))
    return table


def _rows(
    table: Table, half: str, space: Space, of: Mapping[str, Figures], bound_s: float | None
) -> None:
    for name, figures in of.items():
        table.add_row(half, name, number(space.score(figures)), *_cells(figures, bound_s))
    table.add_section()


def _cells(figures: Figures, bound_s: float | None) -> Sequence[str]:
    cells = []
    for name in _TOLD:
        cells.append(number(figures[name]) if name in figures else "-")
        if name in _TO_BOUND:
            told = bound_s and name in figures
            cells.append(f"{figures[name] / bound_s:.2f}" if bound_s and told else "-")
    return cells
