"""Outcomes made by hand, so that what a report says of them is known beforehand."""

import numpy as np

from simulations.comparison.results import Budget, Comparison, Entry
from simulations.outcome import Outcome, Stay

GIB = 2**30
QUARTER = Budget(0.25, 10 * GIB, bound_s=100.0)
HALF = Budget(0.5, 20 * GIB, bound_s=50.0)


def outcome(policy: str, budget: Budget, cold_s: float, failed: float = 0.0) -> Outcome:
    """An hour of 100 requests, of which ten waited, and one model that left half-way."""
    return Outcome(
        policy=policy,
        budget_bytes=budget.budget_bytes,
        duration_s=3600.0,
        requests=100.0,
        cold_requests=10.0,
        cold_starts=5,
        visible_cold_s=cold_s,
        load_s=cold_s + 12,
        loads=6,
        prewarms=1,
        used_prewarms=1,
        evictions=2,
        failed=failed,
        wait_s=np.array([0.0, 2.5]),
        wait_weight=np.array([90.0, 10.0]),
        memory_s=np.array([0.0, 60.0, 1800.0]),
        memory_bytes=np.array([0.0, 8.0, 4.0]) * GIB,
        stays=(
            Stay("model-<a>", 0.0, 10.0, 1800.0),
            Stay("model-b", 60.0, 70.0, 3600.0),
        ),
    )


def comparison(bound: bool = True) -> Comparison:
    budgets = (QUARTER, HALF) if bound else (Budget(0.25, 10 * GIB), Budget(0.5, 20 * GIB))
    entries = [
        Entry(policy, budget, outcome(policy, budget, cold_s * (2 - 2 * budget.share), failed))
        for budget in budgets
        for policy, cold_s, failed in (("ours", 110.0, 0), ("lru", 220.0, 0), ("refusing", 9.0, 7))
    ]
    return Comparison(
        scenario="played",
        about="Made by hand & <by heart>.",
        total_bytes=40 * GIB,
        budgets=budgets,
        policies=("ours", "lru", "refusing"),
        entries=tuple(entries),
    )
