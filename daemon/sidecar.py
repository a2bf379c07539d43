"""The loop: observe, plan, journal, act, publish; once a tick, or at once when woken.

Owns the parts and their order. A tick that fails is logged, counted and skipped; the
next one starts from what is true then.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.actuator import Actuator
from daemon.clock import Clock
from daemon.demand import Demand
from daemon.frontdoor.gate import Gate
from daemon.frontdoor.visits import AccessJournal
from daemon.journal import JournalWriter
from daemon.learned import LearnedStore
from daemon.leaving import Leaving
from daemon.observer import Observer
from daemon.policyfile import PolicyFile
from daemon.telemetry import Latest, Telemetry
from daemon.triton import Triton
from daemon.versions import Outcome
from policies.actions import Action, Load, Plan
from policies.history import History
from policies.journal import Tick
from policies.planner import plan
from policies.policy import Mode, Policy
from policies.snapshot import LoadFailure, Snapshot
from policies.source import effective

if TYPE_CHECKING:
    from daemon.foresight.part import Foresight
    from daemon.gossip.part import Gossip

log = logging.getLogger("remora.loop")

# Woken however often, it decides at most this often.
SHORTEST_TICK_S = 0.05
SAVE_EVERY_S = 10.0
# Decisions kept for those who look.
RECENT = 20


@dataclass(slots=True)
class Sidecar:
    """Everything one running sidecar holds."""

    policy_file: PolicyFile
    triton: Triton
    observer: Observer
    learned: LearnedStore
    journal: JournalWriter
    access: AccessJournal
    demand: Demand
    clock: Clock
    gate: Gate
    gossip: "Gossip | None" = None
    leaving: Leaving | None = None
    foresight: "Foresight | None" = None
    history: History = field(default_factory=History)
    telemetry: Telemetry = field(init=False)
    actuator: Actuator = field(init=False)
    ticks: int = 0
    recent: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=RECENT))
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _told: tuple[Action, ...] = ()
    _stopping: bool = False
    _saved_at_s: float = 0.0
    _written_policy: tuple[Policy, dict[str, object]] | None = None

    def __post_init__(self) -> None:
        nothing = Plan((), (), self.history)
        latest = Latest(self.policy_file.policy, self.observer.last, nothing)
        self.telemetry = Telemetry(latest, self.gate)
        witness = Witness(self.observer, self.telemetry)
        self.actuator = Actuator(
            self.triton, self.clock, witness, self.gate, self.wake, self.observer.versions
        )
        self.gate.wake = self.wake

    @property
    def is_ready(self) -> bool:
        """Whether Triton answered at the latest tick."""
        return self.ticks > 0 and self.telemetry.latest.snapshot.reachable

    @property
    def is_alive(self) -> bool:
        """Whether ticks still come; Triton's own trouble does not count."""
        quiet_s = self.clock.now_s() - self.telemetry.latest.snapshot.now_s
        return self.ticks == 0 or quiet_s < 30 + 3 * self.policy_file.policy.tick_s

    def wake(self) -> None:
        """Makes the next tick come at once."""
        self._woken.set()

    def stop(self) -> None:
        """Ends the loop after the tick under way; Triton keeps what it has."""
        self._stopping = True
        self.wake()

    def reload_policy(self, *, always: bool = False) -> None:
        taken = self.policy_file.reload(always=always)
        if taken is not None:
            self.telemetry.reloads.labels("taken" if taken else "refused").inc()

    async def run(self) -> None:
        """Ticks until stopped."""
        while not self._stopping:
            self._woken.clear()
            began_s = time.monotonic()
            try:
                await self.tick()
            except Exception:
                # The one place to catch everything: whatever broke this tick, Triton must not
                # be left alone for it.
                log.exception("tick failed; the next one starts afresh")
                self.telemetry.tick_errors.inc()
            took_s = time.monotonic() - began_s
            self.telemetry.tick_seconds.observe(took_s)
            await self._rest(max(0.0, self.policy_file.policy.tick_s - took_s))
        await self.actuator.close()
        await asyncio.to_thread(self.learned.save)
        await asyncio.to_thread(self.journal.close)

    async def tick(self) -> None:
        """One observation, one decision, and its consequences."""
        self.reload_policy()
        policy = self.policy_file.policy
        asked_at_s = self.clock.now_s()
        snapshot = await self.observer.observe(policy, self.actuator)
        if self.foresight:
            self.history = self.foresight.joined(policy, self.history)
        decision = plan(policy, snapshot, self.history)
        self._write(policy, snapshot, decision)
        self.history = decision.history
        self._act(policy, decision)
        self.gate.saw(policy, snapshot, decision, asked_at_s)
        await self._publish(policy, snapshot, decision)
        self.ticks += 1

    def _write(self, policy: Policy, snapshot: Snapshot, decision: Plan) -> None:
        if self._written_policy is None or self._written_policy[0] is not policy:
            self._written_policy = (policy, effective(policy))
        self.journal.write(
            Tick(
                self._written_policy[1],
                snapshot,
                self.history,
                decision.actions,
                decision.holds,
                decision.history,
            )
        )

    def _act(self, policy: Policy, decision: Plan) -> None:
        """Carries the plan out; in observe mode only tells it.

        What nobody carries out is decided again each tick; it is told and counted once.
        """
        self.actuator.call_off(decision.unloads if policy.mode is Mode.ACT else ())
        would = "" if policy.mode is Mode.ACT else "would "
        for action in decision.actions:
            if action not in self._told:
                told = would + _told(action)
                log.info("%s", told)
                self.recent.append((self.clock.now_s(), told))
                self.telemetry.decided(action)
            if policy.mode is Mode.ACT:
                self.actuator.start(action, policy)
        self._told = decision.actions

    async def _publish(self, policy: Policy, snapshot: Snapshot, decision: Plan) -> None:
        self.telemetry.took(Latest(policy, snapshot, decision))
        if self.gossip:
            self.gossip.took()
        if self.leaving:
            self.leaving.took(snapshot)
        if snapshot.now_s - self._saved_at_s >= SAVE_EVERY_S:
            self._saved_at_s = snapshot.now_s
            await asyncio.to_thread(self.learned.save)

    async def _rest(self, rest_s: float) -> None:
        await asyncio.sleep(min(SHORTEST_TICK_S, rest_s))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), max(0.0, rest_s - SHORTEST_TICK_S))


