"""What an HPA is told of pods whose work is known."""

import numpy as np
import pytest

from simulations.pod.agenda import Agenda
from simulations.scaling.deployment import Deployment
from simulations.scaling.signals import OURS, TARGETS, Unheard, answer, signal
from simulations.workloads.arrivals import Arrivals
from tests.simulations.scaling.worlds import setting

NOTHING = Unheard()


class Fleet:
    """Two pods, to each of which one request comes every so often; ``together`` to the first."""

    def __init__(self, every_s: float, takes_s: float = 0.1, together: int = 1) -> None:
        said = setting((0, 1))
        self.policy = said.policy
        self.deployment = Deployment(
            said.deployment,
            said.traffic,
            said.policy,
            said.pod,
            Agenda(),
            np.random.default_rng(1),
            lambda _: None,
        )
        self._every_s, self._takes_s, self._now_s = every_s, takes_s, 0.0
        self._together = together

    def play(self, until_s: float) -> None:
        times_s = np.arange(self._now_s, until_s, self._every_s)
        for replica in self.deployment.present:
            first = replica.name == "pod-0"
            came_s = np.repeat(times_s, self._together if first else 1)
            count = len(came_s)
            if count:
                model, takes_s = np.zeros(count, np.int32), np.full(count, self._takes_s)
                replica.take(Arrivals(came_s, model, np.ones(count), takes_s))
            replica.until(until_s)
        self._now_s = until_s

    def told(
        self, name: str, until_s: float, unheard: Unheard = NOTHING, quiet_s: float = 1e9
    ) -> dict[str, float]:
        """What the signal says at the end; from ``quiet_s`` on something does not answer."""
        found = signal(name, self.policy)
        now_s = found.every_s
        while now_s <= until_s:
            self.play(now_s)
            heard = unheard if now_s >= quiet_s else NOTHING
            found.feed(self.deployment.present, heard, now_s)
            now_s += found.every_s
        return dict(found.told(self.deployment.present, until_s))


def test_every_signal_tells_of_idle_pods_that_they_are_idle() -> None:
    for name in TARGETS:
        assert Fleet(1e6, takes_s=1e-6).told(name, 120.0) == pytest.approx(
            {"pod-0": 0.0, "pod-1": 0.0}, abs=1e-3
        )


def test_ours_is_the_work_in_pods() -> None:
    # Five requests a second of a tenth of a second each.
    assert Fleet(0.2).told(OURS, 240.0) == pytest.approx({"pod-0": 0.5, "pod-1": 0.5}, rel=0.03)


def test_ours_rises_above_one_where_a_busy_fraction_does_not() -> None:
    assert Fleet(0.05).told("busy", 120.0) == {"pod-0": 1.0, "pod-1": 1.0}
    assert Fleet(0.05).told(OURS, 240.0)["pod-0"] == pytest.approx(2.0, rel=0.03)


def test_the_busy_fraction_is_that_of_its_window() -> None:
    assert Fleet(0.2).told("busy", 120.0) == pytest.approx({"pod-0": 0.5, "pod-1": 0.5}, rel=0.03)


def test_queues_are_told_by_time_and_by_ratio() -> None:
    # Of two that come together the second waits for the first.
    by_time = Fleet(0.5, together=2).told("queue-time", 120.0)
    assert by_time == {"pod-0": pytest.approx(50, rel=0.05), "pod-1": 0.0}
    by_ratio = Fleet(0.5, together=2).told("queue-compute", 120.0)
    assert by_ratio == {"pod-0": pytest.approx(0.5, rel=0.05), "pod-1": 0.0}


def test_requests_in_a_pod_are_counted_as_they_are_then() -> None:
    # Twenty a second come and ten go: after a minute six hundred are there.
    assert Fleet(0.05).told("in-flight", 60.0)["pod-0"] == pytest.approx(600, rel=0.02)


def test_a_pod_that_has_just_begun_says_nothing_yet() -> None:
    assert Fleet(0.2).told(OURS, 5.0) == {}
    assert Fleet(0.2).told("busy", 15.0) == {}


def test_what_does_not_answer_becomes_unknown_and_not_idle() -> None:
    silent = Unheard(frozenset({"pod-1"}))
    assert set(Fleet(0.2).told(OURS, 120.0, silent, quiet_s=95.0)) == {"pod-0", "pod-1"}
    assert set(Fleet(0.2).told(OURS, 150.0, silent, quiet_s=95.0)) == {"pod-0"}
    # Triton's own metrics are still there when a sidecar is dead.
    assert set(Fleet(0.2).told("busy", 150.0, silent, quiet_s=95.0)) == {"pod-0", "pod-1"}
    for name in TARGETS:
        assert Fleet(0.2).told(name, 480.0, Unheard(all=True), quiet_s=95.0) == {}


def test_a_pod_that_leaves_is_not_told_of() -> None:
    fleet = Fleet(0.2)
    found = signal(OURS, fleet.policy)
    for now_s in range(5, 65, 5):
        fleet.play(float(now_s))
        found.feed(fleet.deployment.present, Unheard(), float(now_s))
    fleet.deployment.present[1].leaving_s = 60.0
    assert set(found.told(fleet.deployment.present, 60.0)) == {"pod-0"}


def test_values_are_told_in_thousandths_rounded_up() -> None:
    assert answer({"a": 0.7, "b": 0.7001, "c": 0.0}) == {"a": 700, "b": 701, "c": 0}


def test_ours_writes_what_the_loss_of_each_pod_would_cost() -> None:
    fleet = Fleet(0.5)
    fleet.told(OURS, 120.0)
    one, other = fleet.deployment.present
    # Both hold the one model and do as much, so neither is better to lose.
    assert one.cost is not None
    assert one.cost == other.cost
    busy = Fleet(0.5, together=4)
    busy.told(OURS, 120.0)
    first, second = (replica.cost or 0 for replica in busy.deployment.present)
    assert first > second
