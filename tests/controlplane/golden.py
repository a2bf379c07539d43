"""Recorded autoscalers: what the real controller saw and decided, and the same decided by ours.

Owns the form of tests/golden/hpa. Knows nothing of how it was recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simulations.scaling.hpa import HPA, Behavior, HPASpec, PolicyType, Rules, ScalingPolicy, Select
from simulations.scaling.replicas import Answer, Kind, Metric, Observed, Phase, PodStatus, milli

FOLDER = Path(__file__).parent.parent / "golden" / "hpa"
GRID_S = 0.25
"""Times in a golden are rounded to this, so that recording anew changes nothing else."""

Json = Mapping[str, Any]


def written(hpa: Json, record: Sequence[Json], stabilization_s: float) -> str:
    """One step a line, for whoever reviews it."""
    rounded = [row | {"at_s": round(row["at_s"] / GRID_S) * GRID_S} for row in map(dict, record)]
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rounded)
    head = f'"hpa": {json.dumps(hpa, sort_keys=True)},\n"stabilization_s": {stabilization_s}'
    return f'{{{head},\n"steps": [\n{lines}\n]}}\n'


def decided(hpa: Json, record: Sequence[Json], stabilization_s: float) -> list[int]:
    """What our autoscaler decides at each step of `record`."""
    ours = HPA(spec(hpa, stabilization_s))
    return [ours.step(row["at_s"], observed(row)).replicas for row in record]


def observed(row: Json) -> Observed:
    return Observed(
        spec_replicas=row["replicas"],
        status_replicas=row["status_replicas"],
        pods=tuple(_pod(name, state) for name, state in row["pods"].items()),
        metrics=tuple(_answer(each) for each in row["metrics"]),
    )


def spec(hpa: Json, stabilization_s: float) -> HPASpec:
    behavior = hpa.get("behavior")
    return HPASpec(
        maximum=hpa["maxReplicas"],
        minimum=hpa["minReplicas"],
        metrics=tuple(_metric(each) for each in hpa["metrics"]),
        behavior=behavior and Behavior(_rules(behavior["scaleUp"]), _rules(behavior["scaleDown"])),
        downscale_stabilisation_s=stabilization_s,
    )


def _rules(rules: Json) -> Rules:
    tolerance = rules.get("tolerance")
    return Rules(
        tuple(
            ScalingPolicy(PolicyType(each["type"]), each["value"], each["periodSeconds"])
            for each in rules["policies"]
        ),
        Select(rules["selectPolicy"]),
        rules.get("stabilizationWindowSeconds"),
        None if tolerance is None else milli(str(tolerance)) / 1000,
    )


def _metric(metric: Json) -> Metric:
    target = metric[metric["type"].lower()]["target"]
    if metric["type"] == "Pods":
        return Metric(Kind.PODS, milli(target["averageValue"]))
    if target["type"] == "Value":
        return Metric(Kind.VALUE, milli(target["value"]))
    return Metric(Kind.AVERAGE_VALUE, milli(target["averageValue"]))


def _answer(answer: Any) -> Answer:
    if isinstance(answer, dict):
        return {name: milli(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [milli(value) for value in answer]
    return None if answer is None else milli(answer)


def _pod(name: str, state: str) -> PodStatus:
    phases = {"pending": Phase.PENDING, "failed": Phase.FAILED, "succeeded": Phase.SUCCEEDED}
    is_ready = state in ("ready", "missing", "leaving")
    return PodStatus(name, phases.get(state, Phase.RUNNING), is_ready, state == "leaving")
