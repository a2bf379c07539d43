"""What the other pods of the fleet hold, and what that means for each model here.

Owns the counting, kept up as pods are heard of, so that a thousand peers cost nothing in a tick in
which none of them has changed. Refuses to know how pods are heard of (`daemon.gossip`, or a
simulated broker), and to decide anything: `policies.planner` does, from the `Copies` of each model.

Counts are whole numbers, so that it makes no difference in which order pods were heard of.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from policies.places import Places

DEPTH = 8
"""How many heirs of a model anybody looks at; so many copies of it a policy may ask for."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another pod, as of its latest message.

    place: what routers know it by (see `policies.places`). load: offered work in pods.
    headroom_bytes: what models could still take on its emptiest device. Both None when unknown.
    leaving: it takes no new work, and will be gone soon.
    asked: requests per hour, of residents that are asked for of late; see `per_hour`.
    """

    name: str
    place: str
    residents: frozenset[str]
    load: float | None = None
    headroom_bytes: int | None = None
    leaving: bool = False
    asked: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Copies:
    """Where one model stands in the fleet, seen from this pod.

    warm: peers that hold it and stay. leaving: peers that hold it and leave.
    rank: how many staying pods would have to be gone for its requests to come here, so that 0 is
        its home, the pod that gets them (see `Places.heirs`); None where that is further than
        `DEPTH`, and for a pod that leaves.
    ahead: staying pods before this one, as far as anybody looks, that hold it.
    asked: requests per hour that peers have had for it of late.
    """

    warm: int = 0
    leaving: int = 0
    rank: int | None = None
    ahead: int = 0
    asked: int = 0


def orders_of(places: Places, models: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The heirs of each model; a while of work for a new set of pods, and for many models."""
    return {name: places.heirs(name, DEPTH) for name in models}


def per_hour(rate: float) -> int:
    """A rate per second as it is told to peers: by the hour, down to a power of two, so that it
    seldom changes; 0 where it is less than one."""
    hourly = int(min(max(0.0, 3600 * rate), 2.0**60))
    return 1 << hourly.bit_length() - 1 if hourly else 0


@dataclass(slots=True)
class Fleet:
    """The peers of the pod whose place is ``place``, and who holds what.

    waits: the order of pods is that of the latest `settle`, which is called by whoever works out
        `orders_of` the `upcoming` ones meanwhile; else it follows at once, and a change costs what
        a table costs.
    """

    place: str
    leaving: bool = False
    waits: bool = False
    peers: dict[str, Peer] = field(default_factory=dict)
    _warm: Counter[str] = field(default_factory=Counter)
    _leaving: Counter[str] = field(default_factory=Counter)
    _asked: Counter[str] = field(default_factory=Counter)
    _places: Places | None = None
    _is_settled: bool = False
    _orders: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _copies: dict[str, Copies] = field(default_factory=dict)

    def heard(self, peer: Peer) -> None:
        """Takes in what ``peer`` says of itself, in place of what it said before."""
        before = self.peers.get(peer.name)
        self.peers[peer.name] = peer
        self._recount(before, peer)
        if before is None or (before.place, before.leaving) != (peer.place, peer.leaving):
            self._is_settled = False

    def gone(self, name: str) -> None:
        """``name`` is no longer there."""
        before = self.peers.pop(name, None)
        if before is not None:
            self._recount(before, None)
            self._is_settled = False

    def leave(self, *, leaving: bool) -> None:
        """This pod itself is on its way out, or no longer is."""
        if leaving != self.leaving:
            self.leaving = leaving
            self._is_settled = False

    @property
    def places(self) -> Places:
        """The pods that stay, as routers come to see them."""
        if not self._is_settled and not self.waits:
            self.settle(self._staying())
        return self._places or Places.of([self.place])

    def holds(self, model: str) -> bool:
        """Whether any peer has ``model``."""
        return model in self._warm or model in self._leaving

    @property
    def upcoming(self) -> Places | None:
        """The pods that stay, where they are others than those of `places`."""
        return None if self._is_settled else self._staying()

    def settle(self, places: Places, orders: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """From now on ``places`` tell the order.

        orders: what `orders_of` has found there; others are worked out when they are asked for.
        """
        self._is_settled = places == self._staying()
        self._places = places
        self._names = {self.peers[name].place: name for name in sorted(self.peers)}
        self._orders = dict(orders or {})
        self._copies.clear()

    def copies(self, models: Iterable[str]) -> Mapping[str, Copies | None]:
        """Where each of ``models`` stands; None for a pod without peers, which decides as one
        that has never heard of any."""
        places = self.places
        # An order from when it was alone would make it the home of everything.
        is_of_old = not self._is_settled and len(places.keys) < 2
        if not self.peers or is_of_old:
            return dict.fromkeys(models)
        known = self._copies
        return {name: known.get(name) or self._looked_at(places, name) for name in models}

    def _looked_at(self, places: Places, name: str) -> Copies:
        order = self._orders.get(name)
        if order is None:
            order = self._orders[name] = places.heirs(name, DEPTH)
        is_near = self.place in order
        rank = order.index(self.place) if is_near and not self.leaving else None
        ahead = sum(self._holds(place, name) for place in order[:rank])
        asked = self._asked[name]
        found = Copies(self._warm[name], self._leaving[name], rank, ahead, asked)
        self._copies[name] = found
        return found

    def _holds(self, place: str, model: str) -> bool:
        peer = self.peers.get(self._names.get(place, ""))
        return peer is not None and not peer.leaving and model in peer.residents

    def _staying(self) -> Places:
        staying = [peer.place for peer in self.peers.values() if not peer.leaving]
        return Places.of(staying if self.leaving else [*staying, self.place])

    def _recount(self, before: Peer | None, now: Peer | None) -> None:
        """Most messages change nothing, or one model; so what stays is not counted anew."""
        for counter, leaving in ((self._warm, False), (self._leaving, True)):
            held, holds = _held(before, leaving), _held(now, leaving)
            if held is not holds:
                self._add(counter, dict.fromkeys(held - holds, -1))
                self._add(counter, dict.fromkeys(holds - held, 1))
        had, has = before.asked if before else {}, now.asked if now else {}
        if had != has:
            changed = dict(had.items() ^ has.items()).keys()
            self._add(self._asked, {name: has.get(name, 0) - had.get(name, 0) for name in changed})

    def _add(self, counter: Counter[str], amounts: Mapping[str, int]) -> None:
        for model, amount in amounts.items():
            counter[model] += amount
            if not counter[model]:
                del counter[model]
            self._copies.pop(model, None)


_NONE: frozenset[str] = frozenset()


def _held(peer: Peer | None, leaving: bool) -> frozenset[str]:
    return peer.residents if peer is not None and peer.leaving is leaving else _NONE
