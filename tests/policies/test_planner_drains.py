"""Who keeps a model from leaving, and how a leaving that has been decided can be undone."""

from dataclasses import replace

from policies.actions import Hold, Reason, Unload
from policies.history import History
from policies.planner import plan
from policies.snapshot import Device, Footprint, FootprintSource, Model, Snapshot
from tests.policies.timeline import (
    HOUR_S,
    asked,
    ensemble,
    grown_old,
    here,
    hold_of,
    loads,
    reason_of,
    unloads,
)
from tests.policies.world import (
    GIB,
    GPU,
    MONDAY_S,
    READY,
    World,
    gpu_world,
    guest,
    policy_of,
)

# --- leases


def test_a_model_with_open_streams_makes_room_only_when_they_have_ended() -> None:
    world = gpu_world(here("a", 10, leases=2), guest("b", 10, waits=True))
    grown_old(world, policy_of())
    decided = asked(world, policy_of(), "b", times=99)
    assert decided.actions == ()
    assert hold_of(decided, "b") == Hold(
        "b", Reason.NO_ROOM, "open streams or requests on their way keep a here"
    )
    world.guests["a"].leases = 0
    assert unloads(world.tick(policy_of())) == ["a"]


def test_a_dearer_model_leaves_where_the_cheapest_has_open_streams() -> None:
    world = gpu_world(here("dear", 5), here("cheap", 5, leases=1), guest("new", 5, waits=True))
    grown_old(world, policy_of())
    asked(world, policy_of(), "dear")
    assert unloads(asked(world, policy_of(), "new", times=9)) == ["dear"]


def test_a_model_that_has_come_for_those_who_wait_serves_them_before_it_leaves() -> None:
    world = gpu_world(here("a", 10, waits=True), guest("b", 10, waits=True))
    policy = policy_of(residency={"minimum": "0s"})
    world.guests["a"].waiting_since_s = [MONDAY_S]
    assert reason_of(asked(world, policy, "b", times=99), "b") is Reason.NO_ROOM
    world.guests["a"].waiting_since_s = []
    assert unloads(world.tick(policy)) == ["a"]


def test_a_pin_waits_for_open_streams_too() -> None:
    world = gpu_world(here("a", 10, leases=1), guest("p", 5))
    policy = policy_of(models={"p": {"pin": True}})
    assert reason_of(world.tick(policy), "p") is Reason.NO_ROOM
    world.guests["a"].leases = 0
    assert unloads(world.tick(policy)) == ["a"]


def test_a_member_with_open_streams_stays_with_all_it_needs_when_its_ensemble_leaves() -> None:
    world = gpu_world(
        ensemble("d", "e", "own", state=READY),
        ensemble("e", "s", state=READY, leases=1),
        here("s"),
        here("own"),
    )
    policy = policy_of(models={"d": {"idle_unload": "5m"}})
    world.tick(policy)
    world.wait(HOUR_S)
    assert world.tick(policy).actions == (Unload("d", Reason.IDLE, takes=("own",)),)


def test_a_step_stays_with_a_member_that_is_asked_for_on_its_own() -> None:
    world = gpu_world(ensemble("d", "e", state=READY), ensemble("e", "s", state=READY), here("s"))
    policy = policy_of(models={"d": {"idle_unload": "5m"}})
    world.tick(policy)
    world.wait(HOUR_S)
    assert asked(world, policy, "e").actions == (Unload("d", Reason.IDLE),)


def test_an_ensemble_with_open_streams_keeps_its_members() -> None:
    world = gpu_world(
        ensemble("e", "s", state=READY, leases=1), here("s", 10), guest("new", 5, waits=True)
    )
    grown_old(world, policy_of())
    decided = asked(world, policy_of(), "new", times=99)
    assert decided.actions == ()
    assert hold_of(decided, "new").detail == "open streams or requests on their way keep e here"


def test_a_member_with_open_streams_is_named_when_room_hangs_on_it() -> None:
    world = gpu_world(
        ensemble("e", "s", state=READY), here("s", 10, leases=1), guest("new", 5, waits=True)
    )
    grown_old(world, policy_of())
    decided = asked(world, policy_of(), "new", times=99)
    assert decided.actions == ()
    assert "keep s here" in hold_of(decided, "new").detail


