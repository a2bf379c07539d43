"""What the planner promises of ensembles and callers."""

from policies.actions import Hold, Load, Reason, Unload
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
    READY,
    gpu_world,
    guest,
    policy_of,
)

# --- ensembles and callers


def test_an_ensemble_brings_its_steps() -> None:
    world = gpu_world(ensemble("e", "s", "t"), guest("s"), guest("t"))
    assert asked(world, policy_of(), "e").actions == (
        Load("e", Reason.DEMANDED, brings=("s", "t", "e")),
    )


def test_a_pinned_ensemble_is_loaded_as_one_and_not_step_by_step() -> None:
    world = gpu_world(ensemble("z", "a", "b"), guest("a"), guest("b"))
    decided = world.tick(policy_of(models={"z": {"pin": True}}))
    assert loads(decided) == ["z"]
    assert decided.holds == ()


def test_steps_of_a_pinned_ensemble_that_cannot_come_are_of_no_use_alone() -> None:
    world = gpu_world(ensemble("z", "a", "b"), guest("a", 6), guest("b", 6))
    decided = world.tick(policy_of(models={"z": {"pin": True}}))
    assert decided.actions == ()
    assert [(h.subject, h.reason) for h in decided.holds] == [("z", Reason.LARGER_THAN_BUDGET)]


def test_an_ensemble_and_its_steps_take_one_load_slot() -> None:
    world = gpu_world(ensemble("e", "s", "t"), guest("s"), guest("t"), guest("a"), guest("b"))
    policy = policy_of(loads={"concurrent": 2})
    asked(world, policy, "e")
    decided = asked(world, policy, "a", "b")
    assert loads(decided) == ["a"]
    assert reason_of(decided, "b") is Reason.WAITING_FOR_LOAD_SLOT


def test_a_member_that_is_pinned_itself_stays_when_its_ensemble_leaves() -> None:
    world = gpu_world(ensemble("d", "s", "t", state=READY), here("s"), here("t"))
    policy = policy_of(models={"d": {"idle_unload": "5m"}, "s": {"pin": True}})
    world.tick(policy)
    world.wait(HOUR_S)
    assert world.tick(policy).actions == (Unload("d", Reason.IDLE, takes=("t",)),)


def test_steps_that_are_asked_for_themselves_come_with_their_ensemble() -> None:
    world = gpu_world(ensemble("z", "a", "b"), guest("a"), guest("b"))
    asked(world, policy_of(loads={"concurrent": 1}), "z")
    world = gpu_world(ensemble("z", "a", "b"), guest("a"), guest("b"))
    world.ask("a", 10)
    assert loads(asked(world, policy_of(), "z", "a")) == ["z"]


def test_an_ensemble_and_its_steps_come_back_as_one_after_a_restart() -> None:
    world = gpu_world(ensemble("z", "a", state=READY), here("a"))
    grown_old(world, policy_of())
    world.restart()
    assert world.tick(policy_of()).actions == (Load("z", Reason.RESTORED, brings=("a", "z")),)


def test_members_are_counted_once() -> None:
    steps = ("s", "s")
    world = gpu_world(ensemble("d", "e", "s"), ensemble("e", *steps), guest("s", 6))
    assert loads(asked(world, policy_of(7 * GIB), "d")) == ["d"]


def test_a_shared_member_is_loaded_by_one_of_its_ensembles_only() -> None:
    world = gpu_world(ensemble("d", "s", "x"), ensemble("e", "s"), guest("s", 4), guest("x", 5))
    policy = policy_of(9 * GIB)
    decided = asked(world, policy, "d", "e")
    assert loads(decided) == ["e"]
    assert hold_of(decided, "d") == Hold("d", Reason.WAITING_FOR_LOAD_SLOT, "s under way")
    world.run(policy, 10)
    assert world.residents() == {"d", "e", "s", "x"}


def test_an_ensemble_leaves_with_the_members_only_it_needs() -> None:
    world = gpu_world(
        ensemble("d", "own", "shared", state=READY),
        ensemble("e", "shared", state=READY),
        here("own"),
        here("shared"),
    )
    policy = policy_of(models={"d": {"idle_unload": "5m"}})
    world.tick(policy)
    world.wait(HOUR_S)
    assert world.tick(policy).actions == (Unload("d", Reason.IDLE, takes=("own",)),)
    world.run(policy, 5)
    assert world.residents() == {"e", "shared"}


