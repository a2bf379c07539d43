"""Carries out plans: loads and unloads as tasks, each watched until Triton has settled.

Owns what is under way by our own hand, and what came of it. Facts it lives by: a load
call that reaches its deadline goes on inside Triton, so it is watched and never sent
twice; an unload call returns long before memory is free, so the index is watched until
it says so; a load of a model that is already there would make a second copy, so the
index is asked right before every load.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from daemon.clock import Clock
from daemon.frontdoor.gate import Gate
from daemon.triton import (
    DeadlineExceeded,
    LoadRefused,
    Served,
    Triton,
    TritonError,
    Unreachable,
    classify,
)
from policies.actions import Action, Load, Unload
from policies.policy import Policy
from policies.snapshot import ErrorClass, LoadFailure, ModelState

log = logging.getLogger("remora.actuator")

POLL_S = 0.1
DRAIN_POLL_S = 0.02
_ASK_TIMEOUT_S = 5.0
_UNLOAD_TIMEOUT_S = 10.0


class Witness(Protocol):
    """Hears of every load and unload as it happens."""

    def began(self, name: str, *, is_load: bool) -> None: ...

    def loaded(self, name: str, started_at_s: float, took_s: float) -> None: ...

    def failed(self, name: str, failure: LoadFailure) -> None: ...

    def unloaded(self, name: str, took_s: float) -> None: ...

    def ended(self, name: str, *, well: bool) -> None: ...


@dataclass(slots=True)
class _Drain:
    """An unload that has not been sent: requests inside finish, new ones are held."""

    action: Unload
    called_off: bool = False


@dataclass(slots=True)
class Actuator:
    triton: Triton
    clock: Clock
    witness: Witness
    gate: Gate
    wake: Callable[[], None]
    _drains: dict[str, _Drain] = field(default_factory=dict)
    _states: dict[str, ModelState] = field(default_factory=dict)
    _overdue: set[str] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def states(self) -> dict[str, ModelState]:
        """What our own hand is doing, by model. What drains is READY still."""
        draining = self.draining()
        return {name: state for name, state in self._states.items() if name not in draining}

    def draining(self) -> frozenset[str]:
        """Models whose unload is decided and has not been sent."""
        drains = self._drains.values()
        return frozenset(name for drain in drains for name in _leaving(drain.action))

    def is_overdue(self, name: str) -> bool:
        """Whether a load of ours of ``name`` has outlived its deadline and goes on."""
        return name in self._overdue

    def start(self, action: Action, policy: Policy) -> None:
        """Begins ``action``, unless any of its models is already being handled."""
        names = action.brings if isinstance(action, Load) else _leaving(action)
        names = tuple(dict.fromkeys((*names, action.model)))
        if any(name in self._states for name in names):
            return
        if isinstance(action, Load):
            work, state = self._load(action, policy), ModelState.LOADING
        else:
            work, state = self._unload(action, policy), ModelState.UNLOADING
        self._states.update(dict.fromkeys(names, state))
        task = asyncio.create_task(self._carry_out(work, names), name=f"{state} {action.model}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def call_off(self, wanted: Iterable[Unload]) -> None:
        """Ends every drain that is not among the unloads ``wanted`` now."""
        still = {_leaving(action) for action in wanted}
        for drain in self._drains.values():
            drain.called_off |= _leaving(drain.action) not in still

    async def close(self) -> None:
        """Stops watching. Triton goes on with what it was told, and is left as it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry_out(self, work: Coroutine[Any, Any, None], names: tuple[str, ...]) -> None:
        try:
            await work
        except TritonError as error:
            log.warning("%s: %s", ", ".join(names), error)
        finally:
            for name in names:
                self._states.pop(name, None)
                self._overdue.discard(name)
            self.wake()

    async def _load(self, action: Load, policy: Policy) -> None:
        for name in (*action.first, action.model):
            if not await self._load_one(name, action.model, policy):
                return
        self.gate.opened(action.brings)

    async def _load_one(self, name: str, root: str, policy: Policy) -> bool:
        """Loads one model and sees it READY; whether it is."""
        before = await self._served(name)
        if before is not None and before.state is ModelState.READY and name != root:
            return True
        if before is not None and before.state in (ModelState.READY, ModelState.LOADING):
            # Somebody else was quicker; the next snapshot will show it.
            return False
        started_at_s = self.clock.now_s()
        self.witness.began(name, is_load=True)
        failure = await self._attempt(name, policy)
        took_s = self.clock.now_s() - started_at_s
        self.witness.ended(name, well=failure is None)
        if failure is None:
            log.info("%s: loaded in %.2f s", name, took_s)
            self.witness.loaded(name, started_at_s, took_s)
            self.gate.opened([name])
            return True
        log.warning("%s: load failed (%s): %s", name, failure.error_class, failure.message)
        self.witness.failed(name, failure)
        if name != root:
            self.witness.failed(root, failure)
        return False

    async def _attempt(self, name: str, policy: Policy) -> LoadFailure | None:
        try:
            await self.triton.load(name, policy.loads.timeout_s)
        except DeadlineExceeded:
            log.warning("%s: still loading after %g s; waiting", name, policy.loads.timeout_s)
            self._overdue.add(name)
            return await self._watch_overdue(name)
        except LoadRefused as refused:
            return LoadFailure(self.clock.now_s(), refused.error_class, refused.message)
        except Unreachable as gone:
            return LoadFailure(self.clock.now_s(), ErrorClass.UNAVAILABLE, str(gone))
        return None

    async def _watch_overdue(self, name: str) -> LoadFailure | None:
        """Waits for the end of a load whose call has timed out, however long it takes."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                served = await self._served(name)
            except DeadlineExceeded:
                continue
            except Unreachable as gone:
                return LoadFailure(self.clock.now_s(), ErrorClass.UNAVAILABLE, str(gone))
            if served is not None and served.state is ModelState.READY:
                return None
            if served is None or served.state is ModelState.UNLOADED:
                reason = served.reason if served else "gone from the repository"
                return LoadFailure(self.clock.now_s(), classify("", reason), reason)

    async def _unload(self, action: Unload, policy: Policy) -> None:
        names = _leaving(action)
        self.gate.shut(names)
        stays = False
        try:
            stays = not await self._drain(action, policy)
            for name in () if stays else names:
                if not await self._unload_one(name, policy):
                    # Members must not be pulled from under a caller that is still there.
                    return
        finally:
            self.gate.unshut(names, gone=not stays)

    async def _drain(self, action: Unload, policy: Policy) -> bool:
        """Lets requests that went through the door finish; whether the unload is still wanted.

        Those that Triton took from others need no waiting: it finishes what it has accepted.
        """
        drain = self._drains[action.model] = _Drain(action)
        deadline_s = self.clock.now_s() + policy.unloads.drain_s
        try:
            while not self.gate.is_drained(_leaving(action)):
                await asyncio.sleep(DRAIN_POLL_S)
                if drain.called_off:
                    log.info("%s: stays after all", action.model)
                    return False
                if self.clock.now_s() >= deadline_s:
                    log.warning("%s: unloading with requests inside", action.model)
                    break
        finally:
            del self._drains[action.model]
        return True

    async def _unload_one(self, name: str, policy: Policy) -> bool:
        """Unloads one model and sees it gone; whether it is."""
        started_at_s = self.clock.now_s()
        self.witness.began(name, is_load=False)
        well = False
        try:
            await self.triton.unload(name, _UNLOAD_TIMEOUT_S)
            well = await self._watch_unloading(name, policy)
        finally:
            self.witness.ended(name, well=well)
        if well:
            took_s = self.clock.now_s() - started_at_s
            log.info("%s: unloaded in %.2f s", name, took_s)
            self.witness.unloaded(name, took_s)
        return well

    async def _watch_unloading(self, name: str, policy: Policy) -> bool:
        """Waits until Triton says that it is gone; False when that never seems to come."""
        stuck_at_s = self.clock.now_s() + policy.unloads.stuck_s
        while True:
            served = await self._served(name)
            if served is None or served.state is ModelState.UNLOADED:
                return True
            if served.state is ModelState.READY:
                # Somebody loaded it again meanwhile.
                return False
            if self.clock.now_s() > stuck_at_s:
                # From here on the snapshot's UNLOADING says the same as our watching would.
                log.warning("%s: still unloading after %g s", name, policy.unloads.stuck_s)
                return False
            await asyncio.sleep(POLL_S)

    async def _served(self, name: str) -> Served | None:
        return (await self.triton.observe(_ASK_TIMEOUT_S)).get(name)


def _leaving(action: Unload) -> tuple[str, ...]:
    return (action.model, *action.takes)