@dataclass(frozen=True, slots=True)
class Witness:
    """Passes what the actuator tells to the observer, and counts it."""

    observer: Observer
    telemetry: Telemetry

    def began(self, name: str, *, is_load: bool, beside: bool = False) -> None:
        self.observer.began(name, is_load=is_load, beside=beside)

    def loaded(self, name: str, started_at_s: float, took_s: float) -> None:
        self.telemetry.load_seconds.observe(took_s)
        self.observer.loaded(name, started_at_s, took_s)

    def failed(self, name: str, failure: LoadFailure) -> None:
        self.telemetry.load_failures.labels(failure.error_class.value).inc()
        self.observer.failed(name, failure)

    def unloaded(self, name: str, took_s: float) -> None:
        self.telemetry.unload_seconds.observe(took_s)
        self.observer.unloaded(name, took_s)

    def ended(self, name: str, *, well: bool) -> None:
        self.observer.ended(name, well=well)

    def updated(self, name: str, outcome: Outcome) -> None:
        log.info("%s: changed files: %s", name, outcome.replace("_", " "))
        self.telemetry.updates.labels(outcome.value).inc()


def _told(action: Action) -> str:
    if isinstance(action, Load):
        how = ", beside the old copy" if action.is_update else ""
        what = ", version ".join(("", *map(str, action.versions)))
        return f"load {action.model} ({action.reason}{how}{what})"
    room = f" for {action.for_model}" if action.for_model else ""
    return f"unload {action.model} ({action.reason}{room})"
