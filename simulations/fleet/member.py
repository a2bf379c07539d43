"""One pod of the fleet: from when it runs until it is gone, and what came of its requests.

Owns that life, and what its sidecar knows of its peers. What happens inside is the simulated pod's
(`simulations.pod`), on a clock that begins when it runs; it knows a model once it is asked for it,
or once it is among the pods that the model's requests are sent to. Refuses to know how gossip
travels (`simulations.fleet.broker`) and who sends requests here.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import numpy as np

from policies.demand import rates
from policies.peers import Fleet, Peer, per_hour
from policies.places import Places
from policies.policy import Policy
from policies.snapshot import Model, ModelState
from simulations.outcome import Stay
from simulations.pod.run import Pod
from simulations.pod.spec import PodSpec
from simulations.pod.tally import Cold
from simulations.scaling.replica import Requests
from simulations.workloads.arrivals import Arrivals, Workload, joined
from simulations.workloads.catalogue import Catalogue

SentTo = Callable[[Places], Mapping[str, AbstractSet[str]]]
PORT = 9482
_NOTHING = Cold()


@dataclass(frozen=True, slots=True)
class World:
    """What all pods have in common. workload: its models' names; it has no arrivals."""

    workload: Workload
    catalogue: Catalogue
    policy: Policy
    pod: PodSpec
    seed: int


@dataclass(slots=True, eq=False)
class Member:
    """Times are the fleet's. began_s: when it began to run. ready_s: from when on requests are
    sent here; leaving_s: since when it says that it leaves; gone_s: when it was no more.

    fleet: what its sidecar has heard of its peers; None where it does not gossip.
    residents: the models that its latest tick found READY.
    """

    number: int
    world: World
    began_s: float
    ready_s: float
    fleet: Fleet | None = None
    leaving_s: float | None = None
    gone_s: float | None = None
    residents: set[str] = field(default_factory=set)
    residents_changed: bool = False
    stays: tuple[Stay, ...] = ()
    warm: Cold = _NOTHING
    cold: Cold = _NOTHING
    requests: Requests | None = None
    _pod: Pod = field(init=False)
    _taken: list[Arrivals] = field(default_factory=list)
    _stale: set[str] = field(default_factory=set)
    _all_stale: bool = True
    _sent_here: AbstractSet[str] = frozenset()

    def __post_init__(self) -> None:
        world = self.world
        spec = replace(world.pod, epoch_s=world.pod.epoch_s + self.began_s)
        self._pod = Pod(
            world.workload,
            world.catalogue,
            world.policy,
            spec,
            world.seed + self.number,
            keep_stays=True,
            on_look=self._looked,
            known=(),
        )

    @property
    def name(self) -> str:
        return f"pod-{self.number}"

    @property
    def place(self) -> str:
        """What the gateway knows it by."""
        high, low = divmod(self.number, 250)
        return f"10.0.{high}.{low + 1}:{PORT}"

    @property
    def is_here(self) -> bool:
        return self.gone_s is None

    @property
    def is_leaving(self) -> bool:
        return self.leaving_s is not None

    def told(self) -> Peer:
        """What it says of itself."""
        free_bytes = self._pod.free_bytes
        residents, leaving = frozenset(self.residents), self.is_leaving
        return Peer(self.name, self.place, residents, None, free_bytes, leaving, self._asked())

    def _asked(self) -> dict[str, int]:
        policy, history = self.world.policy, self._pod.history
        return {
            name: hourly
            for name in self.residents
            if (past := history.models.get(name)) is not None
            and (hourly := per_hour(max(rates(policy, past, history.at_s or 0.0))))
        }

    # Its life.

    def take(self, block: Arrivals) -> None:
        """Requests that the router sends here."""
        self._taken.append(block)
        self._pod.arrive(replace(block, time_s=block.time_s - self.began_s))

    def until(self, now_s: float) -> None:
        self._pod.until(now_s - self.began_s)

    def inside(self, now_s: float) -> int:
        return self._pod.inside(now_s - self.began_s)

    def serves(self, model: str) -> bool:
        return model in self.residents

    def leave(self, now_s: float) -> None:
        """It is told to end, and says so."""
        self.leaving_s = now_s
        self._pod.leave()
        if self.fleet is not None:
            self.fleet.leave(leaving=True)
            self._all_stale = True

    def warmed_up(self) -> None:
        """What has come of requests until now does not count."""
        self.warm = self._pod.cold

    def end(self, now_s: float, *, gone: bool) -> None:
        """It is gone, and what is inside gets no answer; or the run is over, and it does."""
        outcome = self._pod.finish(now_s - self.began_s)
        cold, warm = self._pod.cold, self.warm
        self.cold = Cold(
            cold.requests - warm.requests,
            cold.starts - warm.starts,
            cold.visible_s - warm.visible_s,
        )
        taken = joined(self._taken)
        wait_s = np.full(len(taken), np.inf)
        wait_s[outcome.served] = outcome.wait_s
        if gone:
            self.gone_s = now_s
            wait_s[taken.time_s + wait_s > now_s] = np.inf
        self.requests = Requests(taken.time_s, wait_s)
        inside_s = now_s - self.began_s
        self.stays = tuple(
            Stay(
                stay.model,
                stay.from_s + self.began_s,
                stay.ready_s + self.began_s if stay.ready_s < inside_s else now_s,
                stay.to_s + self.began_s if stay.to_s < inside_s else now_s,
            )
            for stay in outcome.stays
            if stay.from_s < inside_s
        )
        self._taken = []
        del self._pod

    # What its sidecar knows of others.

    def hears(self, peer: Peer) -> None:
        assert self.fleet is not None, "who does not gossip hears nobody"
        before = self.fleet.peers.get(peer.name)
        self.fleet.heard(peer)
        if before is None or (before.place, before.leaving) != (peer.place, peer.leaving):
            self._all_stale = True
        else:
            if before.residents is not peer.residents:
                self._stale |= before.residents ^ peer.residents
            if before.asked is not peer.asked:
                self._stale |= dict(before.asked.items() ^ peer.asked.items()).keys()

    def hears_no_more_of(self, name: str) -> None:
        assert self.fleet is not None, "who does not gossip hears nobody"
        if name in self.fleet.peers:
            self.fleet.gone(name)
            self._all_stale = True

    def look_around(self, sent_to: SentTo) -> None:
        """The next tick sees what has been heard. sent_to: of each place, the models whose requests
        go there, or of which it is to hold a copy; it gets to know those that there are."""
        fleet = self.fleet
        if fleet is None or not (self._all_stale or self._stale):
            return
        if self._all_stale:
            self._sent_here = sent_to(fleet.places).get(self.place, frozenset())
            heard = self._sent_here
        else:
            heard = self._sent_here & self._stale
        for model in sorted(heard):
            if fleet.holds(model) or self.world.policy.copies(model):
                self._pod.learn(model)
        known = self._pod.known_models
        models = known if self._all_stale else self._stale & known
        for model, copies in fleet.copies(sorted(models)).items():
            self._pod.hear(model, copies)
        self._stale.clear()
        self._all_stale = False

    def _looked(self, models: Mapping[str, Model]) -> None:
        for name, model in models.items():
            if (model.state is ModelState.READY) is not (name in self.residents):
                self.residents_changed = True
                self.residents ^= {name}