def test_open_streams_are_use_and_idle_time_begins_when_they_end() -> None:
    world = gpu_world(here("a", leases=1))
    policy = policy_of(residency={"idle_unload": "60s"})
    assert world.run(policy, 200) == 0
    world.guests["a"].leases = 0
    assert world.run(policy, 59) == 0
    assert world.run(policy, 5) == 1


def test_a_device_that_open_streams_keep_over_its_budget_says_so() -> None:
    world = gpu_world(here("a", 4, leases=1), here("b", 2, leases=1), here("c", 3))
    decided = world.tick(policy_of(4 * GIB))
    assert unloads(decided) == ["c"]
    assert hold_of(decided, GPU) == Hold(
        GPU,
        Reason.OVER_BUDGET,
        "open streams or requests on their way to a, b keep the budget exceeded by 2 GiB",
    )
    world.guests["b"].leases = 0
    assert unloads(world.tick(policy_of(4 * GIB))) == ["b"]


def test_a_sick_model_leaves_in_spite_of_its_streams() -> None:
    world = grown_old(gpu_world(here("a", leases=3)), policy_of())
    world.sicken("a")
    assert world.tick(policy_of()).actions == (Unload("a", Reason.SICK),)


def test_the_streams_of_a_model_that_died_keep_nobody_out() -> None:
    policy = policy_of(models={"p": {"pin": True}})
    world = grown_old(gpu_world(here("a", 10, leases=1)), policy)
    has_died_before = replace(world.history.models["a"], failures=1)
    world.history = replace(world.history, models={"a": has_died_before})
    world.sicken("a")
    assert reason_of(world.tick(policy), "a") is Reason.BACKING_OFF
    world.guests["p"] = guest("p", 5)
    assert unloads(world.tick(policy)) == ["a"]


# --- drains, and changes of mind


def two_equals(**traits: object) -> World:
    """Two old residents, and a third model that takes the place of one of them."""
    world = gpu_world(
        here("a", 5, load_s=4.0, drain_s=8.0, **traits),
        here("b", 5, load_s=4.0, drain_s=8.0, **traits),
        guest("new", 5, load_s=4.0, waits=True),
    )
    grown_old(world, policy_of())
    asked(world, policy_of(), "a", "b", times=3)
    return world


def test_near_equals_do_not_take_turns_in_draining() -> None:
    world = two_equals()
    assert unloads(asked(world, policy_of(), "new", times=5)) == ["a"]
    decided = [asked(world, policy_of(), "a", times=3) for _ in range(8)]
    assert [unloads(each) for each in decided] == [["a"]] * 7 + [[]]
    assert world.history.models["a"].fast_rate > 3 * world.history.models["b"].fast_rate
    assert world.called_off == 0
    assert world.residents() == {"b"}


def test_a_drain_is_one_eviction_however_long_it_takes() -> None:
    world = two_equals()
    policy = policy_of(churn={"evictions": 1})
    asked(world, policy, "new", times=5)
    world.run(policy, 6)
    assert len(world.history.evictions_s) == 1


def test_a_swap_under_way_goes_on_while_it_brings_more_than_it_costs() -> None:
    def tried(price: float, *, draining: bool) -> list[str]:
        size = Footprint({GPU: 6 * GIB}, FootprintSource.DECLARED)
        old = Model("old", READY, size, load_s=price, waiting=0, arrivals=60, draining=draining)
        late = Model("late", footprint=size, load_s=2.0, waiting=2)
        seen = Snapshot(
            MONDAY_S, devices={GPU: Device(GPU, 10 * GIB)}, models={"old": old, "late": late}
        )
        policy = policy_of(residency={"minimum": 0, "hysteresis": 0.25})
        return unloads(plan(policy, seen, History()))

    # Worth 6 against 3.9, 5.4 and 6.5.
    assert [tried(load_s, draining=False) for load_s in (2.0, 2.5, 2.8)] == [["old"], [], []]
    assert [tried(load_s, draining=True) for load_s in (2.0, 2.5, 2.8)] == [["old"], ["old"], []]


