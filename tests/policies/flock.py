"""Several imagined Tritons whose sidecars hear of each other, behind a router by model.

Owns who is heard of and where requests go: to the first pod of a model's order among those that the
router knows. Each pod decides alone, by the production plan, from what it has heard by then.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.actions import Plan
from policies.demand import rates
from policies.peers import Fleet, Peer, per_hour
from policies.places import Places
from policies.policy import Policy
from tests.policies.world import World

ROUTED: Mapping[str, object] = {"routing": "by-model"}


@dataclass(slots=True)
class Member:
    """One pod. gone: dead, or out of reach of the others' gossip and of the router."""

    name: str
    world: World
    fleet: Fleet
    decided: list[Plan] = field(default_factory=list)
    gone: bool = False

    def told(self, policy: Policy) -> Peer:
        history, now_s = self.world.history, self.world.now_s
        residents = frozenset(self.world.residents())
        asked = {
            name: hourly
            for name, past in history.models.items()
            if name in residents and (hourly := per_hour(max(rates(policy, past, now_s))))
        }
        place = self.fleet.place
        return Peer(self.name, place, residents, leaving=self.world.leaving, asked=asked)


@dataclass(slots=True)
class Flock:
    """hushed: nobody hears of anybody any more, as when the broker is away for long."""

    policy: Policy
    members: list[Member] = field(default_factory=list)
    hushed: bool = False

    def join(self, world: World) -> Member:
        name = f"pod-{len(self.members)}"
        member = Member(name, world, Fleet(f"10.0.0.{len(self.members)}:9482"))
        if self.members:
            world.now_s = self.members[0].world.now_s
        self.members.append(member)
        return member

    def home(self, model: str) -> Member:
        """Where the router sends requests for ``model``."""
        here = {m.fleet.place: m for m in self.members if not (m.gone or m.world.leaving)}
        first = Places.of(here).first(model)
        assert first is not None, "the router knows no pod"
        return here[first]

    def ask(self, model: str, requests: float = 1.0) -> None:
        self.home(model).world.ask(model, requests)

    def tick(self, seconds: float = 1.0) -> None:
        """Everybody hears, then everybody decides."""
        here = [member for member in self.members if not member.gone]
        said = [] if self.hushed else [member.told(self.policy) for member in here]
        for member in here:
            fleet = member.fleet
            fleet.leave(leaving=member.world.leaving)
            for name in {*fleet.peers} - {peer.name for peer in said}:
                fleet.gone(name)
            for peer in said:
                if peer.name != member.name and peer != fleet.peers.get(peer.name):
                    fleet.heard(peer)
            member.world.copies = dict(fleet.copies(member.world.guests))
        for member in here:
            member.decided.append(member.world.tick(self.policy, seconds))

    def run(self, seconds: int, demand: Mapping[str, float] | None = None) -> None:
        for second in range(seconds):
            for model, every_s in (demand or {}).items():
                if second % every_s == 0:
                    self.ask(model)
            self.tick()

    def holders(self, model: str) -> list[str]:
        return [m.name for m in self.members if not m.gone and model in m.world.residents()]
