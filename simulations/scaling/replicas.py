"""How many replicas one metric asks for, as kube-controller-manager 1.34 reckons.

Owns the arithmetic of ratios: whole thousandths, means rounded down, replicas rounded up, and
what is assumed of pods that are not ready or told nothing. Refuses to know limits, windows and
what was recommended before (`simulations.scaling.hpa`).

What the controller does that one might not expect, kept as it is: for a metric of type Pods a
Running pod counts whether it is Ready or not, and so does the value of a pod that it does not
list at all.
"""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal, InvalidOperation
from enum import StrEnum

Answer = Mapping[str, int] | Sequence[int] | int | None
"""What the metrics API answered, in thousandths: by pod for a metric of type Pods, one value for
an Object, the values of all items for an External one; None for an error. No items at all are an
error as well."""


class Phase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class PodStatus:
    """What the controller sees of one pod. is_leaving: it has a deletion timestamp."""

    name: str
    phase: Phase = Phase.RUNNING
    is_ready: bool = True
    is_leaving: bool = False


class Kind(StrEnum):
    """A metric's type and its target's. Object and External metrics are reckoned alike."""

    PODS = "pods"
    VALUE = "value"
    AVERAGE_VALUE = "average-value"


@dataclass(frozen=True, slots=True)
class Metric:
    """target_milli: the target in thousandths, above 0."""

    kind: Kind
    target_milli: int


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a ratio may be from 1, downwards and upwards, without anything coming of it."""

    down: float = 0.1
    up: float = 0.1

    def has(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Observed:
    """What the controller sees at one step.

    spec_replicas: what the Deployment is told to have; status_replicas: pods that it says it has.
    metrics: the answer for each metric of the HPA, in its order.
    """

    spec_replicas: int
    status_replicas: int
    pods: Sequence[PodStatus]
    metrics: Sequence[Answer]


_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12}


def milli(quantity: str) -> int:
    """A Kubernetes quantity such as ``600m``, ``0.7`` or ``2k`` in thousandths, rounded up.

    Raises ValueError: no quantity, or one below zero.
    """
    digits = quantity.rstrip("numkMGT")
    try:
        power = _SUFFIXES[quantity[len(digits) :]]
        value = Decimal(digits).scaleb(power + 3)
    except (KeyError, InvalidOperation):
        raise ValueError(f"{quantity!r} is no quantity; allowed: as 600m, 0.7, 2 or 1e3") from None
    if not value.is_finite() or value < 0:
        raise ValueError(f"{quantity!r} is no quantity of 0 or more")
    return int(value.to_integral_value(ROUND_UP))


def replicas(metric: Metric, observed: Observed, answer: Answer, within: Tolerance) -> int | None:
    """How many ``metric`` asks for; None where that cannot be told."""
    if answer is None:
        return None
    if metric.kind is Kind.PODS:
        assert isinstance(answer, Mapping), "a metric of type Pods has a value for each pod"
        return _by_pods(metric.target_milli, observed, answer, within)
    assert not isinstance(answer, Mapping), "only a metric of type Pods has a value for each pod"
    if isinstance(answer, Sequence):
        if not answer:
            return None
        answer = sum(answer)
    if metric.kind is Kind.AVERAGE_VALUE:
        return _by_average(metric.target_milli, observed.status_replicas, answer, within)
    return _by_value(answer / metric.target_milli, observed, within)


def _by_value(ratio: float, observed: Observed, within: Tolerance) -> int | None:
    if observed.spec_replicas == 0:
        return math.ceil(ratio)
    if within.has(ratio):
        return observed.spec_replicas
    if not observed.pods:
        return None
    ready = sum(pod.phase is Phase.RUNNING and pod.is_ready for pod in observed.pods)
    return math.ceil(ratio * ready)


def _by_average(target_milli: int, status_replicas: int, usage: int, within: Tolerance) -> int:
    if status_replicas and within.has(usage / (float(target_milli) * status_replicas)):
        return status_replicas
    return math.ceil(usage / target_milli)


def _by_pods(
    target_milli: int, observed: Observed, answer: Mapping[str, int], within: Tolerance
) -> int | None:
    if not answer or not observed.pods:
        return None
    groups = _grouped(observed.pods, answer)
    left_out = groups.ignored | groups.unready
    values = {name: value for name, value in answer.items() if name not in left_out}
    if not values:
        return None
    now, ratio = observed.spec_replicas, _ratio(values, target_milli)
    would_grow = ratio > 1.0
    if not groups.missing and not (groups.unready and would_grow):
        return now if within.has(ratio) else math.ceil(ratio * groups.ready)
    # Of pods that told nothing the mildest is assumed: that they would not change the direction.
    if ratio != 1.0:
        values |= dict.fromkeys(groups.missing, 0 if would_grow else target_milli)
    if would_grow:
        values |= dict.fromkeys(groups.unready, 0)
    return _mildly(now, ratio, _ratio(values, target_milli), len(values), within)


def _mildly(now: int, ratio: float, milder: float, pods: int, within: Tolerance) -> int:
    """By the ratio with assumptions in it, unless it tells another direction than without."""
    turned = (ratio < 1.0 < milder) or (milder < 1.0 < ratio)
    if within.has(milder) or turned:
        return now
    found = math.ceil(milder * pods)
    away = (milder < 1.0 and found > now) or (milder > 1.0 and found < now)
    return now if away else found


def _ratio(values: Mapping[str, int], target_milli: int) -> float:
    return (sum(values.values()) // len(values)) / target_milli


@dataclass(frozen=True, slots=True)
class _Groups:
    """ready: how many are neither of the others."""

    ready: int
    unready: Set[str]
    missing: Set[str]
    ignored: Set[str]


def _grouped(pods: Sequence[PodStatus], answer: Mapping[str, int]) -> _Groups:
    ready, unready, missing, ignored = 0, set(), set(), set()
    for pod in pods:
        if pod.is_leaving or pod.phase is Phase.FAILED:
            ignored.add(pod.name)
        elif pod.phase is Phase.PENDING:
            unready.add(pod.name)
        elif pod.name not in answer:
            missing.add(pod.name)
        else:
            ready += 1
    return _Groups(ready, unready, missing, ignored)