def test_a_drain_is_called_off_when_those_it_holds_up_are_worth_more() -> None:
    world = two_equals(waits=True)
    world.guests["b"].leases = 1
    assert unloads(asked(world, policy_of(), "new", times=3)) == ["a"]
    assert unloads(asked(world, policy_of(), "a", times=2)) == ["a"]
    decided = asked(world, policy_of(), "a", times=20)
    assert decided.actions == ()
    assert reason_of(decided, "new") is Reason.SWAP_DOES_NOT_PAY
    assert world.called_off == 1
    assert world.residents() == {"a", "b"}
    assert world.guests["a"].waiting_since_s == []
    assert world.history.models["a"].left_for == "new"
    world.guests["a"].leases = 1
    world.tick(policy_of())
    assert world.history.models["a"].left_for is None


def test_of_two_ways_to_make_room_the_one_that_has_begun_is_kept_to() -> None:
    world = gpu_world(
        here("dear", 3, drain_s=9.0),
        here("cheap", 3),
        here("large", 6, load_s=9.0),
        guest("new", 11, waits=True),
        total_bytes=14 * GIB,
    )
    policy = policy_of("100%")
    grown_old(world, policy)
    asked(world, policy, "dear", times=2)
    asked(world, policy, "cheap", "large")
    world.drain(("dear",))
    assert unloads(asked(world, policy, "new", times=99)) == ["dear", "large"]


def test_another_model_leaves_instead_when_requests_come_for_one_that_drains() -> None:
    world = two_equals(waits=True)
    assert unloads(asked(world, policy_of(), "new", times=30)) == ["a"]
    assert unloads(asked(world, policy_of(), "a", times=20)) == ["b"]
    assert world.called_off == 1
    world.run(policy_of(), 15)
    assert world.residents() == {"a", "new"}


def test_an_idle_drain_is_called_off_by_a_request() -> None:
    world = gpu_world(here("a", drain_s=5.0, waits=True))
    policy = policy_of(residency={"idle_unload": "60s"})
    world.run(policy, 60)
    assert unloads(world.tick(policy)) == ["a"]
    assert unloads(world.tick(policy)) == ["a"]
    assert unloads(asked(world, policy, "a")) == []
    assert world.run(policy, 30) == 0
    assert world.residents() == {"a"}


def test_over_the_budget_the_one_that_drains_is_kept_to_until_requests_outweigh_another() -> None:
    policy = policy_of(8 * GIB)
    residents = (here(n, 4, drain_s=9.0, waits=True) for n in "abc")
    world = gpu_world(*residents, total_bytes=12 * GIB)
    grown_old(world, policy_of(12 * GIB))
    asked(world, policy_of(12 * GIB), "a", "b", "c")
    assert unloads(world.tick(policy)) == ["a"]
    assert unloads(asked(world, policy, "a")) == ["a"]
    assert unloads(asked(world, policy, "a", times=50)) == ["b"]


def test_a_pin_that_begins_during_a_drain_ends_it() -> None:
    world = two_equals()
    assert unloads(asked(world, policy_of(), "new", times=5)) == ["a"]
    pinned = policy_of(models={"a": {"pin": True}})
    assert unloads(world.tick(pinned)) == ["b"]
    assert world.called_off == 1


def test_who_waits_for_a_victim_does_not_undo_the_swap_when_its_memory_is_free() -> None:
    world = gpu_world(
        here("busy", 10, load_s=4.0, drain_s=3.0, waits=True),
        guest("late", 10, load_s=4.0, waits=True),
    )
    policy = policy_of(residency={"minimum": "20s", "hysteresis": 0})
    for _ in range(60):
        asked(world, policy, "busy")
    asked(world, policy, "busy", "late", times=8)
    order = [name for _ in range(40) for name in loads(asked(world, policy, "busy", times=4))]
    assert order == ["late", "busy"]
    assert world.called_off == 0
    assert {past.left_for for past in world.history.models.values()} == {None}


def test_a_draining_model_is_there_still() -> None:
    world = two_equals(waits=True)
    asked(world, policy_of(), "new", times=50)
    decided = asked(world, policy_of(), "a")
    assert world.drains_now("a")
    assert loads(decided) == []
    assert [hold.subject for hold in decided.holds] == ["new"]
    assert world.history.models["a"].left_at_s is None
