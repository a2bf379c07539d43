"""What holds whenever files change: on worlds in which they do all the time."""

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.actions import Reason
from policies.policy import Policy
from policies.snapshot import Snapshot
from tests.policies.drawn import REPEATABLE
from tests.policies.promises import (
    check_engaged,
    check_patience,
    check_pins,
    check_shape,
    check_updates,
)
from tests.policies.timeline import ensemble
from tests.policies.world import GIB, GPU, READY, World, gpu_world, guest, policy_of

NAMES = ("m0", "m1", "m2", "m3", "pair")
EVENTS = ("ask", "ask", "ask", "change", "change", "fail", "stream", "end", "restart")


def drawn(chance: Random) -> World:
    """Four models and an ensemble of the last two, none of them loaded."""
    singles = [
        guest(
            name,
            chance.randint(1, 4),
            waits=True,
            reverts=chance.random() < 0.5,
            drain_s=chance.choice((0.0, 2.5)),
            load_s=6.0,
            unload_s=3.0,
        )
        for name in NAMES[:-1]
    ]
    world = gpu_world(*singles, ensemble("pair", "m2", "m3", waits=True))
    world.measured = chance.random() < 0.5
    return world


def policy_with(budget_gib: int) -> Policy:
    return policy_of(
        budget_gib * GIB,
        loads={"peak_factor": 1.25},
        models={"m1": {"pin": True}},
        residency={"minimum": 0, "cooldown": 0},
        versions={"settle": "2s"},
    )


def happens(world: World, what: str, name: str) -> None:
    chosen = world.guests[name]
    if what == "ask":
        world.ask(name)
    elif what == "change":
        world.change(name)
    elif what == "fail":
        chosen.fails = 1
    elif what == "restart" and name == NAMES[0]:
        world.restart()
    elif what == "stream" and chosen.state is READY and not world.drains_now(name):
        chosen.leases = 1
    elif what == "end":
        for each in world.guests.values():
            each.leases = 0


def look(world: World, policy: Policy, seconds: float, done: Counter[Reason]) -> None:
    """One tick, and all that must hold of it; a third copy is an error of the world's own."""
    seen: Snapshot = world.snapshot()
    decided = world.tick(policy, 0.0)
    check_pins(policy, seen, decided)
    check_engaged(seen, decided)
    check_shape(decided)
    check_patience(seen, decided)
    check_updates(policy, seen, decided)
    done.update(action.reason for action in decided.actions)
    assert world.reserved(policy, GPU) <= policy.budget
    world.wait(seconds)
    assert world.reserved(policy, GPU) <= policy.budget


def test_promises_hold_however_files_change() -> None:
    done: Counter[Reason] = Counter()

    # All is drawn from one number: lists that hypothesis makes up are mostly short and alike.
    @settings(REPEATABLE, max_examples=40)
    @given(seed=st.integers(0, 2**32))
    def they_hold(seed: int) -> None:
        chance = Random(seed)
        world, policy = drawn(chance), policy_with(chance.choice((6, 10)))
        for _ in range(50):
            happens(world, chance.choice(EVENTS), chance.choice(NAMES))
            look(world, policy, chance.choice((1.0, 2.0, 3.0, 12.0)), done)
        for chosen in world.guests.values():
            chosen.fails = chosen.leases = 0
        for seconds in (60.0, 61.0) * 12:
            look(world, policy, seconds, done)
        decided = world.tick(policy)
        assert decided.actions == ()
        held = {hold.subject for hold in decided.holds}
        behind = {n for n, g in world.guests.items() if g.state is READY and g.served != g.revision}
        assert behind <= held, "who serves from other files than lie there, is told of"

    they_hold()
    assert {Reason.UPDATED, Reason.ROLLED_BACK, Reason.DEMANDED, Reason.EVICTED} <= done.keys()
