"""The table in the terminal, in Markdown, and the figures as JSON."""

import io
import json

import pytest
from rich.console import Console

from simulations.comparison import table
from simulations.comparison.figures import FIGURES, figures
from tests.simulations.comparison.played import QUARTER, comparison, outcome


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (1.5, "1.5"),
        (12.34, "12.3"),
        (40.0, "40"),
        (123.4, "123"),
        (1234567.0, "1,234,567"),
    ],
)
def test_a_number_is_written_as_short_as_it_may_be(value: float, written: str) -> None:
    assert table.number(value) == written


def test_each_policy_has_a_row_for_each_budget() -> None:
    rows = [line for line in table.markdown([comparison()]).splitlines() if "| played |" in line]
    assert len(rows) == 6
    assert rows[1].startswith("| played | 25% | lru | 330 | 3.30 | 342 | 3.42 | 0 | 2.5 | 2 |")


def test_bold_is_the_best_of_those_that_fail_nobody() -> None:
    said = table.markdown([comparison()])
    assert said.count("**ours**") == 2
    assert "**refusing**" not in said


def test_without_a_bound_there_is_no_ratio() -> None:
    assert "| 25% | **ours** | 165 | - | 177 | - |" in table.markdown([comparison(bound=False)])


def test_the_terminal_shows_the_same_figures() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table.for_terminal(comparison()))
    said = console.export_text()
    assert "refusing" in said
    assert "330" in said


def test_json_holds_every_figure_of_every_policy() -> None:
    found = json.loads(comparison().as_json())
    policies = found["budgets"][0]["policies"]
    assert list(policies) == ["ours", "lru", "refusing"]
    assert set(policies["ours"]) == {*FIGURES, "cold_to_bound", "load_to_bound"}
    assert policies["ours"]["cold_to_bound"] == 1.65


def test_loads_and_visible_seconds_stay_apart() -> None:
    found = figures(outcome("any", QUARTER, cold_s=10.0), 20.0)
    assert (found["visible_cold_s"], found["load_s"]) == (10, 22)
    assert (found["cold_to_bound"], found["load_to_bound"]) == (0.5, 1.1)
