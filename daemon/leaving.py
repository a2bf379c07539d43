"""How a pod goes: it tells its peers, has them take over what only it holds, and ends its work.

Owns when that is done and what still holds it back. A pod that leaves goes on serving what it has
loaded; only requests for models that it lacks are sent to another pod, and only those that came by
the gateway, which can send them there. Refuses to decide who takes a model over: each peer does
(`policies.planner`), and is seen here to have done it. Refuses to end the process.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from daemon.frontdoor.envoyadmin import EnvoyAdmin
from daemon.telemetry import Departure, Telemetry
from policies.snapshot import ModelState, Snapshot

log = logging.getLogger("remora.leaving")

HAND_OVER_SHARE = 0.5
"""Of the deadline: peers without room never take a model over, and are not waited for longer."""
QUIET_S = 1.0
"""Nothing is in flight once so long nothing was: between two requests of one client is not yet."""
LOOK_EVERY_S = 0.25
_MOST_NAMED = 5


class Peer(Protocol):
    @property
    def residents(self) -> frozenset[str]: ...

    @property
    def leaving(self) -> bool: ...


class Fleet(Protocol):
    """What gossip knows of the other pods, and hears from us."""

    @property
    def asked_to_leave(self) -> bool: ...

    def leave(self) -> None: ...

    def peers(self) -> Mapping[str, Any]: ...


@dataclass(slots=True)
class Leaving:
    """Stays until `begin`, or while an operator asks it to leave by gossip.

    deadline_s: from `begin` until the pod is out in any case. notice_s: how long at least it goes
    on serving, so that Services, name servers and the gateway have dropped it. fleet: the gossip;
    None where the pod is alone. envoy: the pod's own, where it can be asked.
    """

    telemetry: Telemetry
    now_s: Callable[[], float]
    wake: Callable[[], None]
    deadline_s: float
    notice_s: float
    fleet: Fleet | None = None
    envoy: EnvoyAdmin | None = None
    held_back: Mapping[str, str] = field(default_factory=dict)
    _began_s: float | None = None
    _busy_at_s: float = float("-inf")
    _task: asyncio.Task[None] | None = None
    _stopping: asyncio.Task[None] | None = None
    _out: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_begun(self) -> bool:
        return self._began_s is not None

    @property
    def is_out(self) -> bool:
        return self._out.is_set()

    @property
    def is_leaving(self) -> bool:
        return self.has_begun or (self.fleet is not None and self.fleet.asked_to_leave)

    @property
    def has_successors(self) -> bool:
        """Whether a peer is known that stays."""
        return bool(self._staying())

    def begin(self, why: str) -> None:
        """There is no way back. why: who asks, for the log."""
        if self.has_begun:
            return
        self._began_s = self._busy_at_s = self.now_s()
        log.info("leaving: %s; out within %g s", why, self.deadline_s)
        if self.fleet is not None:
            self.fleet.leave()
        gate = self.telemetry.gate
        gate.lets_go = True
        self.look()
        self._task = asyncio.create_task(self._go(), name="leaving")
        self.wake()

    def terminate(self, stop: Callable[[], None]) -> None:
        """SIGTERM: calls ``stop`` when the pod is out, which a preStop hook has seen to; a second
        one, or where nobody would take over, at once."""
        if self.is_out or self._stopping is not None or not (self.has_begun or self.has_successors):
            stop()
            return
        self.begin("SIGTERM")

        async def stop_when_out() -> None:
            await self.out()
            stop()

        self._stopping = asyncio.create_task(stop_when_out(), name="stopping")

    async def out(self) -> None:
        """Returns when the pod may end."""
        await self._out.wait()

    async def close(self) -> None:
        tasks = [task for task in (self._task, self._stopping) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Whoever still waits to be told would hold the port open.
        self._out.set()
        if self.envoy is not None:
            await self.envoy.close()

    def told(self) -> dict[str, Any] | None:
        """For who looks at the sidecar's state; None while it stays."""
        if not self.is_leaving:
            return None
        unshared = self._unshared()
        return {
            "since_s": self._began_s,
            "out": self.is_out,
            "held_back": dict(self.held_back),
            "held_here_alone": None if unshared is None else list(unshared),
        }

    def look(self) -> None:
        """Takes in what is so now; after each tick, and more often while it leaves."""
        self.telemetry.gate.moves = self.is_leaving and self.has_successors
        unshared = self._unshared() if self.is_leaving else None
        self.telemetry.departure = Departure(
            self.is_leaving, None if unshared is None else len(unshared)
        )

    def took(self, snapshot: Snapshot) -> None:
        """Takes in a tick."""
        gate = self.telemetry.gate
        if gate.waiting or (snapshot.reachable and any(map(_is_busy, snapshot.models.values()))):
            self._busy_at_s = self.now_s()
        self.look()

    async def _go(self) -> None:
        if self.envoy is not None:
            await self.envoy.let_go()
        while not self._out.is_set():
            if self.envoy is not None and await self.envoy.active():
                self._busy_at_s = self.now_s()
            self.look()
            self._look_for_the_end()
            await asyncio.sleep(LOOK_EVERY_S)

    def _look_for_the_end(self) -> None:
        assert self._began_s is not None
        now_s, before = self.now_s(), self.held_back
        passed_s = now_s - self._began_s
        self.held_back = {} if passed_s >= self.deadline_s else dict(self._holding_back(passed_s))
        if self.held_back.keys() != before.keys() and self.held_back:
            log.info("leaving is held back: %s", "; ".join(self.held_back.values()))
        if self.held_back:
            return
        log.info("out after %.1f s%s", passed_s, self._left_undone(before))
        self._out.set()

    def _holding_back(self, passed_s: float) -> list[tuple[str, str]]:
        found = []
        if passed_s < self.notice_s:
            found.append(("notice", "requests may still be sent here"))
        unshared = self._unshared()
        if unshared and self._hands_over() and passed_s < HAND_OVER_SHARE * self.deadline_s:
            found.append(("hand_over", f"no other pod holds {_listed(unshared)} yet"))
        if self.now_s() - self._busy_at_s < QUIET_S:
            found.append(("in_flight", "requests are in flight"))
        return found

    def _left_undone(self, before: Mapping[str, str]) -> str:
        unshared = self._unshared()
        undone = []
        if unshared:
            undone.append(f"no other pod holds {_listed(unshared)}")
        if "in_flight" in before and self.now_s() - self._busy_at_s < QUIET_S:
            undone.append("requests were still in flight")
        return f"; {', and '.join(undone)}" if undone else ""

    def _hands_over(self) -> bool:
        """Whether peers take models over: by the policy, which a fleet shares."""
        policy = self.telemetry.latest.policy
        return policy.fleet.hand_over and policy.routes_by_model and self.has_successors

    def _staying(self) -> list[Peer]:
        peers = self.fleet.peers() if self.fleet is not None else {}
        return [peer for peer in peers.values() if not peer.leaving]

    def _unshared(self) -> tuple[str, ...] | None:
        """Models that can serve here, and in no peer that stays; None where peers are unknown."""
        if self.fleet is None:
            return None
        elsewhere = frozenset[str]().union(*(peer.residents for peer in self._staying()))
        models = self.telemetry.latest.snapshot.models
        return tuple(
            name
            for name, model in sorted(models.items())
            if model.state is ModelState.READY and name not in elsewhere
        )


def _is_busy(model: Any) -> bool:
    return bool(model.arrivals > 0 or model.in_flight or model.waiting or model.leases)


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    rest = len(names) - _MOST_NAMED
    return f"{shown} and {rest} more" if rest > 0 else shown
