"""The broker between simulated sidecars: who says what when, and who hears it.

Owns messages on their way, those retained, connections that break and come back, and what it all
costs. What a pod says and when follows the production `Pace`; what a sidecar makes of it is the
production `Fleet`. Refuses to know models' insides.

A pod speaks when its residents have changed or when it leaves, and once a heartbeat; load, headroom
and learned values alone are no reason to speak here. One that is cut off hears nothing and is not
heard; the broker takes it for dead after a while. When it is back it hears what is retained, and
says what stands. A broker that was away has forgotten everything.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from policies.pace import Pace
from policies.peers import Peer
from policies.places import Places
from simulations.fleet.member import Member
from simulations.pod.agenda import Agenda

_NEVER_S = -np.inf


@dataclass(frozen=True, slots=True)
class Cut:
    """In [from_s, to_s) this share of the pods, or the broker itself, cannot be reached."""

    from_s: float
    to_s: float
    share: float = 1.0
    is_outage: bool = False


@dataclass(frozen=True, slots=True)
class GossipSpec:
    """delay_s: from saying until hearing. loss: the share of deliveries that do not arrive.

    gap_s: the shortest time between two messages of a pod, in place of what follows from the
    fleet's size. will_s: how long after a broken connection the broker speaks for the dead;
    silent_s: how long after one that only fell silent. reconnect_s: within so long, at a moment
    drawn, who was cut off is back.
    """

    delay_s: float = 0.1
    loss: float = 0.0
    gap_s: float | None = None
    heartbeat_s: float = 60.0
    will_s: float = 1.0
    silent_s: float = 15.0
    reconnect_s: float = 30.0
    cuts: Sequence[Cut] = ()

    @property
    def pace(self) -> Pace:
        default = Pace()
        expiry_s = max(default.expiry_s, 3 * self.heartbeat_s + 10)
        return replace(default, heartbeat_s=self.heartbeat_s, expiry_s=expiry_s)


@dataclass(frozen=True, slots=True)
class _Said:
    """number: how many messages of its pod came before it. peer: None: it is gone."""

    number: int
    at_s: float
    peer: Peer | None


@dataclass(frozen=True, slots=True)
class Healed:
    """After a cut or a loss of a pod: when it was over, and when all agreed again; None: never."""

    what: str
    from_s: float
    agreed_s: float | None


@dataclass(slots=True)
class _Awaited:
    """at_least: by pod, the message that everybody has to have heard."""

    what: str
    from_s: float
    at_least: NDArray[np.int64]


@dataclass(slots=True)
class Broker:
    """most: how many pods there may ever be. models: each with the number of pods of its order that
    have to know it though nobody asks them.

    said, delivered: messages to the broker, and from it. heard: of each pod's part of those.
    """

    spec: GossipSpec
    agenda: Agenda
    random: np.random.Generator
    models: tuple[tuple[str, int], ...]
    most: int
    said: int = 0
    delivered: int = 0
    healed: list[Healed] = field(default_factory=list)
    _members: dict[int, Member] = field(default_factory=dict)
    _pace: Pace = field(init=False)
    _connected: NDArray[np.bool_] = field(init=False)
    _version: NDArray[np.int64] = field(init=False)
    _dies_s: NDArray[np.float64] = field(init=False)
    _latest: NDArray[np.int64] = field(init=False)
    _said_s: NDArray[np.float64] = field(init=False)
    _retained: dict[int, _Said] = field(default_factory=dict)
    _awaited: list[_Awaited] = field(default_factory=list)
    _down: bool = False

    def __post_init__(self) -> None:
        most = self.most
        self._pace = self.spec.pace
        self._connected = np.zeros(most, np.bool_)
        self._version = np.zeros((most, most), np.int64)
        self._dies_s = np.full((most, most), np.inf)
        self._latest = np.zeros(most, np.int64)
        self._said_s = np.full(most, _NEVER_S)
        for cut in self.spec.cuts:
            self.agenda.at(cut.from_s, partial(self._cut, cut))

    # Who is there.

    def joins(self, member: Member, now_s: float) -> None:
        self._members[member.number] = member
        if not self._down:
            self._connect(member.number, now_s)

    def are_there(self, members: Sequence[Member], now_s: float) -> None:
        """``members`` have been there for long, and all know of each other."""
        for member in members:
            self._members[member.number] = member
            self._connected[member.number] = True
            self._latest[member.number] = 1
            # Heartbeats of the past came at moments of their own.
            self._said_s[member.number] = now_s - self.random.random() * self._pace.heartbeat_s
            said_s = float(self._said_s[member.number])
            self._retained[member.number] = _Said(1, said_s, member.told())
        for member in members:
            for of, said in self._retained.items():
                if of != member.number:
                    self._hear(member.number, of, said, said.at_s)

    def loses(self, member: Member, now_s: float) -> None:
        """``member`` is gone, and its connection breaks."""
        self._connected[member.number] = False
        self._bury(member.number, now_s + self.spec.will_s)
        self._await(f"{member.name} gone", now_s, {member.number: self._latest[member.number] + 1})

    def _present(self) -> list[int]:
        return [number for number, member in self._members.items() if member.is_here]

    def _connect(self, number: int, now_s: float) -> None:
        member = self._members[number]
        if self._connected[number] or self._down or not member.is_here:
            return
        self._connected[number] = True
        self._said_s[number] = _NEVER_S
        kept = [
            (of, said)
            for of, said in self._retained.items()
            if of != number and said.at_s + self._pace.expiry_s > now_s
        ]
        for of, said in kept:
            self._hear(number, of, said, said.at_s)
        self.delivered += len(kept)

    def _cut(self, cut: Cut, now_s: float) -> None:
        present = self._present()
        count = len(present) if cut.is_outage else round(cut.share * len(present))
        chosen = sorted(self.random.permutation(present)[:count].tolist())
        for number in chosen:
            self._connected[number] = False
        if cut.is_outage:
            self._down = True
            self._retained.clear()
        else:
            for number in chosen:
                self._bury(number, now_s + self.spec.silent_s)
        self.agenda.at(cut.to_s, partial(self._heal, cut, chosen))

    def _heal(self, cut: Cut, chosen: Sequence[int], now_s: float) -> None:
        if cut.is_outage:
            self._down = False
            chosen = self._present()
        for number in chosen:
            back_s = now_s + self.random.random() * self.spec.reconnect_s
            self.agenda.at(back_s, partial(self._connect, number))
        self._await("outage" if cut.is_outage else "partition", now_s, {})

    def _bury(self, number: int, at_s: float) -> None:
        """The broker says that the pod is gone, unless it is back by then."""

        def tell(now_s: float) -> None:
            if not self._connected[number] and not self._down:
                self._latest[number] += 1
                self._send(number, _Said(int(self._latest[number]), now_s, None), now_s)
                self._retained.pop(number, None)

        self.agenda.at(at_s, tell)

    # What is said.

    def speak(self, now_s: float) -> None:
        """Every pod that has something to say, and may, says it."""
        for number in np.flatnonzero(self._connected).tolist():
            member = self._members[number]
            quiet_s = now_s - self._said_s[number]
            if quiet_s < self._pace.heartbeat_s and not self._has_news(member, quiet_s):
                continue
            peer, before = member.told(), self._last_said(number)
            # One object for what stays the same, so that hearing it again costs nothing.
            if before is not None and before.residents == peer.residents:
                peer = replace(peer, residents=before.residents)
            if before is not None and before.asked == peer.asked:
                peer = replace(peer, asked=before.asked)
            member.residents_changed = False
            self.said += 1
            self._latest[number] += 1
            self._said_s[number] = now_s
            said = _Said(int(self._latest[number]), now_s, peer)
            self._retained[number] = said
            self._send(number, said, now_s)

    def _has_news(self, member: Member, quiet_s: float) -> bool:
        said = self._last_said(member.number)
        if said is not None and said.leaving != member.is_leaving:
            return True
        return member.residents_changed and quiet_s >= self._gap_s(member)

    def _last_said(self, number: int) -> Peer | None:
        said = self._retained.get(number)
        return None if said is None else said.peer

    def _gap_s(self, member: Member) -> float:
        if self.spec.gap_s is not None:
            return self.spec.gap_s
        assert member.fleet is not None, "only who gossips is here"
        return self._pace.gap_s(len(member.fleet.peers) + 1)

    def _send(self, of: int, said: _Said, now_s: float) -> None:
        self.agenda.at(now_s + self.spec.delay_s, partial(self._deliver, of, said))

    def _deliver(self, of: int, said: _Said, now_s: float) -> None:
        to = np.flatnonzero(self._connected)
        to = to[to != of]
        if self.spec.loss > 0:
            to = to[self.random.random(len(to)) >= self.spec.loss]
        self.delivered += len(to)
        for number in to.tolist():
            self._hear(number, of, said, now_s)

    def _hear(self, number: int, of: int, said: _Said, now_s: float) -> None:
        if said.number <= self._version[number, of]:
            return
        self._version[number, of] = said.number
        member = self._members[number]
        if said.peer is None:
            self._dies_s[number, of] = np.inf
            member.hears_no_more_of(self._members[of].name)
        else:
            self._dies_s[number, of] = now_s + self._pace.expiry_s
            member.hears(said.peer)

    # What is forgotten, and what is known to all.

    def forget_silent(self, now_s: float) -> None:
        for number, of in np.argwhere(self._dies_s <= now_s).tolist():
            self._dies_s[number, of] = np.inf
            # One that was only out of reach is news again; one that is gone stays so.
            gone = not self._members[of].is_here
            self._version[number, of] = self._latest[of] + 1 if gone else 0
            if self._members[number].is_here:
                self._members[number].hears_no_more_of(self._members[of].name)

    def _await(self, what: str, now_s: float, at_least: Mapping[int, int]) -> None:
        wanted = np.zeros(self.most, np.int64)
        for number in self._present():
            # What stands is said anew by who was cut off; what others have said stands.
            fresh = int(not self._connected[number])
            wanted[number] = self._latest[number] + fresh
        for number, version in at_least.items():
            wanted[number] = version
        self._awaited.append(_Awaited(what, now_s, wanted))

    def note_agreement(self, now_s: float) -> None:
        """Whether all have heard by now what was to be heard after a cut or a loss."""
        for awaited in list(self._awaited):
            here = np.array(self._present(), np.intp)
            lacks = self._version[here] < awaited.at_least
            lacks[np.arange(len(here)), here] = False
            if not lacks.any():
                self._awaited.remove(awaited)
                self.healed.append(Healed(awaited.what, awaited.from_s, now_s))

    def end(self) -> None:
        self.healed += [Healed(each.what, each.from_s, None) for each in self._awaited]
        self._awaited.clear()

    # What each sidecar makes of it.

    def look_around(self, members: Iterable[Member]) -> None:
        for member in members:
            member.look_around(self._sent_to)

    def _sent_to(self, places: Places) -> Mapping[str, frozenset[str]]:
        return _sent_to(places, self.models)


@lru_cache(maxsize=8)
def _sent_to(places: Places, models: tuple[tuple[str, int], ...]) -> Mapping[str, frozenset[str]]:
    """Of each pod, the models that it has to know."""
    found: dict[str, list[str]] = {}
    for model, pods in models:
        for place in places.heirs(model, pods):
            found.setdefault(place, []).append(model)
    return {place: frozenset(sent) for place, sent in found.items()}
