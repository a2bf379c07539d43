"""Who may go in, who waits, and who is turned away: the front door without its protocols.

Owns, for each model, whether it can serve, the requests held for it, those inside it and
the leases on it. Refuses to know bytes and sockets (`http`, `grpc`, `streams`) and to
decide what is loaded: it tells the planner who waits, and does what the plan says.

What it believes of a model comes from three sides: the snapshots, the actuator's own
hand between two of them, and Triton's answers. The youngest evidence counts.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from daemon.frontdoor.refusals import Outcome, Refusal
from policies.actions import Hold, Plan, Reason
from policies.policy import FrontDoor, Mode, Policy
from policies.snapshot import ModelState, Snapshot

# A released request is on its way to Triton by a hop or two; until then nobody should unload.
# One that comes too late for its model only comes back to wait.
ON_ITS_WAY_S = 0.1
# What stands in the way of a refused request may stand there for long; ask again after this.
RETRY_AFTER_S = 30.0
# A refusal travels in a header in gRPC, and clients take only so much of those.
LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Call:
    """One request for one model.

    body_bytes: what it holds of our memory while it waits.
    began_s: when it came, seconds since the epoch; Envoy's attempts at it share it.
    deadline_s: when its client gives up; None where that is not known.
    counted: it was held before, and its arrival is known.
    movable: another pod gets it when we say so, at no cost to its client.
    """

    model: str
    version: str
    body_bytes: int
    began_s: float
    deadline_s: float | None = None
    counted: bool = False
    movable: bool = False


@dataclass(frozen=True, slots=True)
class AtDoor:
    """What the door knows of one model, for a snapshot.

    missed: requests that came since the last snapshot and found it absent.
    replayed: of the requests held before, those sent on since then, which Triton counts again;
        below zero when more of them than were sent have come back to wait.
    forwarded: requests sent on through the door since then, the replayed ones among them.
    """

    missed: int = 0
    replayed: int = 0
    forwarded: int = 0
    waiting: int = 0
    oldest_wait_s: float = 0.0
    in_flight: int = 0
    leases: int = 0


NOBODY = AtDoor()


@dataclass(slots=True, eq=False)
class _Waiter:
    call: Call
    released: asyncio.Future[Refusal | None]


@dataclass(slots=True)
class _Entry:
    """One model's entrance.

    ready: the latest evidence says that it can serve. changed_at_s: when evidence younger
        than the snapshots came, which outdates those asked for before.
    shut: our own hand drains or unloads it.
    """

    ready: bool = False
    shut: bool = False
    changed_at_s: float = float("-inf")
    waiters: dict[_Waiter, None] = field(default_factory=dict)
    in_flight: int = 0
    leases: dict[object, float] = field(default_factory=dict)
    missed: int = 0
    replayed: int = 0
    forwarded: int = 0

    @property
    def is_open(self) -> bool:
        return self.ready and not self.shut


class Gate:
    """All entrances.

    now_s: the sidecar's clock. wake: makes the loop look at once.
    waiting, held_bytes: requests held now, and what their bodies take.
    misses: requests that found their model absent, ever, by model of the repository.
    sequence_idle_s: by model with sequences, after how long a silence Triton ends one by itself.
    moves: whether this pod leaves and another stays, so that what can move is sent there.
    lets_go: whether clients are asked to end their connections here.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.now_s = now_s
        self.wake: Callable[[], None] = lambda: None
        self.limits = FrontDoor()
        self._entries: dict[str, _Entry] = {}
        self._holds: dict[str, Hold] = {}
        self._known: frozenset[str] | None = None
        self._closing = False
        self._observing = False
        self._will_wake = False
        self.waiting = 0
        self.held_bytes = 0
        self.misses: Counter[str] = Counter()
        self.sequence_idle_s: Mapping[str, float] = {}
        self.moves = False
        self.lets_go = False
        self._coming: frozenset[str] = frozenset()

    # What the loop tells.

    def saw(self, policy: Policy, snapshot: Snapshot, plan: Plan, asked_at_s: float) -> None:
        """Takes in a tick whose questions were asked at ``asked_at_s``."""
        self.limits = policy.front_door
        self._observing = policy.mode is Mode.OBSERVE
        self._holds = {hold.subject: hold for hold in plan.holds}
        self._coming = frozenset(
            name for name, model in snapshot.models.items() if model.state is ModelState.LOADING
        )
        if not snapshot.reachable:
            for entry in self._entries.values():
                entry.ready = entry.ready and entry.changed_at_s >= asked_at_s
            return
        for name, model in snapshot.models.items():
            entry = self._entry(name)
            if entry.changed_at_s < asked_at_s:
                entry.ready = model.state is ModelState.READY
            self._settle(name, entry)
        for name in self._entries.keys() - snapshot.models.keys():
            self._forget(name)
        if self._known is None:
            self._count_first(snapshot.models)
        self._known = frozenset(snapshot.models)

    def opened(self, names: Iterable[str]) -> None:
        """Our own load of ``names`` has ended well."""
        for name in names:
            entry = self._entry(name)
            entry.ready, entry.changed_at_s = True, self.now_s()
            self._settle(name, entry)

    def shut(self, names: Iterable[str]) -> None:
        """Holds new requests for ``names`` back: they are about to leave."""
        for name in names:
            self._entry(name).shut = True

    def unshut(self, names: Iterable[str], *, gone: bool) -> None:
        """Ends `shut`: they have left, or they stay after all."""
        for name in names:
            entry = self._entry(name)
            entry.shut = False
            if gone:
                entry.ready, entry.changed_at_s = False, self.now_s()
            self._settle(name, entry)

    def is_drained(self, names: Iterable[str]) -> bool:
        """Whether no request sent through the door is inside any of ``names``."""
        return not any(self._entry(name).in_flight for name in names)

    def close(self) -> None:
        """Lets nobody wait any longer: the sidecar stops."""
        self._closing = True
        for entry in self._entries.values():
            for waiter in entry.waiters:
                _refuse(waiter, self._closed(waiter.call))

    def take(self) -> dict[str, AtDoor]:
        """What happened since the last call, and what stands, by model."""
        now_s = self.now_s()
        found = {}
        for name, entry in self._entries.items():
            at_door = self._at_door(entry, now_s)
            if at_door != NOBODY:
                found[name] = at_door
            entry.missed = entry.replayed = entry.forwarded = 0
        return found

    # What requests ask.

    def knows(self, model: str) -> bool:
        """Whether the repository had ``model`` at the latest look."""
        return self._known is not None and model in self._known

    def is_open(self, model: str) -> bool:
        entry = self._entries.get(model)
        return entry is not None and entry.is_open

    async def admit(self, call: Call) -> bool:
        """Returns when the model of ``call`` can serve; whether the call had to wait.

        Raises Refusal when it cannot, or not in time.
        """
        # Before the first look any name may be one of the repository's.
        if self._known is not None and call.model not in self._known:
            raise Refusal(Outcome.UNKNOWN_MODEL, _unknown(call.model))
        if self.is_open(call.model):
            return False
        if self._closing:
            raise self._closed(call)
        if self.moves and call.movable:
            # Before it is counted: nothing should be loaded here for it.
            raise _sent_elsewhere(call)
        is_news = self._known is not None and not call.counted
        if is_news:
            self._entry(call.model).missed += 1
            self.misses[call.model] += 1
        if reason := self._turned_away(call):
            raise reason
        self._refuse_beyond_bounds(call)
        if is_news:
            self.wake()
        await self._wait(call, self._entry(call.model))
        return True

    def distrust(self, model: str, *, replayed: bool = False) -> None:
        """Triton has just said that ``model`` cannot serve, whatever we believed.

        replayed: it said so to one that had been held, and so will not count that one again.
        """
        entry = self._entry(model)
        entry.replayed -= replayed
        if entry.ready:
            entry.ready, entry.changed_at_s = False, self.now_s()
            self.wake()

    @contextmanager
    def inside(self, call: Call, *, waited: bool) -> Iterator[None]:
        """Counts ``call`` as inside its model for the length of the block."""
        entry = self._entry(call.model)
        entry.in_flight += 1
        entry.forwarded += 1
        entry.replayed += waited
        try:
            yield
        finally:
            entry.in_flight -= 1

    def released(self, call: Call, *, waited: bool) -> None:
        """``call`` is sent on by Envoy now, not through us."""
        entry = self._entry(call.model)
        entry.replayed += waited
        entry.leases[_ON_THEIR_WAY] = self.now_s() + ON_ITS_WAY_S
        if not self._will_wake:
            self._will_wake = True
            asyncio.get_running_loop().call_later(ON_ITS_WAY_S, self._have_arrived)

    def _have_arrived(self) -> None:
        """The leases of released requests have ended, and somebody may wait for just that."""
        self._will_wake = False
        if self.waiting:
            self.wake()

    def lease(self, model: str, holder: object, for_s: float) -> None:
        """``holder`` needs ``model`` to stay for the next ``for_s`` seconds."""
        self._entry(model).leases[holder] = self.now_s() + for_s

    def end_lease(self, model: str, holder: object) -> None:
        if entry := self._entries.get(model):
            entry.leases.pop(holder, None)

    # How.

    def _entry(self, name: str) -> _Entry:
        found = self._entries.get(name)
        if found is None:
            found = self._entries[name] = _Entry()
        return found

    def _forget(self, name: str) -> None:
        """The repository has lost the model; who waits for it need not any longer."""
        entry = self._entries[name]
        self.misses.pop(name, None)
        for waiter in list(entry.waiters):
            _refuse(waiter, Refusal(Outcome.UNKNOWN_MODEL, _unknown(name)))
        if not entry.in_flight and not entry.shut:
            del self._entries[name]

    def _count_first(self, names: Iterable[str]) -> None:
        """Those who came before the first look, when nobody knew yet what a model is."""
        for name in names:
            came = sum(not waiter.call.counted for waiter in self._entry(name).waiters)
            if came:
                self._entry(name).missed += came
                self.misses[name] += came

    def _settle(self, name: str, entry: _Entry) -> None:
        """Lets the waiters in when the model can serve, and away when it never will."""
        if not entry.waiters:
            return
        if entry.is_open:
            for waiter in entry.waiters:
                if not waiter.released.done():
                    waiter.released.set_result(None)
            return
        for waiter in entry.waiters:
            # Each gets its own: a raised exception keeps the stack it came through.
            if self.moves and waiter.call.movable and name not in self._coming:
                _refuse(waiter, _sent_elsewhere(waiter.call))
            elif reason := self._turned_away(waiter.call):
                _refuse(waiter, reason)

    def _closed(self, call: Call) -> Refusal:
        """What is said to who would wait while the sidecar stops; its successor is not awaited
        where the whole pod goes."""
        if self.lets_go and call.movable:
            return _sent_elsewhere(call)
        return Refusal(Outcome.CLOSING, "the sidecar is being stopped", 1.0)

    def _turned_away(self, call: Call) -> Refusal | None:
        """Why waiting cannot help ``call``, by the latest plan; None when it can."""
        if self._observing:
            text = f"'{call.model}' is not loaded, and by its policy Remora only observes"
            return Refusal(Outcome.NOT_LOADED, text)
        hold = self._holds.get(call.model)
        if hold is None:
            return None
        if hold.retry_at_s is None:
            after_s = RETRY_AFTER_S
            helps = not hold.reason.turns_away
        else:
            after_s = hold.retry_at_s - self.now_s()
            bears_s = self.limits.retry_wait_s if hold.reason.turns_away else self._left_s(call)
            helps = after_s <= bears_s
        return None if helps else Refusal(Outcome.TURNED_AWAY, self._told(hold), after_s)

    def _left_s(self, call: Call) -> float:
        ends_s = call.began_s + self.limits.wait_s
        if call.deadline_s is not None:
            ends_s = min(ends_s, call.deadline_s)
        return max(0.0, ends_s - self.now_s())

    async def _wait(self, call: Call, entry: _Entry) -> None:
        waiter = _Waiter(call, asyncio.get_running_loop().create_future())
        entry.waiters[waiter] = None
        self.waiting += 1
        self.held_bytes += call.body_bytes
        try:
            async with asyncio.timeout(self._left_s(call)):
                while (refusal := await waiter.released) is None and not entry.is_open:
                    # A drain began after its release and before its turn.
                    waiter.released = asyncio.get_running_loop().create_future()
        except TimeoutError:
            raise self._timed_out(call) from None
        finally:
            entry.waiters.pop(waiter, None)
            self.waiting -= 1
            self.held_bytes -= call.body_bytes
            if self._known is None and not entry.waiters:
                # Anybody's words, and no look has come to forget them.
                self._entries.pop(call.model, None)
        if refusal is not None:
            raise refusal

    def _refuse_beyond_bounds(self, call: Call) -> None:
        limits, entry = self.limits, self._entries.get(call.model)
        if entry and len(entry.waiters) >= limits.waiters_per_model:
            full = f"{len(entry.waiters)} requests wait for {call.model[:LONGEST_NAME]}"
        elif self.waiting >= limits.waiters:
            full = f"{self.waiting} requests wait"
        elif call.body_bytes and self.held_bytes + call.body_bytes > limits.held_bytes:
            full = f"waiting requests hold {self.held_bytes} bytes"
        else:
            return
        raise Refusal(Outcome.QUEUE_FULL, f"queue full: {full}, and no more may", 1.0)

    def _timed_out(self, call: Call) -> Refusal:
        waited_s = self.now_s() - call.began_s
        hold = self._holds.get(call.model) or self._holds.get("")
        why = f": {self._told(hold)}" if hold else ""
        text = f"{call.model[:LONGEST_NAME]} was not ready after {waited_s:.1f} s{why}"
        return Refusal(Outcome.TIMED_OUT, text, 1.0)

    def _told(self, hold: Hold) -> str:
        """A hold as a client reads it."""
        words = "load failed" if hold.reason is Reason.BACKING_OFF else hold.reason.value
        return f"{words.replace('_', ' ')}: {hold.in_words(self.now_s())}"

    def _at_door(self, entry: _Entry, now_s: float) -> AtDoor:
        for holder in [holder for holder, until_s in entry.leases.items() if until_s <= now_s]:
            del entry.leases[holder]
        oldest_s = min((waiter.call.began_s for waiter in entry.waiters), default=now_s)
        return AtDoor(
            missed=entry.missed,
            replayed=entry.replayed,
            forwarded=entry.forwarded,
            waiting=len(entry.waiters),
            oldest_wait_s=max(0.0, now_s - oldest_s),
            in_flight=entry.in_flight,
            leases=len(entry.leases),
        )


# All requests that Envoy is sending on share one lease; each puts its end off.
_ON_THEIR_WAY = object()


def _refuse(waiter: _Waiter, reason: Refusal) -> None:
    if not waiter.released.done():
        waiter.released.set_result(reason)


def _sent_elsewhere(call: Call) -> Refusal:
    text = f"this pod leaves, and {call.model[:LONGEST_NAME]} is not loaded in it"
    return Refusal(Outcome.SENT_ELSEWHERE, text, 1.0)


def _unknown(model: str) -> str:
    return f"Request for unknown model: '{model[:LONGEST_NAME]}' is not found"
