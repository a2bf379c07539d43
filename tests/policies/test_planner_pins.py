"""What the planner promises of pins, and of models that fail."""

from itertools import pairwise

import pytest

from policies.actions import Hold, Load, Reason
from policies.snapshot import (
    ErrorClass,
)
from tests.policies.timeline import (
    HOUR_S,
    asked,
    grown_old,
    here,
    hold_of,
    loads,
    reason_of,
    unloads,
)
from tests.policies.world import (
    MONDAY_S,
    gpu_world,
    guest,
    policy_of,
)

# --- pins


def test_a_pinned_model_comes_by_itself_and_survives_pressure() -> None:
    world = gpu_world(guest("p", 6), guest("b", 6, waits=True))
    policy = policy_of(models={"p": {"pin": True}})
    assert world.tick(policy).actions == (Load("p", Reason.PINNED, brings=("p",)),)
    grown_old(world, policy)
    decided = asked(world, policy, "b", times=1000)
    assert decided.actions == ()
    assert hold_of(decided, "b") == Hold(
        "b", Reason.PINNED_OUT, "memory is taken by pinned models (p)"
    )


def test_a_pinned_model_evicts_whatever_it_costs() -> None:
    world = gpu_world(here("a", 10), guest("p", 5))
    policy = policy_of(
        models={"p": {"pin": True}}, churn={"evictions": 0}, residency={"minimum": "1h"}
    )
    assert unloads(world.tick(policy)) == ["a"]


@pytest.mark.parametrize(
    ("clock", "pinned"),
    [
        ("mon 20:59", False),
        ("mon 21:00", True),
        ("tue 04:59", True),
        ("tue 05:00", False),
        ("tue 22:00", False),
    ],
)
def test_a_night_pin_follows_its_own_time_zone(clock: str, pinned: bool) -> None:
    """Monday from 22:00 to 06:00 in Berlin, an hour east of UTC in December."""
    night = {"days": ["mon"], "from": "22:00", "to": "06:00", "timezone": "Europe/Berlin"}
    policy = policy_of(models={"p": {"pin": [night]}})
    day, time = clock.split()
    hours, minutes = map(int, time.split(":"))
    world = gpu_world(guest("p"))
    world.now_s = MONDAY_S + ("mon", "tue").index(day) * 86400 + hours * HOUR_S + minutes * 60
    assert loads(world.tick(policy)) == (["p"] if pinned else [])


def test_a_model_may_leave_when_its_window_closes() -> None:
    noon = {"from": "00:00", "to": "12:00"}
    policy = policy_of(models={"p": {"pin": [noon], "idle_unload": "1h"}})
    world = gpu_world(here("p"))
    world.tick(policy)
    world.wait(11 * HOUR_S)
    assert world.tick(policy).actions == ()
    world.wait(HOUR_S)
    assert unloads(world.tick(policy)) == ["p"]


# --- failures


def begun_loads(error_class: ErrorClass, times: int = 1) -> list[int]:
    """Seconds at which loads begin of a model whose first loads fail at once."""
    world = gpu_world(guest("a", load_s=0.0, fails=times, error_class=error_class))
    return [second for second in range(400) if loads(asked(world, policy_of(), "a"))]


@pytest.mark.parametrize(
    ("error_class", "first_s"),
    [(ErrorClass.CONFIG, 30), (ErrorClass.INITIALISATION, 10), (ErrorClass.MEMORY, 60)],
)
def test_the_class_of_an_error_decides_how_long_it_is_waited(
    error_class: ErrorClass, first_s: int
) -> None:
    begun = begun_loads(error_class)
    assert begun == [0, 1 + first_s]


def test_the_wait_grows_with_each_failure() -> None:
    begun = begun_loads(ErrorClass.INITIALISATION, times=4)
    waits = [later - earlier for earlier, later in pairwise(begun)]
    assert waits == [11, 21, 41, 81]


def test_the_hold_of_a_failing_model_says_why_and_until_when() -> None:
    world = gpu_world(guest("a", load_s=0.0, fails=1))
    asked(world, policy_of(), "a")
    failed_at_s = world.now_s
    decided = asked(world, policy_of(), "a")
    assert decided.holds == (
        Hold("a", Reason.BACKING_OFF, "a failed once: it broke", failed_at_s + 10),
    )


def test_a_policy_may_be_more_patient_or_less() -> None:
    world = gpu_world(guest("a", load_s=0.0, fails=9))
    policy = policy_of(loads={"backoff": {"initialisation": {"first": "2s", "max": "3s"}}})
    begun = [bool(loads(asked(world, policy, "a"))) for _ in range(11)]
    assert begun == [True, False, False, True, False, False, False, True, False, False, False]


def test_a_model_that_stays_well_is_forgiven() -> None:
    world = gpu_world(guest("a", load_s=0.0, fails=2))
    for _ in range(60):
        asked(world, policy_of(), "a")
    assert world.history.models["a"].failures == 2
    world.run(policy_of(), 61)
    assert world.history.models["a"].failures == 0


def test_forgiveness_takes_as_long_as_the_policy_says() -> None:
    policy = policy_of(loads={"forgive": "5s"})
    world = gpu_world(guest("a", load_s=0.0, fails=1))
    for _ in range(20):
        asked(world, policy, "a")
    assert world.history.models["a"].failures == 0


def test_changed_files_end_a_backoff() -> None:
    world = gpu_world(guest("a", load_s=0.0, fails=1))
    asked(world, policy_of(), "a")
    assert reason_of(asked(world, policy_of(), "a"), "a") is Reason.BACKING_OFF
    world.guests["a"].revision = "2"
    assert loads(asked(world, policy_of(), "a")) == ["a"]


def test_an_absent_triton_is_no_fault_of_the_model() -> None:
    begun = begun_loads(ErrorClass.UNAVAILABLE, times=3)
    assert begun == [0, 2, 4, 6]


def test_a_failing_model_disturbs_no_other() -> None:
    world = gpu_world(here("a", 4), guest("bad", 2, fails=99, waits=True), guest("c", 4))
    policy = policy_of(loads={"concurrent": 1})
    world.ask("bad", 5)
    for _ in range(200):
        decided = asked(world, policy, "a", "c")
        assert unloads(decided) == []
    assert world.residents() == {"a", "c"}
    assert world.guests["bad"].fails > 90
