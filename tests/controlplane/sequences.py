"""What the autoscaler is shown, step by step: scripts for a world that holds still in between.

Owns the scripts. Knows nothing of how they are played, nor of what should be decided: the real
controller says that. Steps are STEP_S apart, so windows and periods of 2, 4, 5 and 7 s end well
between two steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STEP_S = 1.5
DOWNSCALE_STABILIZATION_S = 5.0
TARGET_MILLI = 700

Value = int | str
"""Thousandths, or a quantity as it goes over the wire."""
Told = Value | Sequence[Value] | Mapping[str, Value] | None
"""One metric's answer: what every pod has, or each pod in turn, or by name; or an object's value,
or an external metric's items. None is an error."""
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """What is seen at one synchronisation.

    told: the first metric's answer; others: those of the metrics after it.
    pods: how many there are; None is as many as the target asks for. Of the last among them so
        many are, in this order from the end, leaving, failed, succeeded, pending, missing (without
        a value) and unready (running).
    status: the target's status.replicas; None is the number of pods.
    then: to how many somebody else scales the target right afterwards.
    """

    told: Told
    others: tuple[Told, ...] = ()
    pods: int | None = None
    leaving: int = 0
    failed: int = 0
    succeeded: int = 0
    pending: int = 0
    missing: int = 0
    unready: int = 0
    status: int | None = None
    then: int | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """An autoscaler, and the steps that it is led through. behavior: None leaves it out."""

    name: str
    start: int
    steps: tuple[Step, ...]
    minimum: int = 1
    maximum: int = 50
    metrics: tuple[Json, ...] = ()
    behavior: Json | None = None


def pods(target: str = f"{TARGET_MILLI}m") -> Json:
    return {
        "type": "Pods",
        "pods": {
            "metric": {"name": "first"},
            "target": {"type": "AverageValue", "averageValue": target},
        },
    }


def thing(type_: str, target: str, name: str = "first") -> Json:
    described = {"apiVersion": "v1", "kind": "Service", "name": "thing"}
    return {
        "type": "Object",
        "object": {
            "metric": {"name": name},
            "describedObject": described,
            "target": {"type": type_, _field(type_): target},
        },
    }


def external(type_: str, target: str, name: str = "first") -> Json:
    return {
        "type": "External",
        "external": {
            "metric": {"name": name},
            "target": {"type": type_, _field(type_): target},
        },
    }


def _field(type_: str) -> str:
    return type_[0].lower() + type_[1:]


def policies(*limits: tuple[str, int, int], **more: Any) -> Json:
    """One direction of `behavior`: (type, value, period) each."""
    rows = [{"type": type_, "value": value, "periodSeconds": s} for type_, value, s in limits]
    return {"policies": rows, **more} if rows else more


def steps(*told: Told, **more: Any) -> tuple[Step, ...]:
    """One step for each answer, otherwise alike."""
    return tuple(Step(each, **more) for each in told)


AT_ONCE: Json = {"scaleDown": {"stabilizationWindowSeconds": 0}}
FREE = policies(("Percent", 1000, 2), ("Pods", 100, 2), stabilizationWindowSeconds=0)

UNBOUND: Json = {"scaleUp": FREE, "scaleDown": FREE}
"""Every decision is done as it is made."""

