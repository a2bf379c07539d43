"""Limits, windows and rates: timelines worked out by hand, and what holds whatever is observed."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from simulations.scaling.hpa import (
    DOWN,
    HPA,
    UP,
    Behavior,
    HPASpec,
    PolicyType,
    Reason,
    Rules,
    ScalingPolicy,
    Select,
)
from simulations.scaling.replicas import Answer, Kind, Metric, Observed, Phase, PodStatus

# One that asks for exactly what it says: the sum over pods, one for each replica.
WANTED = Metric(Kind.AVERAGE_VALUE, 1000)


def spec(**others: object) -> HPASpec:
    said = {"maximum": 20, "metrics": (WANTED,), "tolerance": 0.0, **others}
    return HPASpec(**said)  # type: ignore[arg-type]


def observed(now: int, *answers: Answer) -> Observed:
    return Observed(now, now, tuple(PodStatus(f"p{n}") for n in range(now)), answers)


def played(hpa: HPA, now: int, wanted: list[int], every_s: float = 15.0) -> list[int]:
    """The replicas after each step in which so many are wanted."""
    found = []
    for step, each in enumerate(wanted):
        now = hpa.step(step * every_s, observed(now, each * 1000)).replicas
        found.append(now)
    return found


def rules(*policies: tuple[PolicyType, int, float], **others: object) -> Rules:
    return Rules(tuple(ScalingPolicy(*each) for each in policies), **others)  # type: ignore[arg-type]


# Limits.


def test_zero_replicas_switch_the_autoscaler_off_unless_zero_is_allowed() -> None:
    assert HPA(spec()).step(0, observed(0, 5000)).reason is Reason.DISABLED
    assert HPA(spec(minimum=0)).step(0, observed(0, 3000)).replicas == 3


def test_outside_its_limits_it_goes_there_at_once_and_looks_at_no_metric() -> None:
    hpa = HPA(spec(minimum=2, maximum=8))
    above = hpa.step(0, observed(30, None))
    assert (above.replicas, above.reason, above.proposals) == (8, Reason.ABOVE_MAXIMUM, ())
    below = hpa.step(15, observed(1, None))
    assert (below.replicas, below.reason) == (2, Reason.BELOW_MINIMUM)


def test_it_stays_within_its_limits() -> None:
    assert HPA(spec(maximum=8)).step(0, observed(5, 9000)).reason is Reason.TOO_MANY
    few = HPA(spec(minimum=3, downscale_stabilisation_s=0.0))
    few.step(0, observed(5, 5000))
    low = few.step(15, observed(5, 1000))
    assert (low.replicas, low.reason) == (3, Reason.TOO_FEW)


# Failures.


def test_nothing_happens_while_every_metric_fails() -> None:
    hpa = HPA(spec())
    hpa.step(0, observed(5, 5000))
    before = hpa.history
    decision = hpa.step(15, observed(5, None))
    assert (decision.replicas, decision.reason) == (5, Reason.FAILED)
    assert hpa.history == before


def test_one_failed_metric_forbids_fewer_and_allows_more() -> None:
    both = spec(metrics=(WANTED, WANTED), downscale_stabilisation_s=0.0)
    assert HPA(both).step(0, observed(5, 2000, None)).reason is Reason.FAILED
    assert HPA(both).step(0, observed(5, None, 7000)).replicas == 7
    assert HPA(both).step(0, observed(5, 6000, 7000)).replicas == 7


# Without behavior.


def test_it_at_most_doubles_or_goes_to_four() -> None:
    assert played(HPA(spec(maximum=100)), 1, [50] * 5) == [4, 8, 16, 32, 50]


def test_fewer_come_when_nothing_more_was_wanted_for_five_minutes() -> None:
    wanted = [10, *[4] * 22]
    found = played(HPA(spec()), 10, wanted)
    # The edge of the window belongs to it: the ten of second 0 hold until second 300.
    assert found == [*[10] * 21, 4, 4]


def test_it_remembers_what_it_found_when_it_began() -> None:
    found = played(HPA(spec(downscale_stabilisation_s=60.0)), 7, [3] * 6)
    assert found == [7, 7, 7, 7, 7, 3]


# With behavior.


def test_an_empty_behavior_means_its_defaults() -> None:
    hpa = HPA(spec(maximum=100, behavior=Behavior()))
    # The more of four pods and of double, each 15 s; a step 15 s ago is no longer within them.
    assert played(hpa, 1, [50] * 5) == [5, 10, 20, 40, 50]


def test_a_rate_counts_what_was_added_within_its_period() -> None:
    up = rules((PolicyType.PODS, 4, 60.0), stabilisation_s=0.0)
    hpa = HPA(spec(behavior=Behavior(up=up)))
    assert played(hpa, 2, [20] * 9) == [6, 6, 6, 6, 10, 10, 10, 10, 14]


def test_a_percentage_is_rounded_so_that_it_moves_at_all() -> None:
    up = rules((PolicyType.PERCENT, 10, 15.0), stabilisation_s=0.0)
    down = rules((PolicyType.PERCENT, 10, 15.0), stabilisation_s=0.0)
    hpa = HPA(spec(behavior=Behavior(up, down)))
    # Up: 2 x 1.1 = 2.2, 3 x 1.1 = 3.3.
    assert played(hpa, 2, [9, 9]) == [3, 4]
    # Down: 4 x 0.9 = 3.6, 3 x 0.9 = 2.7.
    assert played(HPA(hpa.spec), 4, [1, 1]) == [3, 2]


def test_the_least_or_the_most_of_several_policies_holds() -> None:
    policies = ((PolicyType.PODS, 1, 15.0), (PolicyType.PERCENT, 100, 15.0))
    for select, grown in ((Select.MAX, 10), (Select.MIN, 6), (Select.DISABLED, 5)):
        up = rules(*policies, select=select, stabilisation_s=0.0)
        assert played(HPA(spec(behavior=Behavior(up=up))), 5, [20]) == [grown]
    for select, shrunk in ((Select.MAX, 0), (Select.MIN, 4), (Select.DISABLED, 5)):
        down = rules(*policies, select=select, stabilisation_s=0.0)
        hpa = HPA(spec(minimum=0, behavior=Behavior(down=down)))
        assert played(hpa, 5, [0]) == [shrunk]


def test_what_left_in_the_other_direction_is_given_back() -> None:
    up = rules((PolicyType.PODS, 1, 60.0), stabilisation_s=0.0)
    hpa = HPA(spec(behavior=Behavior(up, replace(DOWN, stabilisation_s=0.0))))
    # Ten became four within the minute, so it may grow to eleven.
    assert played(hpa, 10, [4, 20]) == [4, 11]


def test_a_change_too_old_for_its_own_direction_gives_its_place_to_the_next() -> None:
    up = rules((PolicyType.PODS, 1, 60.0), stabilisation_s=0.0)
    hpa = HPA(spec(behavior=Behavior(up, replace(DOWN, stabilisation_s=0.0))))
    # Of the three times two that left within the minute, the first is forgotten at the third, for
    # the longest period downwards is 15 s: 4 + 2 + 2 + 1.
    assert played(hpa, 10, [8, 6, 4, 20]) == [8, 6, 4, 9]


def test_it_stays_where_recommendations_of_late_surround_it() -> None:
    behavior = Behavior(replace(UP, stabilisation_s=30.0), replace(DOWN, stabilisation_s=30.0))
    hpa = HPA(spec(behavior=behavior))
    # The edges of the windows do not belong to them: 6 is wanted at 15, 30 and 45 s.
    assert played(hpa, 4, [4, 6, 6, 6, 2, 2, 2]) == [4, 4, 6, 6, 6, 2, 2]


def test_scaling_down_waits_for_the_controller_s_window_unless_another_is_given() -> None:
    assert played(HPA(spec(behavior=Behavior())), 9, [9, *[3] * 21])[-3:] == [9, 3, 3]
    short = Behavior(down=replace(DOWN, stabilisation_s=45.0))
    assert played(HPA(spec(behavior=short)), 9, [9, 3, 3, 3]) == [9, 9, 9, 3]


def test_a_tolerance_of_one_direction_holds_there_alone() -> None:
    up = replace(UP, tolerance=0.5)
    hpa = HPA(spec(tolerance=0.0, behavior=Behavior(up=up)))
    assert hpa.step(0, observed(10, 15_000)).replicas == 10
    assert hpa.step(15, observed(10, 15_001)).replicas == 16


# Properties.

counts = st.integers(0, 40)
statuses = st.builds(
    PodStatus,
    name=st.sampled_from([f"p{n}" for n in range(12)]),
    phase=st.sampled_from(list(Phase)),
    is_ready=st.booleans(),
    is_leaving=st.booleans(),
)
fleets = st.lists(statuses, max_size=12, unique_by=lambda pod: pod.name)
values = st.dictionaries(st.sampled_from([f"p{n}" for n in range(12)]), st.integers(0, 5000))
behaviors = st.none() | st.builds(
    Behavior,
    *(
        st.builds(
            Rules,
            policies=st.lists(
                st.builds(
                    ScalingPolicy,
                    st.sampled_from(list(PolicyType)),
                    st.integers(1, 200),
                    st.sampled_from([15.0, 60.0, 180.0]),
                ),
                min_size=1,
                max_size=3,
            ).map(tuple),
            select=st.sampled_from(list(Select)),
            stabilisation_s=st.sampled_from([0.0, 30.0, 300.0]),
        ),
    )
    * 2,
)
specs = st.builds(
    HPASpec,
    maximum=st.integers(5, 20),
    minimum=st.integers(1, 5),
    metrics=st.just((Metric(Kind.PODS, 700), Metric(Kind.AVERAGE_VALUE, 900))),
    behavior=behaviors,
)
steps = st.lists(
    st.tuples(fleets, st.none() | values, st.none() | st.integers(0, 30_000)), max_size=30
)


@given(specs, counts, steps)
def test_it_never_leaves_its_limits_and_never_guesses(
    spec: HPASpec, now: int, said: list[tuple[list[PodStatus], Answer, Answer]]
) -> None:
    hpa = HPA(spec)
    for step, (pods, by_pod, average) in enumerate(said):
        seen = Observed(now, len(pods), pods, (by_pod, average))
        decision = hpa.step(step * 15.0, seen)
        assert decision.replicas == 0 == now or (spec.minimum <= decision.replicas <= spec.maximum)
        known = [each for each in decision.proposals if each is not None]
        if decision.reason is Reason.FAILED:
            assert decision.replicas == now
        elif decision.proposals and len(known) < len(decision.proposals):
            assert max(known) >= now
        now = decision.replicas


@given(specs, st.integers(5, 20), st.lists(st.integers(0, 25), max_size=40))
def test_what_was_wanted_all_along_is_what_there_is(
    spec: HPASpec, now: int, noise: list[int]
) -> None:
    hpa = HPA(replace(spec, metrics=(WANTED,), behavior=None, tolerance=0.0))
    for step, wanted in enumerate([*noise, *[7] * 25]):
        now = hpa.step(step * 15.0, observed(now, wanted * 1000)).replicas
    assert now == min(max(7, spec.minimum), spec.maximum)


@given(values, st.sets(st.sampled_from([f"p{n}" for n in range(12)]), min_size=1))
def test_pods_that_tell_nothing_never_turn_the_direction(
    said: dict[str, int], silent: set[str]
) -> None:
    pods = tuple(PodStatus(name) for name in sorted({*said, *silent}))
    known = tuple(pod for pod in pods if pod.name in said)
    now = len(pods)
    heard = HPA(spec(metrics=(Metric(Kind.PODS, 700),), tolerance=0.1)).step(
        0, Observed(now, now, pods, (said,))
    )
    if not said or not heard.proposals or heard.proposals[0] is None:
        return
    mean = sum(said[pod.name] for pod in known) // len(known)
    if mean > 700:
        assert heard.proposals[0] >= now
    elif mean < 700:
        assert heard.proposals[0] <= now
