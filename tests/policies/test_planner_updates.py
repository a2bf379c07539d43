"""What the planner promises when the files of resident models change."""

from itertools import pairwise

from policies.actions import Hold, Load, Plan, Reason, Unload
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
from tests.policies.world import GIB, READY, World, gpu_world, guest, policy_of

BESIDE = Load("a", Reason.UPDATED, copies=("a",))


def settled(world: World, policy: Policy, *names: str) -> Plan:
    """The plan of the moment in which the changed files of ``names`` have been left alone."""
    for name in names:
        world.change(name)
    for _ in range(9):
        assert world.tick(policy).actions == ()
    world.wait(1.0)
    return world.tick(policy)


def updates(world: World, policy: Policy, seconds: int) -> list[tuple[str, Reason]]:
    """All that is loaded or unloaded in so many seconds."""
    done = []
    for _ in range(seconds):
        done += [(action.model, action.reason) for action in world.tick(policy).actions]
    return done


def test_changed_files_come_in_beside_the_old_copy_once_they_have_settled() -> None:
    policy = policy_of()
    world = gpu_world(here("a", 4, load_s=3))
    decided = settled(world, policy, "a")
    assert decided.actions == (BESIDE,)
    assert world.guests["a"].copies == 2
    assert updates(world, policy, 30) == []
    assert world.guests["a"].served == world.guests["a"].revision
    assert world.tick(policy).holds == ()


def test_files_that_go_on_changing_are_left_alone() -> None:
    policy = policy_of()
    world = gpu_world(here("a"))
    for _ in range(8):
        world.change("a")
        assert updates(world, policy, 5) == []
    assert reason_of(world.tick(policy), "a") is Reason.OUTDATED
    assert updates(world, policy, 10) == [("a", Reason.UPDATED)]


def test_what_is_switched_off_is_only_told() -> None:
    policy = policy_of(versions={"roll_in": False})
    world = gpu_world(here("a"))
    world.change("a")
    assert updates(world, policy, 60) == []
    assert hold_of(world.tick(policy), "a").detail.endswith("versions.roll_in is off")


def test_absent_model_with_changed_files_is_no_update() -> None:
    policy = policy_of()
    world = gpu_world(guest("a"))
    world.change("a")
    assert updates(world, policy, 30) == []
    assert asked(world, policy, "a").actions == (Load("a", Reason.DEMANDED, brings=("a",)),)


def test_where_two_copies_do_not_fit_the_old_one_leaves_and_the_new_one_comes_first() -> None:
    policy = policy_of()
    world = gpu_world(here("a", 6), here("b", 3), guest("c", 6, waits=True))
    decided = settled(world, policy, "a")
    assert decided.actions == (Unload("a", Reason.UPDATED),)
    world.ask("c", 9)
    done = updates(world, policy, 2)
    assert done == [("a", Reason.UPDATED)], "though others wait for the memory"
    assert world.guests["a"].served == world.guests["a"].revision


def test_memory_of_a_model_that_drains_for_a_swap_is_kept_for_it() -> None:
    policy = policy_of(loads={"peak_factor": 1.5})
    world = gpu_world(here("a", 4, drain_s=5), here("b", 2), guest("c", 2.5, waits=True))
    settled(world, policy, "a")
    world.ask("c", 1)
    done = [name for name, _ in updates(world, policy, 12)]
    assert done == ["a"] * (len(done) - 1) + ["c"], "though c would fit while a drains"
    assert len(done) > 5
    assert world.guests["a"].served == world.guests["a"].revision


def test_pinned_model_is_swapped_too() -> None:
    policy = policy_of(models={"a": {"pin": True}})
    world = gpu_world(here("a", 6))
    assert settled(world, policy, "a").actions == (Unload("a", Reason.UPDATED),)
    assert loads(world.tick(policy)) == ["a"]


def test_nobody_in_the_middle_of_a_model_loses_it_to_a_swap() -> None:
    policy = policy_of()
    world = gpu_world(here("a", 6, leases=1))
    assert settled(world, policy, "a").actions == ()
    assert reason_of(world.tick(policy), "a") is Reason.OUTDATED
    world.guests["a"].leases = 0
    assert unloads(world.tick(policy)) == ["a"]


def test_stream_on_a_model_does_not_keep_a_new_copy_from_coming_beside_it() -> None:
    policy = policy_of()
    world = gpu_world(here("a", leases=1))
    assert settled(world, policy, "a").actions == (BESIDE,)


def test_new_version_in_many_models_comes_to_one_after_the_other_the_least_asked_first() -> None:
    policy = policy_of(versions={"settle": "30s"})
    world = gpu_world(*(here(f"m{i}", load_s=4) for i in range(4)))
    for name, times in (("m0", 5), ("m1", 9), ("m2", 1)):
        asked(world, policy, name, times=times)
    for name in world.guests:
        world.change(name)
    most = 0
    done = []
    for _ in range(80):
        done += loads(world.tick(policy))
        most = max(most, sum(each.copies for each in world.guests.values()))
    assert done == ["m3", "m2", "m0", "m1"]
    assert most == 5


def test_what_requests_wait_for_comes_before_changed_files() -> None:
    policy = policy_of(loads={"concurrent": 1})
    world = gpu_world(here("a"), guest("b", load_s=5, waits=True))
    world.change("a")
    updates(world, policy, 9)
    world.wait(1.0)
    world.ask("b")
    assert loads(world.tick(policy)) == ["b"]
    assert updates(world, policy, 8) == [("a", Reason.UPDATED)]


