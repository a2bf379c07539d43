"""What the other pods of the fleet hold, and what that means for each model here.

Owns the counting, kept up as pods are heard of, so that a thousand peers cost nothing in a tick in
which none of them has changed. Refuses to know how pods are heard of (`daemon.gossip`, or a
simulated broker), and to decide anything: `policies.planner` does, from the `Copies` of each model.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from policies.places import Places


@dataclass(frozen=True, slots=True)
class Peer:
    """Another pod, as of its latest message.

    place: what routers know it by (see `policies.places`). load: offered work in pods.
    headroom_bytes: what models could still take on its emptiest device. Both None when unknown.
    leaving: it takes no new work, and will be gone soon.
    """

    name: str
    place: str
    residents: frozenset[str]
    load: float | None = None
    headroom_bytes: int | None = None
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Copies:
    """Where one model stands in the fleet, seen from this pod.

    warm: peers that hold it and stay. leaving: peers that hold it and leave.
    rank: how many staying pods its requests are sent to before this one, so that 0 is the pod that
        gets them; None where that is further than anybody looks, and for a pod that leaves.
    """

    warm: int = 0
    leaving: int = 0
    rank: int | None = None


@dataclass(slots=True)
class Fleet:
    """The peers of the pod whose place is ``place``, and who holds what."""

    place: str
    leaving: bool = False
    peers: dict[str, Peer] = field(default_factory=dict)
    _warm: Counter[str] = field(default_factory=Counter)
    _leaving: Counter[str] = field(default_factory=Counter)
    _places: Places | None = None
    _orders: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def heard(self, peer: Peer) -> None:
        """Takes in what ``peer`` says of itself, in place of what it said before."""
        before = self.peers.get(peer.name)
        self.peers[peer.name] = peer
        if before is not None and before.leaving == peer.leaving:
            self._recount(before.residents, peer.residents, leaving=peer.leaving)
        else:
            if before is not None:
                self._recount(before.residents, frozenset(), leaving=before.leaving)
            self._recount(frozenset(), peer.residents, leaving=peer.leaving)
        if before is None or (before.place, before.leaving) != (peer.place, peer.leaving):
            self._forget_order()

    def gone(self, name: str) -> None:
        """``name`` is no longer there."""
        before = self.peers.pop(name, None)
        if before is not None:
            self._recount(before.residents, frozenset(), leaving=before.leaving)
            self._forget_order()

    def leave(self, *, leaving: bool) -> None:
        """This pod itself is on its way out, or no longer is."""
        if leaving != self.leaving:
            self.leaving = leaving
            self._forget_order()

    @property
    def places(self) -> Places:
        """The pods that stay, as routers come to see them."""
        if self._places is None:
            staying = [peer.place for peer in self.peers.values() if not peer.leaving]
            ours = [] if self.leaving else [self.place]
            self._places = Places.of([*staying, *ours])
        return self._places

    def copies(self, models: Iterable[str], depth: int = 2) -> Mapping[str, Copies]:
        """Where each of ``models`` stands. depth: how many pods of its order are looked at."""
        return {name: self._copies(name, depth) for name in models}

    def _copies(self, name: str, depth: int) -> Copies:
        order = self._orders.get(name)
        if order is None:
            order = self._orders[name] = self.places.order(name, depth)
        rank = order.index(self.place) if self.place in order else None
        return Copies(self._warm[name], self._leaving[name], rank)

    def _recount(self, before: frozenset[str], now: frozenset[str], *, leaving: bool) -> None:
        """Most messages change nothing, or one model; so what stays is not counted anew."""
        if before is now:
            return
        counter = self._leaving if leaving else self._warm
        for model in now - before:
            counter[model] += 1
        for model in before - now:
            counter[model] -= 1
            if not counter[model]:
                del counter[model]

    def _forget_order(self) -> None:
        self._places = None
        self._orders.clear()
