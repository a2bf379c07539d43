"""The closed loop, in Deployments small enough to be reckoned with."""

import numpy as np
import pytest

from simulations.scaling.clairvoyant import clairvoyant, lead_s
from simulations.scaling.hpa import Behavior, Rules, Select
from simulations.scaling.outcome import Lifetime, Outcome, figures
from simulations.scaling.run import (
    Autoscaler,
    Limits,
    Outage,
    OutageKind,
    Setting,
    simulate,
)
from simulations.scaling.signals import OURS, signal
from tests.simulations.scaling.worlds import setting


def ours(said: Setting) -> Outcome:
    told = signal(OURS, said.policy)
    return simulate(said, Autoscaler(told, said.limits), OURS, told.target)


def outcome(wanted: list[tuple[float, int]], wait_s: list[float] | None = None) -> Outcome:
    lifetimes = (Lifetime(0, 3600), Lifetime(1800, 3600))
    return Outcome("x", 1.0, 3600, 1.0, np.sort(np.array(wait_s or [])), wanted, lifetimes)


# Figures.


def test_a_reversal_is_a_change_of_direction() -> None:
    assert outcome([(0, 3), (1, 4), (2, 6)]).reversals == 0
    assert outcome([(0, 3), (1, 4), (2, 3), (3, 2), (4, 5)]).reversals == 2
    assert outcome([(0, 3)]).reversals == 0


def test_figures_are_of_all_requests_answered_or_not() -> None:
    found = outcome([(0, 2), (9, 5), (20, 3)], [0.0, 0.5, 1.0, 1.5, np.inf])
    assert (found.attainment, found.pod_hours) == (0.6, 1.5)
    named = figures(found, found)
    assert (named["failed"], named["requests"], named["p99_s"]) == (1, 5, np.inf)
    assert (named["replicas_least"], named["replicas_most"], named["replicas_last"]) == (2, 5, 3)
    assert named["hours_to_clairvoyant"] == 1
    assert outcome([(0, 1)]).attainment == 1.0


# The loop.


def test_as_many_pods_as_the_offered_work_needs_and_no_reversal() -> None:
    # Thirty a second, a tenth of a second each: 3 pods' work, at 0.7 each.
    found = ours(setting((0, 30), duration_s=1200, replicas=5))
    assert [count for _, count in found.wanted] == [5]
    assert found.attainment > 0.95
    assert len(found.wait_s) == pytest.approx(36_000, rel=0.02)
    assert found.pod_hours == pytest.approx(5 * 1200 / 3600)


def test_more_work_brings_more_pods_and_less_work_fewer() -> None:
    found = ours(setting((0, 12), (300, 12), (300, 18), (900, 18), (900, 5), duration_s=2400))
    counts = [count for _, count in found.wanted]
    assert max(counts) in (3, 4)
    assert (counts[0], counts[-1], found.reversals) == (2, 2, 1)
    assert figures(found)["failed"] == 0


def test_the_same_seed_gives_the_same_outcome_and_another_one_another() -> None:
    one, same, other = (ours(setting((0, 12), (300, 25), seed=seed)) for seed in (1, 1, 2))
    assert one.wait_s.tobytes() == same.wait_s.tobytes()
    assert (one.wanted, one.lifetimes) == (same.wanted, same.lifetimes)
    assert one.wait_s.tobytes() != other.wait_s.tobytes()


def test_a_request_that_no_pod_is_ready_for_is_lost() -> None:
    said = setting((0, 5), duration_s=100, replicas=0, limits=Limits(0, 2))
    found = ours(said)
    assert figures(found)["failed"] == len(found.wait_s) > 0


def test_the_hpa_keeps_to_its_limits_and_its_behavior() -> None:
    few = ours(setting((0, 60), limits=Limits(2, 3)))
    assert max(count for _, count in few.wanted) == 3
    never = Behavior(up=Rules((), select=Select.DISABLED, stabilisation_s=0.0))
    still = ours(setting((0, 60), limits=Limits(2, 20, never)))
    assert still.wanted == ((0.0, 2),)


@pytest.mark.parametrize("kind", [OutageKind.NO_ANSWER, OutageKind.CUT_OFF])
def test_nothing_is_scaled_while_nothing_is_known(kind: OutageKind) -> None:
    falls = [(0.0, 25.0), (600.0, 25.0), (600.0, 5.0)]
    said = setting(*falls, duration_s=2000, replicas=4, outages=(Outage(kind, 500.0, 1600.0),))
    found, without = ours(said), ours(setting(*falls, duration_s=2000, replicas=4))
    # What was collected before grows stale within half a minute.
    assert not [at_s for at_s, _ in found.wanted if 540 < at_s < 1600]
    assert [at_s for at_s, _ in without.wanted if 540 < at_s < 1600]
    assert found.wanted[-1][1] == 2


def test_one_dead_sidecar_neither_adds_nor_removes_a_pod() -> None:
    outages = (Outage(OutageKind.DEAF_POD, 300.0, 1500.0),)
    found = ours(setting((0, 30), duration_s=1500, replicas=5, outages=outages))
    assert [count for _, count in found.wanted] == [5]


def test_a_rollout_changes_pods_and_not_how_many_are_wanted() -> None:
    found = ours(setting((0, 30), duration_s=1200, replicas=5, rollouts_s=(400.0,)))
    assert [count for _, count in found.wanted] == [5]
    assert len(found.lifetimes) == 10


# The clairvoyant scaler.


def test_the_clairvoyant_has_pods_ready_when_they_are_needed_and_not_much_before() -> None:
    said = setting((0, 10), (600, 10), (600, 40), (900, 40), (900, 10), duration_s=1500)
    found = clairvoyant(said, 0.99)
    assert found.attainment >= 0.99
    ups = [
        at_s
        for (at_s, count), (_, before) in zip(found.wanted[1:], found.wanted, strict=False)
        if count > before
    ]
    downs = [at_s for at_s, _ in found.wanted[1:] if at_s not in ups]
    assert all(600 - lead_s(said) - 30 <= at_s <= 600 - lead_s(said) for at_s in ups)
    assert all(900 <= at_s <= 930 for at_s in downs)


def test_the_clairvoyant_needs_fewer_pod_hours_than_whoever_does_not_know() -> None:
    said = setting((0, 10), (600, 10), (600, 18), (900, 18), (900, 10), duration_s=1800)
    known, unknown = clairvoyant(said, 0.95), ours(said)
    assert known.attainment >= 0.95
    assert known.pod_hours < unknown.pod_hours


def test_the_clairvoyant_does_what_it_can_where_that_is_not_enough() -> None:
    found = clairvoyant(setting((0, 60), limits=Limits(1, 2)), 0.99)
    assert found.attainment < 0.5
    assert {count for _, count in found.wanted} == {2}
