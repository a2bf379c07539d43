"""What a search found, as a policy file and as a table.

Owns the file's header and the table. The file is the policy as it was written, with the values
that were found in place of its own; `remora check` reads it.
"""

import yaml
from rich.table import Table

from simulations.comparison.table import number
from simulations.decider import laid_over
from simulations.scenario import Scenario
from simulations.tuning.search import Figures, Tuned
from simulations.tuning.space import Space

_TOLD = ("visible_cold_s", "load_s", "cold_starts", "p99_s", "churn_per_hour", "failed")


def policy_file(scenario: Scenario, space: Space, tuned: Tuned, seed: int) -> str:
    header = "\n".join(f"# {line}".rstrip() for line in _header(scenario, space, tuned, seed))
    written = laid_over(scenario.decider.written, tuned.values)
    return f"{header}\n{yaml.safe_dump(written, sort_keys=False, allow_unicode=True)}"


def _header(scenario: Scenario, space: Space, tuned: Tuned, seed: int) -> list[str]:
    objective = " + ".join(f"{cost:g} × {name}" for name, cost in space.objective.items())
    lines = [
        f"Found by `remora tune` on the first half of the traffic of the scenario {scenario.name},",
        f"in {tuned.runs} runs with seed {seed}. Searched were",
        *(f"  {key}" for key in space.knobs),
        f"for the least {objective}.",
    ]
    if not tuned.values:
        lines.append("Nothing better was found: this is the policy as it was.")
    lines += ["On the second half, which the search did not see, before and after:"]
    for name in _TOLD:
        before, after = tuned.before_second[name], tuned.after_second[name]
        lines.append(f"  {name}: {number(before)} and {number(after)}")
    return lines


def as_table(space: Space, tuned: Tuned) -> Table:
    """Both halves, before and after; what is searched for stands in the first row."""
    table = Table(title="tuned on the first half, judged on the second", title_justify="left")
    table.add_column("figure")
    for title in ("first: before", "after", "second: before", "after", "change"):
        table.add_column(title, justify="right")
    sides = (tuned.before_first, tuned.after_first, tuned.before_second, tuned.after_second)
    _row(table, "objective", *(space.score(side) for side in sides))
    for name in _TOLD:
        _row(table, name, *(_of(side, name) for side in sides))
    return table


def _of(figures: Figures, name: str) -> float:
    return figures[name]


def _row(
    table: Table,
    name: str,
    before_first: float,
    after_first: float,
    before_second: float,
    after_second: float,
) -> None:
    change = f"{after_second / before_second - 1:+.0%}" if before_second else "-"
    values = (before_first, after_first, before_second, after_second)
    table.add_row(name, *(number(value) for value in values), change)
