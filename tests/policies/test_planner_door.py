"""What the planner promises the front door: leases, drains, and who is told not to wait."""

from dataclasses import replace

import pytest

from policies.actions import Hold, Reason, Unload, listed
from policies.history import History
from policies.planner import plan
from policies.snapshot import Device, Footprint, FootprintSource, Model, Snapshot
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
    GIB,
    GPU,
    MONDAY_S,
    READY,
    Guest,
    World,
    gpu_world,
    guest,
    policy_of,
)


def ensemble(name: str, *steps: str, **traits: object) -> Guest:
    return guest(name, 0, steps=steps, load_s=0.1, unload_s=0.1, **traits)


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


# --- who is told not to wait


def test_the_reasons_for_which_waiting_is_of_no_use() -> None:
    assert {reason for reason in Reason if reason.turns_away} == {
        Reason.LARGER_THAN_BUDGET,
        Reason.FOOTPRINT_UNKNOWN,
        Reason.BUDGET_UNKNOWN,
        Reason.NOT_IN_REPOSITORY,
        Reason.BACKING_OFF,
        Reason.PINNED_OUT,
    }


def test_a_few_names_stand_for_many() -> None:
    assert listed("cab") == "a, b, c"
    assert listed(f"m{i}" for i in range(10)) == "m0, m1, m2 and 7 more"


def test_what_pins_shut_out_is_told_while_they_are_on_their_way() -> None:
    world = gpu_world(*(guest(n, 2, load_s=9) for n in "pqrs"), guest("b", 3, waits=True))
    pins = {name: {"pin": True} for name in "pqrs"}
    policy = policy_of(loads={"concurrent": 4}, models=pins)
    decided = asked(world, policy, "b")
    assert loads(decided) == ["p", "q", "r", "s"]
    assert hold_of(decided, "b") == Hold(
        "b", Reason.PINNED_OUT, "memory is taken by pinned models (p, q, r and 1 more)"
    )
    assert reason_of(world.tick(policy), "b") is Reason.PINNED_OUT
    world.run(policy, 10)
    assert unloads(world.tick(policy_of(residency={"minimum": 0}))) != []


def test_what_would_fit_beside_the_pins_waits_for_room() -> None:
    world = gpu_world(here("p", 6), here("old", 4, leases=1), guest("b", 4, waits=True))
    decided = asked(world, policy_of(models={"p": {"pin": True}}), "b")
    assert reason_of(decided, "b") is Reason.NO_ROOM


def test_a_pin_that_cannot_be_met_shuts_nobody_out() -> None:
    world = gpu_world(guest("p", 12), here("old", 8), guest("b", 8, waits=True))
    policy = policy_of(models={"p": {"pin": True}})
    grown_old(world, policy)
    decided = asked(world, policy, "b", times=9)
    assert reason_of(decided, "p") is Reason.LARGER_THAN_BUDGET
    assert unloads(decided) == ["old"]


def test_of_two_pins_that_exclude_each_other_one_comes_and_the_other_is_told() -> None:
    world = gpu_world(guest("p", 6), guest("q", 6))
    policy = policy_of(models={"p": {"pin": True}, "q": {"pin": True}})
    decided = world.tick(policy)
    assert loads(decided) == ["p"]
    assert reason_of(decided, "q") is Reason.PINNED_OUT
    world.run(policy, 10)
    assert reason_of(world.tick(policy), "q") is Reason.PINNED_OUT


def test_members_that_are_pinned_are_counted_once() -> None:
    policy = policy_of(models={"s": {"pin": True}})

    def tried(gib: float) -> list[str]:
        world = gpu_world(here("s", 6), ensemble("e", "s", "t"), guest("t", gib))
        return [*loads(decided := asked(world, policy, "e")), *(h.reason for h in decided.holds)]

    assert tried(4) == ["e"]
    assert tried(5) == [Reason.LARGER_THAN_BUDGET]


def test_room_that_loads_under_way_take_is_waited_for() -> None:
    world = gpu_world(guest("slow", 8, load_s=50), guest("b", 8, waits=True))
    asked(world, policy_of(), "slow")
    assert hold_of(asked(world, policy_of(), "b"), "b") == Hold(
        "b", Reason.NO_ROOM, "memory is taken by loads under way (slow)"
    )


def test_the_moment_from_which_waiting_makes_a_swap_pay_is_said_and_kept() -> None:
    world = gpu_world(here("hot", 10, load_s=4.0), guest("b", 10, waits=True))
    policy = policy_of(residency={"minimum": 0})
    for _ in range(30):
        asked(world, policy, "hot")
    decided = asked(world, policy, "b")
    pays_at_s = hold_of(decided, "b").retry_at_s
    assert pays_at_s is not None
    while not unloads(asked(world, policy, "hot")):
        pass
    assert world.now_s - 1 == pytest.approx(pays_at_s, abs=2.5)
    assert world.now_s - MONDAY_S > 35


