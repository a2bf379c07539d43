"""What the planner promises the front door: who is told not to wait, who waits, and
who comes first."""

from dataclasses import replace

import pytest

from policies.actions import Hold, Reason, Unload, listed
from policies.planner import plan
from policies.policy import Policy
from tests.policies.timeline import (
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
    MONDAY_S,
    READY,
    World,
    gpu_world,
    guest,
    policy_of,
)

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


def order_of_loads(world: World, policy: Policy) -> list[str]:
    return [load.model for _ in range(60) for load in world.tick(policy).loads]


def test_loads_that_queue_come_in_the_order_of_the_waiting_that_they_save() -> None:
    """Whoever came first, and whatever size they are: the memory holds them all."""
    world = gpu_world(
        guest("old", 1, load_s=9.0, waits=True),
        guest("slow", 1, load_s=9.0, waits=True),
        guest("quick", 2, load_s=3.0, waits=True),
        guest("dear", 2, load_s=9.0, waits=True),
    )
    policy = policy_of(
        loads={"concurrent": 1}, front_door={"patience": 5}, models={"dear": {"weight": 9}}
    )
    world.ask("old")
    order = order_of_loads(world, policy)[:1]
    world.ask("slow")
    world.wait(6)
    world.ask("slow", 2)
    world.ask("quick", 2)
    world.ask("dear")
    assert [*order, *order_of_loads(world, policy)] == ["old", "dear", "quick", "slow"]


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
