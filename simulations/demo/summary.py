"""What the demo came to, beside the best that a set which never changes could have done."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from simulations.static import best_static_set
from simulations.testbed.traffic import Outcome


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen.

    size_bytes: true sizes of the models. peak_reserved_bytes: the most the sidecar had
    promised. peak_measured_bytes: the most Triton's model processes really took.
    metrics: the sidecar's metrics page at the end.
    """

    outcomes: Sequence[Outcome]
    size_bytes: Mapping[str, int]
    budget_bytes: int
    peak_reserved_bytes: int
    peak_measured_bytes: int
    metrics: str
    directory: Path


def summary(facts: Facts) -> str:
    """The facts as text."""
    outcomes = facts.outcomes
    served = [outcome for outcome in outcomes if outcome.served]
    warm = sorted(outcome.latency_s for outcome in served if not outcome.cold)
    cold = sorted(outcome.latency_s for outcome in served if outcome.cold)
    requests = Counter(outcome.arrival.model for outcome in outcomes)
    static = best_static_set(requests, facts.size_bytes, facts.budget_bytes)
    static_served = sum(requests[name] for name in static)
    total = sum(facts.size_bytes.values())
    actions = _actions(facts.metrics)
    return "\n".join(
        [
            "",
            f"{len(facts.size_bytes)} models of {_mib(total)} MiB together, "
            f"in a budget of {_mib(facts.budget_bytes)} MiB",
            f"  with Remora        {_share(len(served), len(outcomes))} of requests served; "
            f"{len(cold)} of them waited for a load",
            f"  best static set    {_share(static_served, len(outcomes))} could have been served "
            f"({', '.join(sorted(static))}), chosen knowing the traffic",
            f"  latency, warm      {_quantiles(warm)}",
            f"  latency, cold      {_quantiles(cold)}",
            f"  decisions          {actions['load']:.0f} loads, {actions['unload']:.0f} unloads",
            f"  memory             at most {_mib(facts.peak_reserved_bytes)} MiB reserved, "
            f"{_mib(facts.peak_measured_bytes)} MiB measured in Triton's model processes",
            f"  journal            {facts.directory / 'state' / 'journal'} "
            "(try: remora replay on it)",
        ]
    )


def _actions(metrics: str) -> Counter[str]:
    counted: Counter[str] = Counter()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == "remora_actions_total":
                counted[sample.labels["action"]] += int(sample.value)
    return counted


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / max(1, whole):.1f} %)"


def _quantiles(latencies_s: Sequence[float]) -> str:
    if not latencies_s:
        return "none"
    at = {q: latencies_s[min(len(latencies_s) - 1, int(q * len(latencies_s)))] for q in _QUANTILES}
    return ", ".join(f"p{100 * q:.0f} {1000 * value:.0f} ms" for q, value in at.items())


_QUANTILES = (0.5, 0.95, 0.99)


def _mib(amount_bytes: int) -> str:
    return f"{amount_bytes / 2**20:.0f}"