def test_a_member_asked_for_on_its_own_stays_when_its_ensemble_leaves() -> None:
    world = gpu_world(ensemble("d", "s", "t", state=READY), here("s"), here("t"))
    policy = policy_of(models={"d": {"idle_unload": "5m"}})
    world.tick(policy)
    world.wait(HOUR_S)
    assert asked(world, policy, "s").actions == (Unload("d", Reason.IDLE, takes=("t",)),)


def test_a_member_of_a_resident_ensemble_is_nobodys_victim() -> None:
    world = gpu_world(ensemble("e", "s", state=READY), here("s", 9), guest("new", 5, waits=True))
    policy = policy_of(models={"e": {"pin": True}})
    grown_old(world, policy)
    decided = asked(world, policy, "new", times=1000)
    assert decided.actions == ()
    assert reason_of(decided, "new") is Reason.PINNED_OUT


def test_a_member_that_a_planned_load_needs_is_nobodys_victim() -> None:
    world = gpu_world(
        here("s", 4), here("z", 4), ensemble("e", "s", "t"), guest("t", 1), guest("new", 4)
    )
    policy = policy_of(9 * GIB, models={"e": {"weight": 1000}})
    grown_old(world, policy)
    decided = asked(world, policy, "e", "new", times=5)
    assert loads(decided) == ["e"]
    assert unloads(decided) == ["z"]


def test_a_victim_leaves_behind_what_its_successor_shares_with_it() -> None:
    world = gpu_world(
        ensemble("d", "s", "x", state=READY),
        here("s", 4),
        here("x", 4),
        ensemble("e", "s", "y", waits=True),
        guest("y", 5),
    )
    grown_old(world, policy_of())
    decided = asked(world, policy_of(), "e", times=9)
    assert decided.actions == (Unload("d", Reason.EVICTED, takes=("x",), for_model="e"),)


def test_requests_of_an_ensemble_are_not_counted_again_at_its_steps() -> None:
    world = gpu_world(ensemble("e", "s", state=READY), here("s"))
    asked(world, policy_of(), "e", "s")
    assert world.history.models["e"].uses == 1
    assert world.history.models["s"].uses == 0


def test_declared_callees_are_loaded_before_their_caller() -> None:
    world = gpu_world(guest("bls"), guest("a"), ensemble("e", "s"), guest("s"))
    policy = policy_of(models={"bls": {"calls": ["a", "e"]}})
    assert asked(world, policy, "bls").actions == (
        Load("bls", Reason.DEMANDED, first=("a", "e"), brings=("a", "s", "e", "bls")),
    )


def test_a_pin_holds_for_what_the_pinned_one_calls() -> None:
    world = gpu_world(here("bls"), here("a", 9), guest("b", 5, waits=True))
    policy = policy_of(models={"bls": {"calls": ["a"], "pin": True}})
    grown_old(world, policy)
    assert asked(world, policy, "b", times=99).actions == ()


def test_stale_steps_need_room_for_a_second_copy() -> None:
    def tried(gib: int, *, stale: bool) -> list[str]:
        world = gpu_world(ensemble("e", "s", "t"), here("s", 4, stale=stale), guest("t", 1))
        return loads(asked(world, policy_of(gib * GIB), "e"))

    assert tried(8, stale=False) == ["e"]
    assert tried(8, stale=True) == []
    assert tried(9, stale=True) == ["e"]


def test_the_second_copy_of_a_stale_step_is_counted_while_it_loads() -> None:
    world = gpu_world(
        ensemble("e", "s"), here("s", 4, stale=True, load_s=20), guest("b", 2), guest("c", 1)
    )
    world.measured = False
    policy = policy_of(9 * GIB, loads={"concurrent": 4})
    asked(world, policy, "e")
    assert reason_of(asked(world, policy, "b"), "b") is Reason.NO_ROOM
    assert loads(asked(world, policy, "c")) == ["c"]
