"""How often a pod of a fleet speaks."""

from hypothesis import given
from hypothesis import strategies as st

from policies.pace import MOST_HEARD_PER_S, Pace


def test_a_small_fleet_speaks_as_often_as_things_change() -> None:
    assert [Pace().gap_s(pods) for pods in (1, 10, 30)] == [1.0, 1.0, 1.0]


def test_at_nine_hundred_pods_changes_wait_for_half_a_minute_at_most() -> None:
    assert Pace().gap_s(900) == 30.0


@given(st.integers(1, 1800))
def test_nobody_is_told_more_than_it_can_bear_however_much_changes(pods: int) -> None:
    assert pods / Pace().gap_s(pods) <= MOST_HEARD_PER_S * (1 + 1e-9)


@given(st.integers(1, 100_000), st.integers(0, 100_000))
def test_the_gap_grows_with_the_fleet_and_leaves_room_for_heartbeats(pods: int, more: int) -> None:
    pace = Pace()
    assert pace.change_s <= pace.gap_s(pods) <= pace.gap_s(pods + more) <= pace.heartbeat_s
