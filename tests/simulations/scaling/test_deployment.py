"""How pods come and go."""

from collections.abc import Callable

import numpy as np
import pytest

from simulations.pod.agenda import Agenda
from simulations.scaling.deployment import Deployment
from simulations.scaling.replica import Requests
from simulations.scaling.replicas import Phase
from simulations.workloads.arrivals import Arrivals
from tests.simulations.scaling.worlds import setting

Play = Callable[[float], None]


def deployed(replicas: int = 4) -> tuple[Deployment, Play, list[Requests]]:
    """A Deployment, what lets time pass, and what becomes of requests."""
    said, agenda, gone = setting((0, 1), replicas=replicas), Agenda(), list[Requests]()
    deployment = Deployment(
        said.deployment,
        said.traffic,
        said.policy,
        said.pod,
        agenda,
        np.random.default_rng(1),
        gone.append,
    )

    def play(until_s: float) -> None:
        while agenda.next_s <= until_s:
            agenda.do_next()
        deployment.until(until_s)

    return deployment, play, gone


def requests(*times_s: float, takes_s: float = 0.1) -> Arrivals:
    count = len(times_s)
    model = np.zeros(count, np.int32)
    return Arrivals(np.array(times_s), model, np.ones(count), np.full(count, takes_s))


def test_a_new_pod_is_pending_then_runs_then_is_ready_once_it_has_what_is_pinned() -> None:
    deployment, play, _ = deployed(1)
    play(10)
    deployment.scale(2, 10.0)
    (new,) = [replica for replica in deployment.present if not replica.is_ready]
    assert new.status.phase is Phase.PENDING
    play(29.9)
    assert new.status.phase is Phase.PENDING
    play(30.1)
    assert (new.status.phase, new.status.is_ready) == (Phase.RUNNING, False)
    play(44.9)
    assert not new.is_ready
    # The pinned model loads meanwhile, in five seconds.
    play(45.1)
    assert new.ready_s == 45.0
    assert deployment.ready == deployment.present


def test_a_pod_without_requests_leaves_at_once() -> None:
    deployment, play, gone = deployed(3)
    play(10)
    deployment.scale(2, 10.0)
    play(10)
    assert (len(deployment.present), len(deployment.left), len(gone)) == (2, 1, 1)


def test_a_pod_that_leaves_finishes_what_it_has() -> None:
    deployment, play, gone = deployed(1)
    play(10)
    deployment.present[0].take(requests(10.0, 10.0, takes_s=2.0))
    deployment.scale(0, 10.5)
    play(13)
    assert [replica.is_leaving for replica in deployment.present] == [True]
    play(15)
    assert deployment.present == []
    assert gone[0].wait_s.tolist() == pytest.approx([0.0, 2.0])


def test_what_it_does_not_finish_within_the_grace_period_is_lost() -> None:
    deployment, play, gone = deployed(1)
    play(10)
    deployment.present[0].take(requests(10.0, 10.0, takes_s=40.0))
    deployment.scale(0, 10.0)
    play(80)
    assert deployment.left[0].gone_s == 70.0
    assert gone[0].wait_s.tolist() == [0.0, np.inf]


def test_pods_leave_in_the_order_of_a_replicaset() -> None:
    deployment, play, _ = deployed(2)
    deployment.scale(3, 0.0)
    play(100)
    first, second, young = deployment.ready
    deployment.scale(4, 100.0)
    (pending,) = [replica for replica in deployment.present if replica.running_s is None]
    deployment.scale(3, 101.0)
    assert pending.is_leaving
    # Of those that are Ready the cheapest first, and of one cost the youngest.
    first.cost = young.cost = 100
    deployment.scale(2, 102.0)
    assert [first.is_leaving, second.is_leaving, young.is_leaving] == [False, True, False]
    deployment.scale(1, 103.0)
    assert [first.is_leaving, young.is_leaving] == [False, True]


def test_a_rollout_keeps_three_quarters_ready_and_goes_beyond_by_one_quarter() -> None:
    deployment, play, _ = deployed(4)
    deployment.roll_out(10.0)
    for now_s in range(10, 300):
        play(float(now_s))
        assert len(deployment.ready) >= 3
        assert len(deployment.active) <= 5
    assert [replica.revision for replica in deployment.ready] == [1, 1, 1, 1]


def test_a_rollout_follows_a_change_of_what_is_wanted() -> None:
    deployment, play, _ = deployed(4)
    deployment.roll_out(10.0)
    play(20)
    deployment.scale(2, 20.0)
    play(300)
    assert [replica.revision for replica in deployment.ready] == [1, 1]
