"""What one metric asks for, by cases worked out by hand."""

import pytest

from simulations.scaling.replicas import (
    Answer,
    Kind,
    Metric,
    Observed,
    Phase,
    PodStatus,
    Tolerance,
    milli,
    replicas,
)

WITHIN = Tolerance()


def pods(count: int, **others: object) -> tuple[PodStatus, ...]:
    return tuple(PodStatus(f"p{n}", **others) for n in range(count))  # type: ignore[arg-type]


def by_pods(
    values: Answer, target_milli: int = 700, seen: tuple[PodStatus, ...] | None = None
) -> int | None:
    """What a metric of type Pods asks for; the pods are those with values unless given."""
    listed = pods(len(values)) if seen is None and isinstance(values, dict) else seen or ()
    observed = Observed(len(listed), len(listed), listed, ())
    return replicas(Metric(Kind.PODS, target_milli), observed, values, WITHIN)


def test_quantities_become_thousandths_and_are_rounded_up() -> None:
    said = ("600m", "0.7", "2", "2k", "1e3", "100u", "1.0001", "0")
    assert [milli(each) for each in said] == [600, 700, 2000, 2_000_000, 1_000_000, 1, 1001, 0]


@pytest.mark.parametrize("said", ["", "m", "1Q", "NaN", "-1", "Infinity"])
def test_what_is_no_quantity_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        milli(said)


def test_replicas_grow_by_the_ratio_rounded_up() -> None:
    # 1.05 / 0.7 = 1.5, and 1.5 x 3 = 4.5.
    assert by_pods({"p0": 1050, "p1": 1050, "p2": 1050}) == 5


def test_the_mean_is_rounded_down_to_thousandths() -> None:
    # The mean of 770, 770 and 772 is 770, which is within the tolerance: 1.1 exactly.
    assert by_pods({"p0": 770, "p1": 770, "p2": 772}) == 3
    assert by_pods({"p0": 770, "p1": 771, "p2": 772}) == 4


def test_both_edges_of_the_tolerance_belong_to_it() -> None:
    assert by_pods({"p0": 1100, "p1": 1100}, target_milli=1000) == 2
    assert by_pods({"p0": 1101, "p1": 1101}, target_milli=1000) == 3
    assert by_pods(dict.fromkeys(["p0", "p1"], 900), target_milli=1000) == 2
    # 0.899 x 2 is rounded up to 2 as well; ten pods tell the edge.
    tenth = {f"p{n}": 899 for n in range(10)}
    assert by_pods(tenth, target_milli=1000) == 9
    assert by_pods(dict.fromkeys(tenth, 900), target_milli=1000) == 10


def test_each_direction_may_have_its_own_tolerance() -> None:
    observed = Observed(10, 10, pods(10), ())
    metric = Metric(Kind.PODS, 1000)

    def asked(value: int, within: Tolerance) -> int | None:
        values = {pod.name: value for pod in observed.pods}
        return replicas(metric, observed, values, within)

    assert asked(1100, Tolerance(down=0.1, up=0.05)) == 11
    assert asked(1100, Tolerance(down=0.05, up=0.1)) == 10
    assert asked(900, Tolerance(down=0.05, up=0.1)) == 9


def test_a_pod_that_tells_nothing_counts_as_idle_when_there_would_be_more() -> None:
    # Without p2: 1400 / 700 = 2. With it at 0: 933 / 700 = 1.333, x 3 = 4.
    assert by_pods({"p0": 1400, "p1": 1400}, seen=pods(3)) == 4


def test_a_pod_that_tells_nothing_counts_as_at_target_when_there_would_be_fewer() -> None:
    # Without p3: 0. With it at 700: 175 / 700 = 0.25, x 4 = 1.
    assert by_pods({"p0": 0, "p1": 0, "p2": 0}, seen=pods(4)) == 1


def test_a_pod_that_tells_nothing_turns_no_direction() -> None:
    # Without p1: 1.2. With it at 0: 0.6, which would be fewer.
    assert by_pods({"p0": 840}, seen=pods(2)) == 2
    # Two of five are leaving. 2 without p2, and 1.333 with it at 0; times three pods that is 4,
    # which would be fewer than there are.
    seen = (*pods(3), PodStatus("p3", is_leaving=True), PodStatus("p4", is_leaving=True))
    assert by_pods({"p0": 1400, "p1": 1400}, seen=seen) == 5


def test_a_pending_pod_counts_as_idle_only_when_there_would_be_more() -> None:
    seen = (*pods(2), PodStatus("new", Phase.PENDING, is_ready=False))
    # 1.5 without it; 700 / 700 = 1 with it, so nothing happens until it is there.
    assert by_pods({"p0": 1050, "p1": 1050}, seen=seen) == 3
    # Fewer: it is left out, and 0.5 x 2 ready ones is 1.
    assert by_pods({"p0": 350, "p1": 350}, seen=seen) == 1


def test_a_running_pod_counts_whether_it_is_ready_or_not() -> None:
    seen = pods(2, is_ready=False)
    assert by_pods({"p0": 1400, "p1": 1400}, seen=seen) == 4


def test_what_leaving_and_failed_pods_say_is_ignored() -> None:
    seen = (
        *pods(2),
        PodStatus("gone", is_leaving=True),
        PodStatus("dead", Phase.FAILED, is_ready=False),
    )
    said = {"p0": 700, "p1": 700, "gone": 9000, "dead": 9000}
    assert by_pods(said, seen=seen) == 4
    assert by_pods({"gone": 9000}, seen=seen) is None


def test_no_answer_no_items_and_no_pods_are_failures() -> None:
    assert by_pods(None, seen=pods(2)) is None
    assert by_pods({}, seen=pods(2)) is None
    assert by_pods({"p0": 700}, seen=()) is None
    no_items = replicas(Metric(Kind.AVERAGE_VALUE, 700), Observed(2, 2, pods(2), ()), (), WITHIN)
    assert no_items is None


def test_a_value_multiplies_the_pods_that_are_ready() -> None:
    seen = (*pods(3), PodStatus("new", is_ready=False), PodStatus("old", is_leaving=True))
    observed = Observed(4, 5, seen, ())
    metric = Metric(Kind.VALUE, 10_000)
    # Leaving pods are ready until they are gone: 1.5 x 4 = 6.
    assert replicas(metric, observed, 15_000, WITHIN) == 6
    assert replicas(metric, observed, 10_900, WITHIN) == 4
    assert replicas(metric, observed, (5_000, 10_000), WITHIN) == 6


def test_a_value_can_wake_a_deployment_from_zero_without_any_tolerance() -> None:
    observed = Observed(0, 0, (), ())
    assert replicas(Metric(Kind.VALUE, 10_000), observed, 10_500, WITHIN) == 2
    assert replicas(Metric(Kind.AVERAGE_VALUE, 10_000), observed, 10_500, WITHIN) == 2
    assert replicas(Metric(Kind.AVERAGE_VALUE, 10_000), observed, 0, WITHIN) == 0


def test_an_average_value_is_divided_by_the_replicas_that_are_there() -> None:
    metric = Metric(Kind.AVERAGE_VALUE, 700)
    observed = Observed(3, 4, pods(4), ())
    # 2.8 / (0.7 x 4) = 1: what is there stays, whatever was asked for.
    assert replicas(metric, observed, 2800, WITHIN) == 4
    assert replicas(metric, observed, 3500, WITHIN) == 5
    assert replicas(metric, observed, (1000, 2501), WITHIN) == 6
