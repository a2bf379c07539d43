"""The HorizontalPodAutoscaler's decision, as kube-controller-manager 1.34 makes it every 15 s.

Owns limits, stabilisation, the rates of `behavior` and the freeze on failed metrics, and what must
be remembered for them. Refuses to know where metrics come from, and how one metric becomes a
number of replicas (`simulations.scaling.replicas`).

In: an `HPASpec` and, at each step, the time and an `Observed`::

    hpa = HPA(HPASpec(minimum=2, maximum=20, metrics=(Metric(Kind.PODS, target_milli=700),)))
    decision = hpa.step(15.0, Observed(
        spec_replicas=2, status_replicas=2,
        pods=(PodStatus("a"), PodStatus("b", Phase.PENDING, is_ready=False)),
        metrics=({"a": 910},),            # one answer for each metric; None is an error
    ))
    decision.replicas, decision.reason    # what is written to the Deployment, and why

Out: a `Decision`; where its replicas differ from `spec_replicas` the controller writes them, which
is taken to succeed. ``hpa.history`` is all that is remembered; `decide` is the same as a function
of it. Start time and readiness transitions are not asked for: the controller looks at them for
CPU alone.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from simulations.scaling.replicas import Metric, Observed, Tolerance, replicas

# Without `behavior` a step at most doubles, or goes up to four.
_GROWS_BY = 2.0
_GROWS_TO = 4.0


class PolicyType(StrEnum):
    PODS = "Pods"
    PERCENT = "Percent"


class Select(StrEnum):
    """Which of several policies holds in one direction: the most change, the least, or none."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """At most ``value`` pods, or percent, within ``period_s``."""

    type: PolicyType
    value: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Rules:
    """One direction of `behavior`.

    stabilisation_s: the window; None is the controller's own, which only downwards may be.
    tolerance: None is the controller's own. 1.34 heeds another only with its feature gate
        HPAConfigurableTolerance.
    """

    policies: tuple[ScalingPolicy, ...]
    select: Select = Select.MAX
    stabilisation_s: float | None = None
    tolerance: float | None = None


UP = Rules(
    (ScalingPolicy(PolicyType.PODS, 4, 15.0), ScalingPolicy(PolicyType.PERCENT, 100, 15.0)),
    stabilisation_s=0.0,
)
DOWN = Rules((ScalingPolicy(PolicyType.PERCENT, 100, 15.0),))


@dataclass(frozen=True, slots=True)
class Behavior:
    """An empty one in a manifest means these defaults; none at all means other rules."""

    up: Rules = UP
    down: Rules = DOWN


@dataclass(frozen=True, slots=True)
class HPASpec:
    """tolerance, downscale_stabilisation_s: the controller's own, for all its HPAs."""

    maximum: int
    metrics: tuple[Metric, ...]
    minimum: int = 1
    behavior: Behavior | None = None
    tolerance: float = 0.1
    downscale_stabilisation_s: float = 300.0

    @property
    def within(self) -> Tolerance:
        rules = self.behavior or Behavior()
        down, up = rules.down.tolerance, rules.up.tolerance
        return Tolerance(
            self.tolerance if down is None else down, self.tolerance if up is None else up
        )


class Reason(StrEnum):
    """Why a decision is what it is: what changed it last, by the names of the HPA's conditions
    where it has one."""

    DISABLED = "ScalingDisabled"
    ABOVE_MAXIMUM = "AboveMaximum"
    BELOW_MINIMUM = "BelowMinimum"
    FAILED = "FailedComputeMetricsReplicas"
    WITHIN_RANGE = "DesiredWithinRange"
    UP_LIMIT = "ScaleUpLimit"
    DOWN_LIMIT = "ScaleDownLimit"
    TOO_MANY = "TooManyReplicas"
    TOO_FEW = "TooFewReplicas"
    UP_STABILISED = "ScaleUpStabilized"
    DOWN_STABILISED = "ScaleDownStabilized"


