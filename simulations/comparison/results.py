"""What a comparison found, in one order: budgets as asked, and policies as asked within each.

Owns that shape and its form as JSON. Refuses to know how outcomes came about.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from simulations.comparison.figures import figures
from simulations.outcome import Outcome
from simulations.residency.named import FORESEEING


@dataclass(frozen=True, slots=True)
class Budget:
    """share: of the size of all models together. bound_s: no policy loads for fewer seconds;
    None where nobody asked for the bound."""

    share: float
    budget_bytes: int
    bound_s: float | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One policy on one budget."""

    policy: str
    budget: Budget
    outcome: Outcome = field(repr=False)

    @property
    def figures(self) -> dict[str, float]:
        return figures(self.outcome, self.budget.bound_s)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several policies on one scenario's workload.

    about: what the scenario says of itself. total_bytes: the size of all models together.
    """

    scenario: str
    about: str
    total_bytes: int
    budgets: tuple[Budget, ...]
    policies: tuple[str, ...]
    entries: tuple[Entry, ...]

    def on(self, budget: Budget) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry.budget == budget)

    def of(self, policy: str) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry.policy == policy)

    def best(self, budget: Budget) -> str:
        """The policy with the fewest visible cold seconds of those that fail the fewest requests
        and do not know the future."""
        entries = [e for e in self.on(budget) if e.policy not in FORESEEING] or [*self.on(budget)]
        return min(entries, key=lambda e: (e.outcome.failed, e.outcome.visible_cold_s)).policy

    def as_json(self) -> str:
        """The same bytes for the same outcomes."""
        return json.dumps(self.as_values(), indent=2, allow_nan=False) + "\n"

    def as_values(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "total_bytes": self.total_bytes,
            "budgets": [
                {
                    "share": budget.share,
                    "budget_bytes": budget.budget_bytes,
                    "bound_s": budget.bound_s,
                    "policies": {entry.policy: entry.figures for entry in self.on(budget)},
                }
                for budget in self.budgets
            ],
        }
