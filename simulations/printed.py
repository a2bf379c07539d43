"""What `remora simulate` prints of a scenario: its figures, its expectations, its contrasts.

Owns those tables and their form as JSON.
"""

import json
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from simulations import trial
from simulations.comparison import table
from simulations.comparison.figures import figures
from simulations.outcome import Outcome
from simulations.scenario import Scenario


def as_table(scenario: Scenario, outcome: Outcome, bound_s: float | None) -> Table:
    found = Table(title=f"{scenario.name}: {outcome.policy}", title_justify="left")
    found.add_column("figure")
    found.add_column("value", justify="right")
    for name, value in figures(outcome, bound_s).items():
        found.add_row(name, table.number(value))
    return found


def as_expectations(verdicts: Sequence[trial.Verdict]) -> Table:
    found = Table(title="expectations", title_justify="left")
    for title in ("", "figure", "value", "expected", "why"):
        found.add_column(title, justify="right" if title == "value" else "left")
    for verdict in verdicts:
        found.add_row(
            "[green]holds[/]" if verdict.holds else "[red]FAILS[/]",
            verdict.figure,
            table.number(verdict.value),
            str(verdict.expected),
            escape(verdict.expected.why),
        )
    return found


def as_contrasts(scenario: Scenario, outcome: Outcome) -> Table:
    found = Table(title="with other values of its knobs", title_justify="left")
    for title in ("knob", "value", "figure", "here", "with it", "why"):
        # A knob that is cut is none that could be turned.
        found.add_column(
            title, justify="right" if title in ("here", "with it") else "left", overflow="fold"
        )
    here = figures(outcome)
    for contrast in scenario.contrasts:
        other = figures(trial.run(trial.contrasted(scenario, contrast)))
        found.add_row(
            contrast.knob,
            _written(contrast.value),
            contrast.figure,
            table.number(here[contrast.figure]),
            table.number(other[contrast.figure]),
            escape(contrast.why),
        )
    return found


def _written(value: Any) -> str:
    return escape(value if isinstance(value, str) else json.dumps(value, default=str))


def as_json(
    scenario: Scenario, outcome: Outcome, bound_s: float | None, verdicts: Sequence[trial.Verdict]
) -> str:
    values = {
        "scenario": scenario.name,
        "policy": outcome.policy,
        "budget_bytes": outcome.budget_bytes,
        "figures": figures(outcome, bound_s),
        "notes": dict(outcome.notes),
        "expectations": {verdict.figure: verdict.holds for verdict in verdicts},
    }
    return json.dumps(values, indent=2, allow_nan=False)
