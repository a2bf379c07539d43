"""What the door and Triton's counters say together, look by look."""

from dataclasses import dataclass, field

from daemon.frontdoor.gate import NOBODY, AtDoor
from daemon.metrics import Activity
from daemon.traffic import PASSED_BY_S, Requests, Traffic

TICK_S = 1.0


@dataclass
class Looks:
    """A look at one model every second."""

    traffic: Traffic = field(default_factory=Traffic)
    now_s: float = 1_767_600_000.0

    def look(
        self,
        at_door: AtDoor = NOBODY,
        served: float | None = 0,
        *,
        failed: float = 0,
        inside_s: float = 0.0,
        pending: int | None = None,
        name: str = "a",
    ) -> Requests:
        self.now_s += TICK_S
        activity = None
        if served is not None:
            activity = Activity(
                successes=served, failures=failed, compute_s=inside_s, pending=pending
            )
        return self.traffic.of(name, activity, at_door, self.now_s, TICK_S)


# --- arrivals


def test_requests_that_go_straight_to_triton_arrive_when_it_has_served_them() -> None:
    looks = Looks()
    assert looks.look(served=7, failed=2).arrivals == 9
    assert looks.look().arrivals == 0


def test_held_request_arrives_when_it_comes_and_not_again_when_it_is_served() -> None:
    looks = Looks()
    assert looks.look(AtDoor(missed=3, waiting=3)).arrivals == 3
    assert looks.look(AtDoor(waiting=3)).arrivals == 0
    assert looks.look(AtDoor(replayed=3, forwarded=3), served=3).arrivals == 0
    assert looks.look(served=1).arrivals == 1


def test_replays_that_triton_counts_a_look_later_are_still_no_arrivals() -> None:
    looks = Looks()
    looks.look(AtDoor(missed=3, waiting=3))
    assert looks.look(AtDoor(replayed=3)).arrivals == 0
    assert looks.look(served=2).arrivals == 0
    assert looks.look(served=5).arrivals == 4, "one was owed"


def test_a_request_in_tritons_queue_has_come_and_is_not_counted_again_when_it_is_served() -> None:
    looks = Looks()
    assert looks.look(pending=4).arrivals == 4
    assert looks.look(pending=3).arrivals == 0, "one executes"
    assert looks.look(served=2, pending=2).arrivals == 0
    assert looks.look(served=5, pending=9).arrivals == 12, "more come than are served"
    assert looks.look(served=9, pending=0).arrivals == 0


def test_a_held_request_that_waits_again_inside_triton_has_come_once() -> None:
    looks = Looks()
    assert looks.look(AtDoor(missed=3, waiting=3)).arrivals == 3
    assert looks.look(AtDoor(replayed=3, forwarded=3), pending=2).arrivals == 0
    assert looks.look(served=1, pending=2).arrivals == 0
    assert looks.look(served=2, pending=1).arrivals == 1


def test_replays_that_died_with_their_model_are_not_owed_for_ever() -> None:
    looks = Looks()
    looks.look(AtDoor(missed=3, replayed=3))
    looks.traffic.left("a")
    assert looks.look(served=3).arrivals == 3


def test_models_owe_each_for_itself() -> None:
    looks = Looks()
    looks.look(AtDoor(replayed=3))
    assert looks.look(served=3, name="b").arrivals == 3


def test_arrivals_at_the_door_count_also_while_triton_tells_nothing() -> None:
    assert Looks().look(AtDoor(missed=2), served=None).arrivals == 2


# --- in flight


def test_nothing_is_known_of_who_is_inside_while_nobody_tells() -> None:
    assert Looks().look(served=None) == Requests(0, None, False, 0)


def test_requests_inside_are_counted_where_all_come_through_the_door() -> None:
    looks = Looks()
    found = looks.look(AtDoor(forwarded=4, in_flight=4))
    assert (found.in_flight, found.in_flight_counted) == (4, True)
    found = looks.look(AtDoor(in_flight=1), served=3)
    assert (found.in_flight, found.in_flight_counted) == (1, True)
    found = looks.look(served=1)
    assert (found.in_flight, found.in_flight_counted) == (0, True)


def test_request_that_takes_many_looks_is_still_one_of_ours() -> None:
    looks = Looks()
    looks.look(AtDoor(forwarded=1, in_flight=1))
    for _ in range(20):
        assert looks.look(AtDoor(in_flight=1)).in_flight_counted
    looks.look(AtDoor())
    assert looks.look(served=1).in_flight_counted, "Triton may count it a look late"


def test_requests_inside_are_estimated_where_others_go_past_the_door() -> None:
    looks = Looks()
    looks.look(AtDoor(forwarded=1, in_flight=1))
    found = looks.look(AtDoor(in_flight=1), served=10, inside_s=2.5)
    assert (found.in_flight, found.in_flight_counted) == (2.5, False)
    found = looks.look(AtDoor(in_flight=3), served=1, inside_s=0.5)
    assert (found.in_flight, found.in_flight_counted) == (3, False), "so many at least"


def test_one_that_went_past_the_door_makes_no_model_s_count_believed_for_a_while() -> None:
    looks = Looks()
    looks.look(served=1, name="b")
    assert not looks.look(AtDoor(forwarded=1, in_flight=1)).in_flight_counted
    looks.now_s += PASSED_BY_S
    assert looks.look(AtDoor(in_flight=1)).in_flight_counted


def test_first_look_has_no_time_to_take_a_mean_over() -> None:
    traffic = Traffic()
    found = traffic.of("a", Activity(successes=5, compute_s=3), NOBODY, 100.0, 0.0)
    assert (found.in_flight, found.in_flight_counted) == (None, False)


# --- leases


def test_sequences_that_nobody_shows_are_open_until_triton_would_end_them() -> None:
    looks = Looks(Traffic({"a": 5.0}))
    assert looks.look().leases == 0
    assert looks.look(served=1).leases == 1
    quiet = [looks.look().leases for _ in range(8)]
    assert quiet == [1, 1, 1, 1, 1, 0, 0, 0]


def test_leases_of_the_door_are_added() -> None:
    looks = Looks(Traffic({"a": 5.0}))
    assert looks.look(AtDoor(leases=2), served=1).leases == 3
    assert looks.look(AtDoor(leases=2), served=1, name="b").leases == 2
    looks.traffic.left("a")
    assert looks.look(AtDoor(leases=2)).leases == 2
