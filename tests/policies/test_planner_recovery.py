"""What the planner promises after restarts, outsiders and deaths."""

from dataclasses import replace

from policies.actions import Hold, Reason, Unload
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
    LOADING,
    READY,
    UNLOADING,
    gpu_world,
    guest,
    policy_of,
)

# --- restarts, and somebody else's hand


def test_what_was_resident_comes_back_after_a_restart_in_order_of_worth() -> None:
    policy = policy_of(loads={"concurrent": 1})
    world = gpu_world(here("a", 3), here("b", 3), here("c", 3))
    for times, name in ((9, "b"), (3, "c"), (1, "a")):
        asked(world, policy, name, times=times)
    world.wait(HOUR_S)
    world.restart()
    order: list[str] = []
    reasons = set()
    for _ in range(12):
        decided = world.tick(policy)
        order += loads(decided)
        reasons |= {load.reason for load in decided.loads}
    assert order == ["b", "c", "a"]
    assert reasons == {Reason.RESTORED}


def test_what_is_restored_takes_free_room_only() -> None:
    policy = policy_of()
    world = grown_old(gpu_world(here("a", 6)), policy)
    world.restart()
    world.guests["b"] = here("b", 6)
    decided = world.tick(policy)
    assert decided.actions == ()
    assert reason_of(decided, "a") is Reason.NO_ROOM


def test_restoring_is_given_up_after_the_horizon() -> None:
    policy = policy_of(horizon="1m")
    world = grown_old(gpu_world(here("a", 6)), policy)
    world.restart()
    world.guests["b"] = here("b", 6)
    holds = [bool(world.tick(policy).holds) for _ in range(62)]
    assert holds == [True] * 61 + [False]


def test_what_somebody_else_unloads_is_not_brought_back() -> None:
    policy = policy_of()
    world = grown_old(gpu_world(here("a")), policy)
    world.unload("a")
    assert world.run(policy, 20) == 0
    assert world.residents() == set()


def test_devices_over_their_budget_are_relieved_of_the_least_worth() -> None:
    policy = policy_of(8 * GIB)
    world = gpu_world(here("a", 4), here("b", 4))
    asked(world, policy, "a")
    world.guests["c"] = here("c", 3, load_s=20)
    decided = asked(world, policy, "c")
    assert decided.actions == (Unload("b", Reason.OVER_BUDGET),)


def test_a_device_that_pins_overfill_is_named() -> None:
    world = gpu_world(here("p", 6))
    decided = world.tick(policy_of(4 * GIB, models={"p": {"pin": True}}))
    assert decided.actions == ()
    assert hold_of(decided, GPU) == Hold(
        GPU, Reason.OVER_BUDGET, "pinned models and loads exceed the budget by 2 GiB"
    )


def test_memory_lost_to_others_is_not_promised() -> None:
    world = gpu_world(guest("a", 5))
    world.foreign[GPU] = 6 * GIB
    policy = policy_of(restart_above="100%")
    assert hold_of(asked(world, policy, "a"), "a") == Hold(
        "a", Reason.DEVICE_OVERUSED, "memory is used by more than the models accounted for"
    )
    world.foreign[GPU] = 5 * GIB
    assert loads(world.tick(policy)) == ["a"]


def test_a_restart_is_advised_above_the_limit_of_lost_memory() -> None:
    world = gpu_world(here("a", 2))
    world.foreign[GPU] = 3 * GIB
    assert world.tick(policy_of(restart_above="4GiB")).holds == ()
    assert hold_of(world.tick(policy_of(restart_above="2GiB")), GPU) == Hold(
        GPU, Reason.RESTART_ADVISED, "3 GiB used beyond the models; limit 2 GiB"
    )


def test_no_restart_is_advised_for_what_may_be_a_resident_of_unknown_size() -> None:
    world = gpu_world(here("a", 2), here("b", 4, known_size=False))
    assert world.tick(policy_of(restart_above="2GiB")).holds == ()


def test_no_restart_is_advised_while_models_move() -> None:
    world = gpu_world(here("a", 2), guest("b", 1, load_s=30))
    world.foreign[GPU] = 3 * GIB
    policy = policy_of(restart_above="2GiB")
    asked(world, policy, "b")
    assert world.guests["b"].state is LOADING
    assert world.tick(policy).holds == ()


# --- sick models


def test_a_sick_model_heals_by_unload_and_load_though_it_is_pinned() -> None:
    policy = policy_of(models={"p": {"pin": True}})
    world = grown_old(gpu_world(here("p", unload_s=2)), policy)
    world.sicken("p")
    assert world.tick(policy).actions == (Unload("p", Reason.SICK),)
    world.run(policy, 10)
    assert world.residents() == {"p"}
    assert not world.guests["p"].sick


def test_a_sick_model_comes_back_though_nobody_asks_for_it() -> None:
    world = grown_old(gpu_world(here("a")), policy_of())
    world.sicken("a")
    reasons = [load.reason for _ in range(10) for load in world.tick(policy_of()).loads]
    assert reasons == [Reason.HEALED]
    assert world.residents() == {"a"}


def test_a_stuck_unload_is_loaded_over() -> None:
    policy = policy_of(unloads={"stuck": "15s"})
    world = grown_old(gpu_world(here("a", 6, load_s=1.0)), policy)
    world.sicken("a", hangs=True)
    begun_s = world.now_s
    assert unloads(world.tick(policy)) == ["a"]
    while not loads(world.tick(policy)):
        assert world.guests["a"].state is UNLOADING
    assert world.now_s - begun_s == 17
    assert world.residents() == {"a"}
    assert world.reserved(policy, GPU) == 6 * GIB


def test_a_model_that_keeps_dying_is_left_alone_for_a_while() -> None:
    policy = policy_of()
    world = grown_old(gpu_world(here("a")), policy)
    healed = 0
    for _ in range(120):
        if world.guests["a"].state is READY and not world.guests["a"].sick:
            world.sicken("a")
        healed += len(unloads(world.tick(policy)))
    assert 2 <= healed <= 6
    assert reason_of(world.tick(policy), "a") is Reason.BACKING_OFF


def test_a_stuck_victim_is_loaded_over_to_get_its_memory_back() -> None:
    policy = policy_of(models={"p": {"pin": True}})
    world = grown_old(gpu_world(here("a", 10)), policy)
    has_died_before = replace(world.history.models["a"], failures=1)
    world.history = replace(world.history, models={"a": has_died_before})
    world.sicken("a", hangs=True)
    assert reason_of(world.tick(policy), "a") is Reason.BACKING_OFF
    world.guests["p"] = guest("p", 5)
    assert world.tick(policy).actions == (Unload("a", Reason.EVICTED, for_model="p"),)
    world.run(policy, 60)
    assert world.residents() == {"p"}


def test_callers_of_a_sick_member_leave_and_come_back_with_it() -> None:
    world = gpu_world(here("m"), here("e", 0, steps=("m",)))
    policy = policy_of(models={"e": {"pin": True}})
    grown_old(world, policy)
    world.sicken("m")
    assert unloads(world.tick(policy)) == ["e", "m"]
    world.run(policy, 10)
    assert world.residents() == {"e", "m"}