@dataclass(frozen=True, slots=True)
class Timed:
    """A recommendation, or by how many replicas a step changed."""

    count: int
    at_s: float


@dataclass(frozen=True, slots=True)
class History:
    """recommendations: None before the first step. ups, downs: changes that were written, kept
    only where there is a `behavior`."""

    recommendations: tuple[Timed, ...] | None = None
    ups: tuple[Timed, ...] = ()
    downs: tuple[Timed, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """replicas: what the Deployment is told to have from now on.

    proposals: what each metric asked for, before limits and windows; None where it failed, and
    empty where no metric was looked at.
    """

    replicas: int
    reason: Reason
    proposals: tuple[int | None, ...] = ()


@dataclass(slots=True)
class HPA:
    """One autoscaler with what it remembers."""

    spec: HPASpec
    history: History = field(default_factory=History)

    def step(self, now_s: float, observed: Observed) -> Decision:
        decision, self.history = decide(self.spec, self.history, now_s, observed)
        return decision


def decide(
    spec: HPASpec, history: History, now_s: float, observed: Observed
) -> tuple[Decision, History]:
    """One step. ``now_s`` is on any clock that never falls."""
    assert len(observed.metrics) == len(spec.metrics), "one answer for each metric"
    now = observed.spec_replicas
    if history.recommendations is None:
        history = replace(history, recommendations=(Timed(now, now_s),))
    if now == 0 and spec.minimum != 0:
        return Decision(0, Reason.DISABLED), history
    if now > spec.maximum:
        decision = Decision(spec.maximum, Reason.ABOVE_MAXIMUM)
    elif now < spec.minimum:
        decision = Decision(spec.minimum, Reason.BELOW_MINIMUM)
    else:
        decision, history = _by_metrics(spec, history, now_s, observed)
    return decision, _written(spec, history, now_s, decision.replicas - now)


def _by_metrics(
    spec: HPASpec, history: History, now_s: float, observed: Observed
) -> tuple[Decision, History]:
    within, now = spec.within, observed.spec_replicas
    proposals = tuple(
        replicas(metric, observed, answer, within)
        for metric, answer in zip(spec.metrics, observed.metrics, strict=True)
    )
    known = [each for each in proposals if each is not None]
    # A failed metric might have asked for more than the others.
    if not known or (len(known) < len(proposals) and max(known) < now):
        return Decision(now, Reason.FAILED, proposals), history
    wanted = max(known)
    if spec.behavior is None:
        found, reason = _plainly(spec, history, now_s, now, wanted)
    else:
        found, reason = _by_behavior(spec, spec.behavior, history, now_s, now, wanted)
    recommendations = (*(history.recommendations or ()), Timed(wanted, now_s))
    history = replace(history, recommendations=_kept(spec, recommendations, now_s))
    return Decision(found, reason, proposals), history


def _kept(spec: HPASpec, said: Iterable[Timed], now_s: float) -> tuple[Timed, ...]:
    """Without those that no window will reach again."""
    longest_s = max(_down_window_s(spec), (spec.behavior or Behavior()).up.stabilisation_s or 0.0)
    return tuple(each for each in said if each.at_s >= now_s - longest_s)


def _down_window_s(spec: HPASpec) -> float:
    said_s = spec.behavior.down.stabilisation_s if spec.behavior else None
    return spec.downscale_stabilisation_s if said_s is None else said_s


# Without `behavior`.


def _plainly(
    spec: HPASpec, history: History, now_s: float, now: int, wanted: int
) -> tuple[int, Reason]:
    """The most of late, within the limits."""
    since_s = now_s - spec.downscale_stabilisation_s
    # The window's very edge belongs to it here, and not where there is a `behavior`.
    of_late = [each.count for each in history.recommendations or () if each.at_s >= since_s]
    steady = max([wanted, *of_late])
    may_grow_to = int(max(_GROWS_BY * now, _GROWS_TO))
    most = min(spec.maximum, may_grow_to)
    if steady < spec.minimum:
        return spec.minimum, Reason.TOO_FEW
    if steady > most:
        return most, Reason.UP_LIMIT if spec.maximum > may_grow_to else Reason.TOO_MANY
    return steady, Reason.WITHIN_RANGE if steady == wanted else Reason.DOWN_STABILISED


# With `behavior`.


def _by_behavior(
    spec: HPASpec, behavior: Behavior, history: History, now_s: float, now: int, wanted: int
) -> tuple[int, Reason]:
    steady = _stabilised(spec, behavior, history, now_s, now, wanted)
    if steady > now:
        limit = max(now, _up_limit(behavior.up, history, now_s, now))
        most = min(spec.maximum, limit)
        if steady > most:
            return most, Reason.UP_LIMIT if spec.maximum > limit else Reason.TOO_MANY
    elif steady < now:
        limit = min(now, _down_limit(behavior.down, history, now_s, now))
        least = max(spec.minimum, limit)
        if steady < least:
            return least, Reason.DOWN_LIMIT if spec.minimum < limit else Reason.TOO_FEW
    if steady == wanted:
        return steady, Reason.WITHIN_RANGE
    return steady, Reason.UP_STABILISED if wanted >= now else Reason.DOWN_STABILISED


def _stabilised(
    spec: HPASpec, behavior: Behavior, history: History, now_s: float, now: int, wanted: int
) -> int:
    """As near to what there is as the least wanted within the window upwards, and the most within
    the one downwards, allow."""
    up_s, down_s = behavior.up.stabilisation_s or 0.0, _down_window_s(spec)
    said = history.recommendations or ()
    least = min([wanted, *(each.count for each in said if each.at_s > now_s - up_s)])
    most = max([wanted, *(each.count for each in said if each.at_s > now_s - down_s)])
    return min(max(now, least), most)


def _up_limit(rules: Rules, history: History, now_s: float, now: int) -> int:
    if rules.select is Select.DISABLED:
        return now
    limits = []
    for policy in rules.policies:
        began = _began_with(policy, history, now_s, now)
        if policy.type is PolicyType.PODS:
            limits.append(began + policy.value)
        else:
            # Rounded up, or a small Deployment would never grow.
            limits.append(math.ceil(began * (1 + policy.value / 100)))
    return (min if rules.select is Select.MIN else max)(limits, default=now)


def _down_limit(rules: Rules, history: History, now_s: float, now: int) -> int:
    if rules.select is Select.DISABLED:
        return now
    limits = []
    for policy in rules.policies:
        began = _began_with(policy, history, now_s, now)
        if policy.type is PolicyType.PODS:
            limits.append(began - policy.value)
        else:
            limits.append(int(began * (1 - policy.value / 100)))
    return (max if rules.select is Select.MIN else min)(limits, default=now)


def _began_with(policy: ScalingPolicy, history: History, now_s: float, now: int) -> int:
    """How many there were when the policy's period began."""
    since_s = now_s - policy.period_s
    added = sum(each.count for each in history.ups if each.at_s > since_s)
    removed = sum(each.count for each in history.downs if each.at_s > since_s)
    return now - added + removed


def _written(spec: HPASpec, history: History, now_s: float, change: int) -> History:
    """The history after ``change`` replicas more were written."""
    if spec.behavior is None or change == 0:
        return history
    if change > 0:
        return replace(history, ups=_with(spec.behavior.up, history.ups, Timed(change, now_s)))
    return replace(history, downs=_with(spec.behavior.down, history.downs, Timed(-change, now_s)))


def _with(rules: Rules, events: tuple[Timed, ...], new: Timed) -> tuple[Timed, ...]:
    """``events`` with ``new`` in place of the last that is too old for the ``rules``.

    One too old for its own direction may still count in the other's longer periods, so which one
    is replaced makes a difference, and the others must stay.
    """
    longest_s = max((policy.period_s for policy in rules.policies), default=0.0)
    old = [at for at, each in enumerate(events) if each.at_s < new.at_s - longest_s]
    if not old:
        return (*events, new)
    return (*events[: old[-1]], new, *events[old[-1] + 1 :])
