"""What the demo came to, beside the best that a set which never changes could have done."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from simulations.demo.chaos import Kill, Verdict, was_inside
from simulations.static import best_static_set
from simulations.testbed.traffic import Outcome

QUANTILES = (0.5, 0.95, 0.99)
MOST_LISTED = 20


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen.

    size_bytes: true sizes of the models. peak_reserved_bytes: the most the sidecar had
    promised. peak_measured_bytes: the most Triton's model processes really took.
    metrics: the sidecar's metrics page at the end of each of its lives.
    """

    outcomes: Sequence[Outcome]
    kills: Sequence[Kill]
    size_bytes: Mapping[str, int]
    budget_bytes: int
    peak_reserved_bytes: int
    peak_measured_bytes: int
    metrics: Sequence[str]
    directory: Path


def summary(facts: Facts, verdict: Verdict) -> str:
    """The facts as text."""
    outcomes = facts.outcomes
    served = sum(outcome.served for outcome in outcomes)
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
            f"  with Remora        {_share(served, len(outcomes))} of requests served",
            f"  best static set    {_share(static_served, len(outcomes))} could have been served "
            f"({', '.join(sorted(static))}), chosen knowing the traffic",
            f"  decisions          {actions['load']:.0f} loads, {actions['unload']:.0f} unloads",
            f"  memory             at most {_mib(facts.peak_reserved_bytes)} MiB reserved, "
            f"{_mib(facts.peak_measured_bytes)} MiB measured in Triton's model processes",
            f"  journal            {facts.directory / 'state' / 'journal'} "
            "(try: remora replay on it)",
            "",
            *_by_protocol(outcomes),
            "",
            *_failures(verdict, facts.kills),
        ]
    )


def _by_protocol(outcomes: Sequence[Outcome]) -> list[str]:
    """A line each, and one for all. Cold are those that waited for a load at the door."""
    names = " / ".join(f"p{100 * quantile:.0f}" for quantile in QUANTILES)
    heading = _columns("protocol", "served", "failed", "cold", f"warm {names} ms", "cold, the same")
    protocols = sorted({outcome.arrival.protocol for outcome in outcomes})
    rows = [
        _row(name, [outcome for outcome in outcomes if outcome.arrival.protocol == name])
        for name in protocols
    ]
    return [heading, *rows, _row("all", outcomes)]


def _row(name: str, outcomes: Sequence[Outcome]) -> str:
    served = [outcome for outcome in outcomes if outcome.served]
    told = [outcome for outcome in served if outcome.cold is not None]
    columns = (name, str(len(served)), str(len(outcomes) - len(served)))
    if served and not told:
        return _columns(*columns, "?", _quantiles(served), "(warm and cold are not told apart)")
    cold = [outcome for outcome in told if outcome.cold]
    warm = [outcome for outcome in told if not outcome.cold]
    return _columns(*columns, str(len(cold)), _quantiles(warm), _quantiles(cold))


def _columns(name: str, served: str, failed: str, cold: str, warm: str, waited: str) -> str:
    return f"  {name:<17}{served:>7}{failed:>7}{cold:>6}   {warm:<25}{waited}"


def _failures(verdict: Verdict, kills: Sequence[Kill]) -> list[str]:
    executing = len(verdict.executing)
    failed = executing + len(verdict.others)
    if not kills:
        return [f"{failed} failed", *_listed(verdict.others)]
    return [
        f"{failed} failed, of which {executing} were executing inside a killed process",
        *(_cost(kill, verdict.executing) for kill in kills),
        *_listed(verdict.others),
    ]


def _cost(kill: Kill, executing: Iterable[Outcome]) -> str:
    inside = Counter(each.arrival.protocol for each in executing if was_inside(each, kill))
    what = ", ".join(f"{count} {protocol}" for protocol, count in sorted(inside.items()))
    return f"  {kill.victim} killed at {kill.began_s:.1f} s: {what or 'none'}"


def _listed(failed: Iterable[Outcome]) -> list[str]:
    lines = [
        f"  {each.began_s:6.1f} s to {each.ended_s:6.1f} s  {each.arrival.protocol}"
        f"  {_asked(each)}  {each.error}"
        for each in sorted(failed, key=lambda each: each.began_s)
    ]
    grouped = Counter(
        f"{each.arrival.protocol}: {(each.error or '').replace(each.arrival.model, 'MODEL')}"
        for each in failed
    )
    return [
        *(f"  {count} × {what}" for what, count in grouped.most_common()),
        *lines[:MOST_LISTED],
        *([f"  and {len(lines) - MOST_LISTED} more"] if len(lines) > MOST_LISTED else []),
    ]


def _asked(outcome: Outcome) -> str:
    version = outcome.arrival.version
    return f"{outcome.arrival.model} version {version}" if version else outcome.arrival.model


def _actions(pages: Iterable[str]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for page in pages:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == "remora_actions_total":
                    counted[sample.labels["action"]] += int(sample.value)
    return counted


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / max(1, whole):.1f} %)"


def _quantiles(outcomes: Iterable[Outcome]) -> str:
    ordered = sorted(outcome.latency_s for outcome in outcomes)
    if not ordered:
        return "none"
    at_s = [ordered[min(len(ordered) - 1, int(each * len(ordered)))] for each in QUANTILES]
    return " / ".join(f"{1000 * each:.0f}" for each in at_s)


def _mib(amount_bytes: int) -> str:
    return f"{amount_bytes / 2**20:.0f}"
