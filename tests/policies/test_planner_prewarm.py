"""Models that come at regular times are there before their turn, where that costs nobody more."""

from policies.actions import Plan, Reason
from policies.policy import Policy
from tests.policies.timeline import asked, here
from tests.policies.world import World, gpu_world, guest, policy_of

EVERY_S = 600


def turns(world: World, policy: Policy, *names: str, count: int) -> list[Plan]:
    """So many turns of a timer, and a quiet time after each that ends before the next."""
    decided = []
    for _ in range(count):
        decided.append(asked(world, policy, *names))
        decided += [world.tick(policy) for _ in range(EVERY_S - 1)]
    return decided


def foreseen(decided: list[Plan]) -> list[str]:
    loads = [load for plan in decided for load in plan.loads]
    return [load.model for load in loads if load.reason is Reason.FORESEEN]


def test_a_timer_is_loaded_before_its_turn_once_its_times_are_known() -> None:
    world = gpu_world(guest("timer", load_s=5.0))
    policy = policy_of(residency={"idle_unload": "60s"})
    assert foreseen(turns(world, policy, "timer", count=3)) == []
    assert foreseen(turns(world, policy, "timer", count=3)) == ["timer"] * 3
    assert world.residents() == {"timer"}


def test_without_prewarm_it_waits_to_be_asked_for() -> None:
    world = gpu_world(guest("timer", load_s=5.0))
    policy = policy_of(residency={"idle_unload": "60s"}, prewarm=False)
    assert foreseen(turns(world, policy, "timer", count=6)) == []
    assert world.residents() == set()


def test_a_timer_that_has_stopped_is_brought_once_and_not_again() -> None:
    world = gpu_world(guest("timer", load_s=5.0))
    policy = policy_of(residency={"idle_unload": "60s"})
    turns(world, policy, "timer", count=5)
    world.run(policy, 5)
    quiet = [world.tick(policy) for _ in range(2 * EVERY_S)]
    assert foreseen(quiet) == []


def test_nobody_who_is_worth_more_leaves_for_a_model_that_is_only_foreseen() -> None:
    world = gpu_world(guest("timer", 8, load_s=5.0), here("busy", 8, load_s=5.0))
    policy = policy_of(residency={"minimum": 0}, front_door={"patience": "1h"})
    decided = []
    for second in range(6 * EVERY_S):
        if second % EVERY_S == 0:
            world.ask("timer")
        world.ask("busy", 3)
        decided.append(world.tick(policy))
    assert foreseen(decided) == []


def test_an_idle_model_leaves_for_one_that_is_foreseen() -> None:
    world = gpu_world(guest("timer", 8, load_s=5.0), guest("once", 8, load_s=5.0))
    policy = policy_of(residency={"minimum": 0}, front_door={"patience": "0.1s"})
    turns(world, policy, "timer", count=4)
    decided = [asked(world, policy, "timer"), *(world.tick(policy) for _ in range(100))]
    decided.append(asked(world, policy, "once"))
    decided += [world.tick(policy) for _ in range(EVERY_S - 101)]
    assert foreseen(decided) == ["timer"]
    assert world.residents() == {"timer"}