SCRIPTS = (
    # --- the ratio and its tolerance ---
    Script("steady", 3, steps(700, 701, 699, 700), behavior=UNBOUND),
    Script("tolerance-up", 10, steps(1099, 1100, 1101), metrics=(pods("1"),), behavior=UNBOUND),
    Script("tolerance-down", 10, steps(901, 900, 899), metrics=(pods("1"),), behavior=UNBOUND),
    Script("tolerance-of-ours", 10, steps(769, 770, 630, 629, 771), behavior=UNBOUND),
    Script(
        "mean-is-rounded-down",
        3,
        steps([1101, 1100, 1101], [1101] * 3),
        metrics=(pods("1"),),
        behavior=UNBOUND,
    ),
    Script(
        "quantities",
        2,
        steps("1.0995", "1100001u", "1e3m", "2k"),
        metrics=(pods("1"),),
        behavior=UNBOUND,
    ),
    Script(
        "tolerance-by-direction",
        10,
        steps(1250, 1251, 970, 950, 900, 1100),
        metrics=(pods("1"),),
        behavior={
            "scaleUp": {"tolerance": "0.25"},
            "scaleDown": {"tolerance": "0.05", "stabilizationWindowSeconds": 0},
        },
    ),
    Script(
        "no-tolerance-at-all",
        10,
        steps(1001, 999, 900, 1000),
        metrics=(pods("1"),),
        behavior={
            "scaleUp": {"tolerance": "0"},
            "scaleDown": {"tolerance": "0", "stabilizationWindowSeconds": 0},
        },
    ),
    # --- pods that say nothing, or do not count ---
    Script(
        "missing-while-busy", 4, (*steps(1400, missing=1), *steps(900, missing=2)), behavior=UNBOUND
    ),
    Script(
        "missing-while-idle",
        6,
        (*steps(100, missing=2), *steps(0, missing=1), *steps(0)),
        behavior=UNBOUND,
    ),
    Script(
        "missing-at-the-target",
        4,
        (*steps(700, missing=1), *steps(700, missing=3)),
        behavior=UNBOUND,
    ),
    Script(
        "missing-turns-the-direction",
        4,
        (*steps(900, missing=3), *steps(780, missing=1)),
        behavior=UNBOUND,
    ),
    Script(
        "missing-without-tolerance",
        4,
        (
            *steps(720, missing=1),
            *steps(690, missing=1),
            *steps(720, pending=1),
            *steps(690, pending=1),
            *steps(980, missing=1),
        ),
        behavior={
            "scaleUp": {"tolerance": "0"},
            "scaleDown": {"tolerance": "0", "stabilizationWindowSeconds": 0},
        },
    ),
    Script("missing-and-fewer-than-asked-for", 6, steps(1400, pods=3, missing=1), behavior=UNBOUND),
    Script("missing-and-more-than-asked-for", 3, steps(300, pods=9, missing=3), behavior=UNBOUND),
    Script("all-missing", 3, (*steps(1400, missing=3), *steps(1400)), behavior=UNBOUND),
    Script(
        "pending-while-busy",
        4,
        (*steps(1400, pending=2), *steps(1000, pending=2, pods=6)),
        behavior=UNBOUND,
    ),
    Script(
        "pending-while-idle",
        6,
        (*steps(100, pending=2), *steps(600, pending=3, pods=6)),
        behavior=UNBOUND,
    ),
    Script(
        "pending-and-missing",
        6,
        (*steps(2100, pending=2, missing=1), *steps(2100)),
        behavior=UNBOUND,
    ),
    Script("all-pending", 3, (*steps(1400, pending=3), *steps(1400, pending=2)), behavior=UNBOUND),
    Script(
        "running-but-not-ready",
        4,
        (*steps(1400, unready=2), *steps(300, unready=4)),
        behavior=UNBOUND,
    ),
    Script(
        "leaving",
        4,
        (*steps(1000, leaving=2), *steps(1000, leaving=1, pods=7), *steps(200, leaving=2)),
        behavior=UNBOUND,
    ),
    Script("failed", 4, (*steps(1000, failed=1), *steps(1000, failed=3, pods=6)), behavior=UNBOUND),
    Script(
        "succeeded",
        4,
        (*steps(1000, succeeded=1), *steps(1000, succeeded=1, missing=1)),
        behavior=UNBOUND,
    ),
    Script("no-pods", 3, (*steps(1400, pods=0, status=3), *steps(1400)), behavior=UNBOUND),
    Script(
        "values-of-strangers",
        2,
        steps({"p00": 700, "p01": 700, "gone": 7000}, 700),
        behavior=UNBOUND,
    ),
    Script(
        "surge-of-a-rollout",
        4,
        (*steps(560, pods=5), *steps(900, pods=5), *steps(560, pods=7)),
        behavior=UNBOUND,
    ),
    Script(
        "hot-and-idle",
        4,
        steps([2800, 0, 0, 0], [3080, 0, 0, 0], [3084, 0, 0, 0]),
        behavior=UNBOUND,
    ),
    # --- errors ---
    Script("errors-freeze", 3, steps(None, [], 1400, None, 0, None), behavior=AT_ONCE),
    Script(
        "two-metrics",
        4,
        (
            Step(700, (2800,)),
            Step(1050, (700,)),
            Step(100, (100,)),
        ),
        metrics=(pods(), external("AverageValue", "700m", "second")),
        behavior=AT_ONCE,
    ),
    Script(
        "one-metric-of-two-fails",
        4,
        (Step(100, (None,)), Step(None, (100,)), Step(1050, (None,)), Step(None, (8400,))),
        metrics=(pods(), external("AverageValue", "700m", "second")),
        behavior=AT_ONCE,
    ),
    Script(
        "one-metric-of-three-fails",
        4,
        (Step(1050, ([2100], None)), Step(350, ([5000], None)), Step(350, ([1400], None))),
        metrics=(
            pods(),
            external("AverageValue", "700m", "second"),
            external("AverageValue", "700m", "third"),
        ),
        behavior=AT_ONCE,
    ),
    # --- without `behavior` ---
    Script("at-most-doubled", 2, steps(7000, 7000, 7000, 7000, 700)),
    Script("from-one-to-four", 1, steps(7000, 7000)),
    Script("window-of-the-controller", 8, steps(700, 350, 500, 350, 350, 350, 350, 350)),
    # --- minimum, maximum, zero ---
    Script(
        "maximum-and-back",
        2,
        steps(2800, 2800, 2800, 700, 70, 70, 70, 70, 70),
        minimum=2,
        maximum=8,
        behavior={"scaleDown": {"stabilizationWindowSeconds": 4}},
    ),
    Script(
        "scaled-by-hand",
        4,
        (Step(700, then=12), Step(700, then=1), Step(700, then=6), Step(700)),
        minimum=2,
        maximum=8,
    ),
    Script("disabled-at-zero", 3, (Step(700), Step(700, then=0))),
    Script(
        "from-zero-and-back",
        1,
        steps([0], [0], [650], [0], [2100], [0]),
        minimum=0,
        metrics=(external("AverageValue", "700m"),),
        behavior=AT_ONCE,
    ),
    Script(
        "from-zero-by-value",
        0,
        steps([0], [300], [0], [2500]),
        minimum=0,
        metrics=(external("Value", "1"),),
        behavior=AT_ONCE,
    ),
    # --- behavior: rates ---
    Script(
        "up-by-pods",
        2,
        steps(*[2800] * 9),
        behavior={"scaleUp": policies(("Pods", 1, 4))},
    ),
    Script(
        "up-by-percent",
        3,
        steps(*[2800] * 8),
        behavior={"scaleUp": policies(("Percent", 10, 4))},
    ),
    Script(
        "up-by-the-greatest",
        3,
        steps(*[2800] * 8),
        behavior={"scaleUp": policies(("Pods", 2, 4), ("Percent", 50, 4), selectPolicy="Max")},
    ),
    Script(
        "up-by-the-least",
        3,
        steps(*[2800] * 8),
        behavior={"scaleUp": policies(("Pods", 3, 4), ("Percent", 50, 2), selectPolicy="Min")},
    ),
    Script(
        "up-never",
        3,
        (*steps(2800, 2800), *steps(70, 2800)),
        behavior={**AT_ONCE, "scaleUp": policies(selectPolicy="Disabled")},
    ),
    Script("up-by-default", 2, steps(*[7000] * 4), behavior={"scaleUp": {}}),
    Script(
        "down-by-pods",
        12,
        steps(*[70] * 9),
        behavior={"scaleDown": policies(("Pods", 2, 4), stabilizationWindowSeconds=0)},
    ),
    Script(
        "down-by-percent",
        12,
        steps(*[70] * 9),
        behavior={"scaleDown": policies(("Percent", 25, 4), stabilizationWindowSeconds=0)},
    ),
    Script(
        "down-by-the-least",
        12,
        steps(*[70] * 9),
        behavior={
            "scaleDown": policies(
                ("Percent", 50, 7),
                ("Pods", 2, 2),
                stabilizationWindowSeconds=0,
                selectPolicy="Min",
            )
        },
    ),
    Script(
        "down-by-a-little-of-little",
        3,
        steps(*[7] * 6),
        behavior={"scaleDown": policies(("Percent", 10, 2), stabilizationWindowSeconds=0)},
    ),
    Script(
        "down-never",
        6,
        steps(70, 70, 1400, 70),
        behavior={"scaleDown": policies(selectPolicy="Disabled", stabilizationWindowSeconds=0)},
    ),
    Script(
        "up-and-down-within-a-period",
        6,
        steps(1400, 350, 1400, 350, 1400, 1400, 1400, 350),
        behavior={
            "scaleUp": policies(("Pods", 2, 5)),
            "scaleDown": policies(("Pods", 3, 5), stabilizationWindowSeconds=0),
        },
    ),
    Script(
        "changes-are-forgotten-by-their-own-period",
        2,
        steps(1040, 930, 870, 835, 70, 70, 70),
        behavior={
            "scaleUp": policies(("Pods", 20, 4)),
            "scaleDown": policies(("Pods", 1, 10), stabilizationWindowSeconds=0),
        },
    ),
    # --- behavior: windows ---
    Script(
        "window-up",
        4,
        steps(700, 1400, 1400, 700, 1400, 1400, 1400, 1400, 1400),
        behavior={"scaleUp": {"stabilizationWindowSeconds": 4}},
    ),
    Script(
        "window-down",
        8,
        steps(700, 350, 350, 500, 350, 350, 350, 350, 350, 350, 350),
        behavior={"scaleDown": {"stabilizationWindowSeconds": 7}},
    ),
    Script(
        "window-down-by-default",
        8,
        steps(700, 350, 350, 350, 350, 350, 350),
        behavior={"scaleUp": {"stabilizationWindowSeconds": 0}},
    ),
    Script(
        "window-up-the-longer",
        4,
        steps(700, 1400, 1400, 350, 1400, 1400, 1400, 1400, 1400, 1400),
        behavior={
            "scaleUp": {**FREE, "stabilizationWindowSeconds": 7},
            "scaleDown": {**FREE, "stabilizationWindowSeconds": 2},
        },
    ),
    Script(
        "windows-both-ways",
        6,
        steps(1400, 350, 1400, 350, 1400, 1400, 1400, 1400, 350, 350, 350, 350, 350),
        behavior={
            "scaleUp": {**FREE, "stabilizationWindowSeconds": 4},
            "scaleDown": {**FREE, "stabilizationWindowSeconds": 7},
        },
    ),
    # --- Object and External ---
    Script(
        "object-average",
        4,
        (*steps(2800, 3080, 3081), *steps(2800, pods=7, status=7), *steps(700)),
        metrics=(thing("AverageValue", "700m"),),
        behavior=AT_ONCE,
    ),
    Script(
        "object-value",
        4,
        (*steps(1000, 1101, unready=2), *steps(3000, pending=1), *steps(100)),
        metrics=(thing("Value", "1"),),
        behavior=AT_ONCE,
    ),
    Script(
        "external-average",
        4,
        (*steps([1000, 1000, 800], [4200], [9000, 1]), *steps([700], pods=9), *steps([700])),
        metrics=(external("AverageValue", "700m"),),
        behavior=AT_ONCE,
    ),
    Script(
        "external-value",
        4,
        (*steps([500, 500], [2500]), *steps([2500], unready=3), *steps([0])),
        metrics=(external("Value", "1"),),
        behavior=AT_ONCE,
    ),
    Script(
        "external-fails",
        4,
        steps(None, [], [0], None),
        metrics=(external("AverageValue", "700m"),),
    ),
)
