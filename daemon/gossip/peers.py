"""Which messages of peers are news, and when their silence means death.

Owns the table of who was heard when; what it comes to is told to `policies.peers.Fleet`. A
message's age is told by our own clock of receipt, so clocks that disagree do no harm. Refuses
to know how messages come, and what is decided from them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from sys import intern

from daemon.gossip.messages import PodState
from policies.peers import Fleet, Peer
from policies.snapshot import HOST

MOST_PEERS = 4096
"""Beyond this somebody invents pods; a table without an end would take all our memory."""


@dataclass(slots=True)
class _Known:
    run: str
    sequence: int
    heard_at_s: float
    dies_at_s: float
    before: str | None = None


@dataclass(slots=True)
class Peers:
    """All peers but ourselves.

    fleet: is told of each change. expiry_s: how long a message stands. dropped: messages that were
    no news, by why.
    """

    fleet: Fleet
    expiry_s: float
    dropped: Counter[str] = field(default_factory=Counter)
    _known: dict[str, _Known] = field(default_factory=dict)
    _view: Mapping[str, Peer] | None = None

    def __len__(self) -> int:
        return len(self._known)

    def heard(self, pod: str, state: PodState, now_s: float, stands_s: float) -> bool:
        """Takes in a message of ``pod``; False when it is no news.

        stands_s: for how long the broker itself would still keep it; the rest of its life
        when it was retained.
        """
        known = self._known.get(pod)
        if known is None and len(self._known) >= MOST_PEERS:
            self.dropped["too_many_peers"] += 1
            return False
        if known is not None and (why := _stale(known, state)):
            self.dropped[why] += 1
            return False
        before = None
        if known is not None:
            before = known.run if known.run != state.run else known.before
        dies_at_s = now_s + max(0.0, min(stands_s, self.expiry_s))
        self._known[pod] = _Known(state.run, state.sequence, now_s, dies_at_s, before)
        said = self.fleet.peers.get(pod)
        peer = _peer(pod, state, said)
        if peer is not said:
            self.fleet.heard(peer)
            self._view = None
        return True

    def gone(self, pod: str) -> bool:
        """``pod`` said good-bye, or the broker did for it; False when nobody knew it."""
        if self._known.pop(pod, None) is None:
            return False
        self.fleet.gone(pod)
        self._view = None
        return True

    def forget_silent(self, now_s: float) -> list[str]:
        """Drops those that were not heard of for too long; returns their names."""
        silent = [pod for pod, known in self._known.items() if known.dies_at_s <= now_s]
        for pod in silent:
            self.gone(pod)
        return sorted(silent)

    def view(self) -> Mapping[str, Peer]:
        """Every peer by name, in their order; the same object while nothing changes."""
        if self._view is None:
            self._view = {pod: self.fleet.peers[pod] for pod in sorted(self._known)}
        return self._view

    def heard_ago_s(self, now_s: float) -> Iterator[tuple[str, float]]:
        """How long ago each peer was heard of."""
        for pod in sorted(self._known):
            yield pod, max(0.0, now_s - self._known[pod].heard_at_s)


def _stale(known: _Known, state: PodState) -> str | None:
    """Why a message is no news. A run that another has followed does not come back."""
    if state.run == known.run:
        if state.sequence == known.sequence:
            return "duplicate"
        return "old" if state.sequence < known.sequence else None
    return "old" if state.run == known.before else None


def _peer(pod: str, state: PodState, known: Peer | None) -> Peer:
    """The peer as the message has it; the object of before where nothing has changed.

    Names are shared between peers: a thousand pods hold copies of the same few models.
    """
    residents: frozenset[str]
    if known is not None and known.residents == state.residents.keys():
        residents = known.residents
    else:
        residents = frozenset(map(intern, state.residents))
    headroom_bytes = _headroom_bytes(state.headroom)
    asked = {intern(model): hourly for model, hourly in state.asked.items()}
    place = state.place or pod
    peer = Peer(pod, place, residents, state.load, headroom_bytes, state.leaving, asked)
    return known if known == peer else peer


def _headroom_bytes(headroom: Mapping[str, int]) -> int | None:
    """On the emptiest GPU; of the host's memory only where there is no GPU."""
    gpus = [amount for device, amount in headroom.items() if device != HOST]
    return max(gpus) if gpus else headroom.get(HOST)
