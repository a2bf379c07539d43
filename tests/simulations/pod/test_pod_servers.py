"""Queues against what they must be: Lindley's recursion in numpy, and a plain reference."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulations.pod.servers import Execution, Request, Servers, servers
from simulations.workloads.catalogue import Profile

times = st.lists(st.tuples(st.floats(0, 20), st.floats(0.001, 3)), min_size=1, max_size=40).map(
    lambda rows: sorted(rows, key=lambda row: row[0])
)
looks = st.lists(st.floats(0, 100), max_size=8)


def played(queue: Servers, rows: list[tuple[float, float]], looks_s: list[float]) -> list[float]:
    """When each request ended; whoever looks in between must not matter."""
    ends: dict[int, float] = {}

    def take(found: list[Execution]) -> None:
        ends.update({each.request.number: each.end_s for each in found})

    events = [(at_s, number, takes_s) for number, (at_s, takes_s) in enumerate(rows)]
    moments = sorted(
        [(at_s, 0, number, s) for at_s, number, s in events]
        + [(at_s, 1, 0, 0.0) for at_s in looks_s]
    )
    for at_s, is_look, number, takes_s in moments:
        if is_look:
            take(queue.ended(at_s))
        else:
            queue.enter(at_s, Request(number, at_s, takes_s, 1.0))
    take(queue.ended(float("inf")))
    assert queue.is_empty(float("inf"))
    assert queue.inside() == queue.waiting() == 0
    return [ends[number] for number in range(len(rows))]


def reference(rows: list[tuple[float, float]], instances: int) -> list[float]:
    """First come, first served, by the plainest of means."""
    free_s = [0.0] * instances
    ends = []
    for at_s, takes_s in rows:
        instance = min(range(instances), key=lambda each: free_s[each])
        free_s[instance] = max(at_s, free_s[instance]) + takes_s
        ends.append(free_s[instance])
    return ends


@given(times, looks)
def test_one_instance_follows_lindleys_recursion(
    rows: list[tuple[float, float]], looks_s: list[float]
) -> None:
    at_s, takes_s = np.array(rows).T
    worked_s = np.cumsum(takes_s)
    # The end of each is the latest beginning of work before it, and all the work since.
    ends_s = worked_s + np.maximum.accumulate(at_s - worked_s + takes_s)
    assert np.allclose(played(servers(Profile(1, 1.0)), rows, looks_s), ends_s)


@given(times, looks, st.integers(1, 4))
def test_several_instances_serve_first_who_came_first(
    rows: list[tuple[float, float]], looks_s: list[float], instances: int
) -> None:
    queue = servers(Profile(1, 1.0, instances=instances))
    assert played(queue, rows, looks_s) == reference(rows, instances)


@given(times, looks, st.integers(1, 3))
def test_batches_that_cost_as_much_as_their_parts_take_no_less_time_in_all(
    rows: list[tuple[float, float]], looks_s: list[float], instances: int
) -> None:
    """Looking changes no end, nobody starts before coming, and free batching helps everybody."""
    same = [(at_s, 1.0) for at_s, _ in rows]
    free = Profile(1, 1.0, instances=instances, max_batch=64, batch_share=0.0)
    ends = played(servers(free), same, looks_s)
    assert ends == played(servers(free), same, [])
    for (at_s, takes_s), end_s, plain_s in zip(same, ends, reference(same, instances), strict=True):
        assert at_s + takes_s <= end_s + 1e-9
        assert end_s <= plain_s + 1e-9


def test_a_batch_takes_its_share_for_each_further_request_and_no_more_than_fit() -> None:
    queue = servers(Profile(1, 1.0, max_batch=2, batch_share=0.5))
    ends = played(queue, [(0.0, 1.0), (0.1, 1.0), (0.2, 1.0), (0.3, 1.0)], [])
    assert ends == [1.0, 2.5, 2.5, 3.5]


def test_those_inside_when_the_process_ends_are_told_once() -> None:
    for profile in (
        Profile(1, 1.0),
        Profile(1, 1.0, instances=2),
        Profile(1, 1.0, max_batch=2),
    ):
        queue = servers(profile)
        for number in range(5):
            queue.enter(0.0, Request(number, 0.0, 1.0, 1.0))
        ended = [each.request.number for each in queue.ended(1.0)]
        failed = [request.number for request in queue.fail(1.0)]
        assert sorted(ended + failed) == [0, 1, 2, 3, 4]
        assert queue.inside() == 0
        queue.enter(1.5, Request(5, 1.5, 1.0, 1.0))
        assert [each.end_s for each in queue.ended(9.0)] == [2.5]
