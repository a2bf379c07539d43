"""The figures by which outcomes are compared, by the names that scenarios and tables use.

Owns what each figure is called and how it is read from an outcome. Knows nothing of what is a
good value for one.
"""

from collections.abc import Callable, Mapping

from simulations.outcome import Outcome

FIGURES: Mapping[str, Callable[[Outcome], float]] = {
    "requests": lambda outcome: outcome.requests,
    "cold_requests": lambda outcome: outcome.cold_requests,
    "cold_starts": lambda outcome: outcome.cold_starts,
    "visible_cold_s": lambda outcome: outcome.visible_cold_s,
    "load_s": lambda outcome: outcome.load_s,
    "loads": lambda outcome: outcome.loads,
    "prewarms": lambda outcome: outcome.prewarms,
    "used_prewarms": lambda outcome: outcome.used_prewarms,
    "evictions": lambda outcome: outcome.evictions,
    "churn_per_hour": lambda outcome: outcome.churn_per_hour,
    "failed": lambda outcome: outcome.failed,
    "p50_s": lambda outcome: outcome.wait_quantile_s(0.5),
    "p95_s": lambda outcome: outcome.wait_quantile_s(0.95),
    "p99_s": lambda outcome: outcome.wait_quantile_s(0.99),
    "peak_bytes": lambda outcome: float(outcome.memory_bytes.max(initial=0.0)),
}

TO_BOUND: Mapping[str, Callable[[Outcome], float]] = {
    "cold_to_bound": lambda outcome: outcome.visible_cold_s,
    "load_to_bound": lambda outcome: outcome.load_s,
}
"""Seconds that are told as a multiple of the lower bound on the seconds of loading."""


def figures(outcome: Outcome, bound_s: float | None = None) -> dict[str, float]:
    """All figures of ``outcome``; those in relation to the bound only where there is one."""
    found = {name: float(read(outcome)) for name, read in FIGURES.items()}
    if bound_s is not None and bound_s > 0:
        found |= {name: read(outcome) / bound_s for name, read in TO_BOUND.items()}
    return found