def test_refused_files_leave_the_old_copy_and_are_tried_again_by_their_back_off() -> None:
    policy = policy_of(loads={"backoff": {"initialisation": {"first": "20s", "factor": 2}}})
    world = gpu_world(here("a", load_s=3, fails=99))
    settled(world, policy, "a")
    tries: list[int] = []
    said: list[Hold] = []
    for second in range(200):
        decided = world.tick(policy)
        tries += [second] * len(loads(decided))
        said += decided.holds
        assert world.residents() == {"a"}
    assert {hold.reason for hold in said} == {Reason.UPDATE_REFUSED}
    assert all("it broke" in hold.detail for hold in said)
    assert len(said) > 180
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert len(tries) == 3
    assert gaps == sorted(gaps)
    assert gaps[0] >= 40


def test_refused_files_that_change_again_are_tried_at_once() -> None:
    policy = policy_of(loads={"backoff": {"initialisation": {"first": "1h", "max": "1h"}}})
    world = gpu_world(here("a", load_s=1, fails=1))
    settled(world, policy, "a")
    assert updates(world, policy, 60) == []
    assert settled(world, policy, "a").actions == (BESIDE,)


def test_swap_that_fails_is_rolled_back_and_not_tried_again_for_the_same_files() -> None:
    policy = policy_of(loads={"backoff": {"initialisation": {"first": "10s", "factor": 1}}})
    world = gpu_world(here("a", 6, reverts=True))
    settled(world, policy, "a")
    world.guests["a"].fails = 1
    done = updates(world, policy, 6)
    assert done == [("a", Reason.UPDATED), ("a", Reason.ROLLED_BACK)]
    assert world.residents() == {"a"}
    assert updates(world, policy, 600) == []
    assert reason_of(world.tick(policy), "a") is Reason.UPDATE_REFUSED
    assert settled(world, policy, "a").actions == (Unload("a", Reason.UPDATED),)
    updates(world, policy, 5)
    assert world.guests["a"].served == world.guests["a"].revision


def test_swap_of_files_written_over_in_place_has_nothing_to_go_back_to() -> None:
    policy = policy_of(loads={"backoff": {"initialisation": {"first": "10s", "factor": 1}}})
    world = gpu_world(here("a", 6))
    settled(world, policy, "a")
    world.guests["a"].fails = 1
    assert updates(world, policy, 9) == [("a", Reason.UPDATED)]
    assert reason_of(world.tick(policy), "a") is Reason.BACKING_OFF
    assert updates(world, policy, 20) == [("a", Reason.UPDATED)]
    assert world.residents() == {"a"}


def test_broken_files_in_many_models_take_no_second_one_out_of_service() -> None:
    policy = policy_of(horizon="5m")
    world = gpu_world(here("a", 5, fails=99), here("b", 5, fails=99))
    settled(world, policy, "a", "b")
    updates(world, policy, 200)
    assert world.residents() == {"b"}


def test_step_of_an_ensemble_comes_beside_and_is_never_swapped() -> None:
    policy = policy_of()
    world = gpu_world(here("a", 3), here("b", 1), ensemble("x", "a", "b", state=READY))
    decided = settled(world, policy, "a")
    assert decided.actions == (BESIDE,)
    world = gpu_world(here("a", 6), here("b", 1), ensemble("x", "a", "b", state=READY))
    assert settled(world, policy, "a").actions == ()
    assert "beside what is there" in hold_of(world.tick(policy), "a").detail


def test_outdated_ensemble_brings_its_outdated_steps() -> None:
    policy = policy_of()
    world = gpu_world(here("a", 2), here("b", 2), ensemble("x", "a", "b", state=READY))
    decided = settled(world, policy, "a", "x")
    assert decided.actions == (Load("x", Reason.UPDATED, copies=("a", "x")),)
    assert hold_of(decided, "a").detail == "comes with x"
    assert updates(world, policy, 30) == []


def test_second_copy_is_never_evicted_nor_promised_away() -> None:
    policy = policy_of(residency={"minimum": 0})
    world = gpu_world(here("a", 4, load_s=30), guest("b", 4, waits=True))
    world.measured = False
    settled(world, policy, "a")
    world.ask("b", 50)
    assert updates(world, policy, 20) == []
    assert world.reserved(policy, "GPU-0") == 8 * GIB


def test_old_copy_has_its_memory_until_it_is_gone() -> None:
    policy = policy_of()
    world = gpu_world(here("a", 4, load_s=2, unload_s=20), guest("b", 4, waits=True))
    world.measured = False
    settled(world, policy, "a")
    world.wait(2)
    assert world.guests["a"].copies == 1
    world.ask("b")
    assert reason_of(world.tick(policy), "b") is Reason.WAITING_FOR_UNLOAD
    assert updates(world, policy, 16) == []
    assert updates(world, policy, 5) == [("b", Reason.DEMANDED)]


def test_ensemble_waits_for_a_step_of_which_a_new_copy_comes() -> None:
    policy = policy_of(loads={"concurrent": 4})
    x = ensemble("x", "a", "b", waits=True)
    world = gpu_world(here("a", 2, load_s=5), here("b", 1), x)
    settled(world, policy, "a")
    world.ask("x")
    assert reason_of(world.tick(policy), "x") is Reason.WAITING_FOR_LOAD_SLOT
    assert updates(world, policy, 8) == [("x", Reason.DEMANDED)]


def test_swap_for_which_others_must_go_makes_room_only_if_that_pays() -> None:
    policy = policy_of(residency={"minimum": 0}, loads={"peak_factor": 1.5})
    world = grown_old(gpu_world(here("a", 6), here("b", 4)), policy)
    asked(world, policy, "a", times=9)
    assert settled(world, policy, "a").actions == (Unload("b", Reason.EVICTED, for_model="a"),)
    assert updates(world, policy, 6) == [("a", Reason.UPDATED)] * 2
