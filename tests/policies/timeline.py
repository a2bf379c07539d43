"""Words for timelines: what the tests of the planner say over and over."""

from policies.actions import Hold, Plan, Reason
from policies.policy import Policy
from tests.policies.world import (
    READY,
    Guest,
    World,
    guest,
)

HOUR_S = 3600.0


def here(name: str, gib: float = 1.0, **traits: object) -> Guest:
    """A model that is resident from the start."""
    return guest(name, gib, state=READY, **traits)


def ensemble(name: str, *steps: str, **traits: object) -> Guest:
    return guest(name, 0, steps=steps, load_s=0.1, unload_s=0.1, **traits)


def loads(decided: Plan) -> list[str]:
    return [load.model for load in decided.loads]


def unloads(decided: Plan) -> list[str]:
    return [unload.model for unload in decided.unloads]


def hold_of(decided: Plan, subject: str) -> Hold:
    (hold,) = (hold for hold in decided.holds if hold.subject == subject)
    return hold


def reason_of(decided: Plan, subject: str) -> Reason:
    return hold_of(decided, subject).reason


def asked(world: World, policy: Policy, *names: str, times: float = 1) -> Plan:
    """One tick in which requests arrive for ``names``."""
    for name in names:
        world.ask(name, times)
    return world.tick(policy)


def grown_old(world: World, policy: Policy, seconds: float = 60) -> World:
    """The same world after a quiet while, when nobody is young any more."""
    world.run(policy, seconds)
    return world
