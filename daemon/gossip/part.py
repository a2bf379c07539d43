"""The gossip as the sidecar sees it: one object that takes ticks in and gives peers out.

Owns the meaning of what comes, and the tasks that listen and speak. Refuses to decide: peers and
what they have learned are facts for the snapshot, an operator's hint is demand like any other.
"""

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from daemon.demand import Demand
from daemon.gossip.client import Broker, Connection
from daemon.gossip.hearsay import Hearsay
from daemon.gossip.messages import DemandHint, DrainRequest, PodState, Refused, decoded, encoded
from daemon.gossip.peers import Peers
from daemon.gossip.telling import Telling
from daemon.gossip.topics import Topics
from daemon.learned import Learned, LearnedStore
from daemon.telemetry import Telemetry
from policies.pace import Pace
from policies.peers import Copies, Fleet, Peer, orders_of

log = logging.getLogger("remora.gossip")

JOIN_S = 3.0
QUIET_S = 0.25
"""Retained messages come in one go; after such a silence, all have come."""
SPEAK_EVERY_S = 0.25
GOODBYE_S = 2.0
ECHO_S = 5.0
"""Our own voice comes back within this; a broker says to nobody that he may not write."""


@dataclass(slots=True)
class Gossip:
    """What this pod hears of others, and tells them.

    place: what routers know this pod by.
    counted: messages and bytes of them, in and out. dropped: messages not used, by why.
    file_bytes: what a model's files weigh. wake: makes the sidecar's next tick come at once.
    """

    broker: Broker
    topics: Topics
    pod: str
    place: str
    telemetry: Telemetry
    store: LearnedStore
    file_bytes: Callable[[str], int | None]
    demand: Demand
    now_s: Callable[[], float]
    wake: Callable[[], None]
    pace: Pace = field(default_factory=Pace)
    run: str = field(default_factory=lambda: secrets.token_hex(6))
    counted: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    _fleet: Fleet = field(init=False)
    _peers: Peers = field(init=False)
    _hearsay: Hearsay = field(default_factory=Hearsay)
    _telling: Telling = field(init=False)
    _connection: Connection = field(init=False)
    _namesake: str | None = None
    _mute: str | None = None
    _echo_due_s: float | None = None
    _spoke: bool = False
    _heard_at_s: float = float("-inf")
    _connected_at_s: float = float("-inf")
    _asked_to_leave: bool = False
    _leaving: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._fleet = Fleet(self.place, waits=True)
        self._peers = Peers(self._fleet, self.pace.expiry_s, self.dropped)
        self._telling = Telling(
            self.run,
            self.place,
            self.pace,
            self.telemetry,
            lambda: len(self._peers),
            self.store.get,
            self.file_bytes,
        )
        self._connection = Connection(
            self.broker, self.topics, self.pod, self.run, self.pace.expiry_s, self
        )

    # What the sidecar asks.

    @property
    def is_connected(self) -> bool:
        return self._connection.is_connected

    @property
    def problem(self) -> str | None:
        return self._connection.problem or self._mute or self._namesake

    @property
    def asked_to_leave(self) -> bool:
        """Whether an operator asks this pod to drain."""
        return self._asked_to_leave

    @property
    def is_leaving(self) -> bool:
        return self._asked_to_leave or self._leaving

    def leave(self) -> None:
        """This pod is on its way out, and tells so at once; there is no way back."""
        self._leaving = True

    def peers(self) -> Mapping[str, Peer]:
        """Every peer that is alive, by name."""
        for pod in self._peers.forget_silent(self.now_s()):
            log.info("%s: not heard of for too long", pod)
        return self._peers.view()

    def copies(self, models: Iterable[str]) -> Mapping[str, Copies | None]:
        """Where each of ``models`` stands in the fleet, for the snapshot."""
        self.peers()
        return self._fleet.copies(models)

    def learned(self, model: str, file_bytes: int | None) -> Learned | None:
        """What peers have learned of ``model``, whose files weigh so much here."""
        return self._hearsay.of(model, file_bytes)

    def took(self) -> None:
        """A tick has been taken in by the telemetry."""
        self._telling.took(self.telemetry.latest.snapshot)

    def told(self) -> dict[str, Any]:
        """For who looks at the sidecar's state."""
        heard_ago_s = dict(self._peers.heard_ago_s(self.now_s()))
        return {
            "pod": self.pod,
            "place": self.place,
            "connected": self.is_connected,
            "leaving": self.is_leaving,
            "peers": {
                name: {
                    "place": peer.place,
                    "residents": sorted(peer.residents),
                    "load": peer.load,
                    "headroom_bytes": peer.headroom_bytes,
                    "leaving": peer.leaving,
                    "heard_ago_s": round(heard_ago_s[name], 1),
                }
                for name, peer in self.peers().items()
            },
        }

    # Its life.

    async def open(self) -> None:
        """Joins, and waits a little for what peers have learned, so that the first load knows it.

        Without a broker the sidecar starts all the same.
        """
        self._tasks = [
            asyncio.create_task(self._connection.run(), name="gossip"),
            asyncio.create_task(self._speak(), name="gossip speaking"),
        ]
        loop = asyncio.get_running_loop()
        until_s = loop.time() + JOIN_S
        while loop.time() < until_s:
            await asyncio.sleep(QUIET_S / 5)
            if self.is_connected and loop.time() - self._heard_at_s >= QUIET_S:
                return

    async def close(self) -> None:
        """Takes back what stands about us, and goes."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connection.publish(b""), GOODBYE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _speak(self) -> None:
        while True:
            await asyncio.sleep(SPEAK_EVERY_S)
            await self._follow_places()
            since_s = asyncio.get_running_loop().time() - self._connected_at_s
            # One listens before one speaks: a request to leave may stand.
            if not self.is_connected or since_s < QUIET_S:
                continue
            self._listen_for_echo()
            self._telling.leaving = self.is_leaving
            state = self._telling.due(self.now_s())
            if state is None:
                continue
            payload = encoded(state)
            self._spoke = True
            if self._echo_due_s is None:
                # Before it is said: the echo may come sooner than the broker's word that it has it.
                self._echo_due_s = asyncio.get_running_loop().time() + ECHO_S
            if await self._connection.publish(payload):
                self.counted["messages_out"] += 1
                self.counted["bytes_out"] += len(payload)
            else:
                self._telling.said_nothing()

    async def _follow_places(self) -> None:
        """Brings the order of pods up to date. That takes a while, for which the old one stands,
        and ticks go on."""
        self._fleet.leave(leaving=self.is_leaving)
        upcoming = self._fleet.upcoming
        if upcoming is not None:
            models = list(self.telemetry.latest.snapshot.models)
            self._fleet.settle(upcoming, await asyncio.to_thread(orders_of, upcoming, models))

    def _listen_for_echo(self) -> None:
        due_s = self._echo_due_s
        if self._mute is None and due_s and asyncio.get_running_loop().time() > due_s:
            topic = self.topics.pod(self.pod)
            self._mute = f"nobody hears us: may this user read and write {topic}?"
            log.warning("gossip: %s", self._mute)

    # What the connection tells (its Listener).

    def connected(self) -> None:
        self._telling.said_nothing()
        self._namesake = self._echo_due_s = None
        self._connected_at_s = self._heard_at_s = asyncio.get_running_loop().time()

    def received(self, topic: str, payload: bytes, stands_s: float | None) -> None:
        self.counted["messages_in"] += 1
        self.counted["bytes_in"] += len(payload)
        self._heard_at_s = asyncio.get_running_loop().time()
        try:
            if (pod := self.topics.pod_of(topic)) is not None:
                self._heard(pod, payload, stands_s)
            elif (model := self.topics.model_of(topic)) is not None:
                self._take_hint(model, decoded(DemandHint, payload))
            elif topic == self.topics.drain(self.pod):
                self._drain(payload)
            else:
                raise Refused("topic", topic)
        except Refused as error:
            self.dropped[error.why] += 1
            log.debug("%s: %s", topic, error)

    def _heard(self, pod: str, payload: bytes, stands_s: float | None) -> None:
        if not payload:
            self._gone(pod)
            return
        state = decoded(PodState, payload)
        if pod == self.pod:
            self._heard_of_ourselves(state)
            return
        stands_s = self.pace.expiry_s if stands_s is None else stands_s
        if self._peers.heard(pod, state, self.now_s(), stands_s):
            self._hearsay.heard(pod, state.learned)

    def _gone(self, pod: str) -> None:
        if pod != self.pod:
            self._peers.gone(pod)
        elif not self._leaving:
            # The will of our connection before this one, or somebody's mistake: we are here.
            self._telling.said_nothing()

    def _heard_of_ourselves(self, state: PodState) -> None:
        """Our own voice comes back; another's under our name is an error of configuration."""
        if state.run == self.run:
            self._mute = self._echo_due_s = None
        elif self._namesake is None and self._spoke:
            self._namesake = f"another pod calls itself {self.pod} too"
            log.warning("gossip: %s", self._namesake)

    def _take_hint(self, model: str, hint: DemandHint) -> None:
        models = self.telemetry.latest.snapshot.models
        if model not in models:
            raise Refused("unknown_model", model)
        # Hints are rare, and all must agree on one: this is worth a table at once.
        places = self._fleet.upcoming or self._fleet.places
        if self.is_leaving or self.place not in places.order(model, hint.pods):
            return
        log.info("%s: demand was announced, %g requests", model, hint.count)
        if self.demand.report(model, hint.count, 0, 0.0, self.now_s()):
            self.wake()

    def _drain(self, payload: bytes) -> None:
        asked = bool(payload)
        if asked:
            decoded(DrainRequest, payload)
        if asked != self._asked_to_leave:
            log.info("gossip: drain %s by an operator", "asked for" if asked else "called off")
            self._asked_to_leave = asked
            self.wake()