def test_where_waiting_counts_for_nothing_that_moment_is_when_patience_ends() -> None:
    world = gpu_world(here("hot", 10), guest("b", 10, waits=True))
    policy = policy_of(ranking="lfu", front_door={"patience": "20s"})
    grown_old(world, policy)
    asked(world, policy, "hot", times=9)
    world.ask("b")
    came_s = world.now_s
    hold = hold_of(world.tick(policy), "b")
    assert (hold.reason, hold.retry_at_s) == (Reason.SWAP_DOES_NOT_PAY, came_s + 20)


@pytest.mark.parametrize("ranking", ["expected-cold", "lfu", "lru", "greedy-dual"])
@pytest.mark.parametrize("patience_s", [20, 40])
def test_one_request_does_not_wait_for_ever_however_busy_the_resident_is(
    ranking: str, patience_s: int
) -> None:
    world = gpu_world(here("hot", 10, load_s=4.0), guest("b", 10, waits=True))
    policy = policy_of(ranking=ranking, front_door={"patience": patience_s})
    grown_old(world, policy)
    asked(world, policy, "hot", times=500)
    came_s = world.now_s
    decided = asked(world, policy, "hot", "b")
    while not unloads(decided):
        decided = asked(world, policy, "hot", times=50)
    assert world.now_s - 1 - came_s == patience_s
    assert unloads(decided) == ["hot"]


def test_patience_moves_neither_pins_nor_the_young() -> None:
    world = gpu_world(guest("young", 6), here("pinned", 4), guest("b", 6, waits=True))
    policy = policy_of(
        models={"pinned": {"pin": True}},
        residency={"minimum": 300},
        front_door={"patience": 20},
    )
    asked(world, policy, "young")
    world.run(policy, 3)
    world.ask("b")
    for _ in range(100):
        assert unloads(asked(world, policy, "young")) == []
    assert reason_of(world.tick(policy), "b") is Reason.MINIMUM_RESIDENCY


def test_of_those_whose_patience_has_ended_the_first_who_came_is_first() -> None:
    world = gpu_world(
        here("hot", 10, load_s=9.0), guest("first", 10, waits=True), guest("dear", 10, waits=True)
    )
    policy = policy_of(
        front_door={"patience": 10}, models={"dear": {"weight": 100}, "hot": {"weight": 1000}}
    )
    grown_old(world, policy)
    asked(world, policy, "hot", times=500)
    world.ask("first")
    asked(world, policy, "hot", times=50)
    world.ask("dear")
    loaded: list[str] = []
    while not loaded:
        loaded = loads(asked(world, policy, "hot", times=50))
    assert loaded == ["first"]


# --- who comes back first


def test_after_a_restart_those_who_are_waited_for_come_first_in_order_of_worth() -> None:
    policy = policy_of(loads={"concurrent": 1})
    world = gpu_world(*(here(n, 2, waits=True) for n in ("few", "many", "none", "quiet")))
    asked(world, policy, "none", times=50)
    grown_old(world, policy)
    world.restart()
    world.ask("few", 1)
    world.ask("many", 9)
    order = [(load.model, load.reason) for _ in range(20) for load in world.tick(policy).loads]
    assert order == [
        ("many", Reason.DEMANDED),
        ("few", Reason.DEMANDED),
        ("none", Reason.RESTORED),
        ("quiet", Reason.RESTORED),
    ]


def test_an_arrival_at_the_door_is_one_use_however_long_it_waits() -> None:
    world = gpu_world(here("p", 10), guest("a", 1, waits=True))
    policy = policy_of(models={"p": {"pin": True}})
    asked(world, policy, "a")
    world.run(policy, 30)
    assert world.history.models["a"].uses == 1


# --- what is inside


def test_a_request_that_is_counted_inside_is_use_and_the_tail_of_an_estimate_is_none() -> None:
    def idle_unloads(**inside: object) -> int:
        world = gpu_world(here("a"))
        policy, left = policy_of(residency={"idle_unload": "60s"}), 0
        for _ in range(61):
            snapshot = world.snapshot()
            busy = replace(snapshot.models["a"], **inside)  # type: ignore[arg-type]
            decided = plan(policy, replace(snapshot, models={"a": busy}), world.history)
            world.history, left = decided.history, left + len(unloads(decided))
            world.wait(1)
        return left

    assert idle_unloads(in_flight=1.0, in_flight_counted=True) == 0
    assert idle_unloads(in_flight=1.2) == 0
    assert idle_unloads(in_flight=0.0003) == 1
    assert idle_unloads(in_flight=float("nan"), in_flight_counted=True) == 1
    assert idle_unloads() == 1


def test_what_an_ensemble_has_inside_is_no_use_of_its_steps() -> None:
    world = gpu_world(ensemble("e", "s", state=READY), here("s", 10), guest("b", 10, waits=True))
    policy = policy_of(residency={"minimum": 0})
    snapshot = world.snapshot()
    busy = {
        name: replace(snapshot.models[name], in_flight=2.0, arrivals=2.0) for name in ("e", "s")
    }
    world.history = plan(
        policy, replace(snapshot, models={**snapshot.models, **busy}), world.history
    ).history
    assert world.history.models["s"].last_use_s is None
    world.wait(1)
    assert asked(world, policy, "b", times=99).actions == (
        Unload("e", Reason.EVICTED, takes=("s",), for_model="b"),
    )
