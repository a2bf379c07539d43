"""Carries out plans: loads and unloads as tasks, each watched until Triton has settled.

Owns what is under way by our own hand, and what came of it. Facts it lives by: a load
call that reaches its deadline goes on inside Triton, so it is watched and never sent
twice; an unload call returns long before memory is free, so the index is watched until
it says so; a load of a model that is already there would make a second copy, so the
index is asked right before every load. Where a second copy is what is wanted, the first is not
gone when the load has ended: it leaves when its requests have.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
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
    written,
)
from daemon.versions import Outcome, Versions
from policies.actions import Action, Load, Reason, Unload
from policies.policy import Policy
from policies.snapshot import ErrorClass, LoadFailure, ModelState

log = logging.getLogger("remora.actuator")

POLL_S = 0.1
DRAIN_POLL_S = 0.02
_ASK_TIMEOUT_S = 5.0
_UNLOAD_TIMEOUT_S = 10.0


class Witness(Protocol):
    """Hears of every load and unload as it happens."""

    def began(self, name: str, *, is_load: bool, beside: bool = False) -> None: ...

    def loaded(self, name: str, started_at_s: float, took_s: float) -> None: ...

    def failed(self, name: str, failure: LoadFailure) -> None: ...

    def unloaded(self, name: str, took_s: float) -> None: ...

    def ended(self, name: str, *, well: bool) -> None: ...

    def updated(self, name: str, outcome: Outcome) -> None: ...


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
    versions: Versions
    _drains: dict[str, _Drain] = field(default_factory=dict)
    _states: dict[str, ModelState] = field(default_factory=dict)
    _copied: dict[str, bool] = field(default_factory=dict)
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

    def updating(self) -> frozenset[str]:
        """Models that serve while a new copy of them loads."""
        return frozenset(name for name, has_come in self._copied.items() if not has_come)

    def former(self) -> frozenset[str]:
        """Models whose new copy serves, and whose old one may still be there."""
        return frozenset(name for name, has_come in self._copied.items() if has_come)

    def is_overdue(self, name: str) -> bool:
        """Whether a load of ours of ``name`` has outlived its deadline and goes on."""
        return name in self._overdue

    def start(self, action: Action, policy: Policy) -> None:
        """Begins ``action``, unless any of its models is already being handled."""
        copies = action.copies if isinstance(action, Load) else ()
        names = action.brings if isinstance(action, Load) else _leaving(action)
        names = tuple(n for n in dict.fromkeys((*names, action.model)) if n not in copies)
        if any(name in self._states or name in self._copied for name in (*names, *copies)):
            return
        if isinstance(action, Load):
            work, state = self._load(action, policy), ModelState.LOADING
        else:
            work, state = self._unload(action, policy), ModelState.UNLOADING
        self._states.update(dict.fromkeys(names, state))
        self._copied.update(dict.fromkeys(copies, False))
        carried_out = self._carry_out(work, names, copies)
        task = asyncio.create_task(carried_out, name=f"{state} {action.model}")
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

    async def _carry_out(
        self, work: Coroutine[Any, Any, None], names: tuple[str, ...], copies: tuple[str, ...]
    ) -> None:
        try:
            await work
        except TritonError as error:
            log.warning("%s: %s", ", ".join((*names, *copies)), error)
        finally:
            for name in (*names, *copies):
                self._states.pop(name, None)
                self._copied.pop(name, None)
                self._overdue.discard(name)
            self.wake()

    async def _load(self, action: Load, policy: Policy) -> None:
        before = await self.triton.observe(_ASK_TIMEOUT_S) if action.copies else {}
        for name in (*action.first, action.model):
            if not await self._load_one(name, action, policy):
                return
        self.gate.opened(action.brings)
        if action.copies:
            for name in (action.model, *action.brings):
                self._states.pop(name, None)
                self._overdue.discard(name)
            self._copied.update(dict.fromkeys(action.copies, True))
            self.wake()
            await self._see_off(action.copies, before, policy)

    async def _load_one(self, name: str, action: Load, policy: Policy) -> bool:
        """Loads one model and sees it READY; whether it is."""
        root, beside = action.model, name in action.copies
        before = await self._served(name)
        is_ready = before is not None and before.state is ModelState.READY
        if is_ready and name != root:
            return True
        if is_ready is not beside or (before and before.state is ModelState.LOADING):
            # Somebody else was quicker; the next snapshot will show it.
            return False
        if before and beside and before.more_come:
            return False
        config = self.versions.restricted(name, action.versions) if action.versions else None
        started_at_s = self.clock.now_s()
        self.witness.began(name, is_load=True, beside=beside)
        failure = await self._attempt(name, policy, config, beside=beside)
        took_s = self.clock.now_s() - started_at_s
        self.witness.ended(name, well=failure is None)
        if failure is None:
            log.info("%s: loaded in %.2f s", name, took_s)
            self._tell_update(name, action)
            self.versions.loaded(name, action.versions)
            self.witness.loaded(name, started_at_s, took_s)
            self.gate.opened([name])
            return True
        log.warning("%s: load failed (%s): %s", name, failure.error_class, failure.message)
        is_update = beside or self.versions.is_swapped(name)
        if is_update and failure.error_class is not ErrorClass.UNAVAILABLE:
            self.witness.updated(name, Outcome.REFUSED)
        went_back = bool(action.versions)
        self.versions.failed(name, failure, beside=beside, went_back=went_back)
        self.witness.failed(name, failure)
        if name != root:
            self.witness.failed(root, failure)
        return False

    def _tell_update(self, name: str, action: Load) -> None:
        if action.versions:
            self.witness.updated(name, Outcome.ROLLED_BACK)
        elif name in action.copies:
            self.witness.updated(name, Outcome.BESIDE)
        elif self.versions.is_swapped(name):
            self.witness.updated(name, Outcome.SWAPPED)

    async def _see_off(
        self, names: Iterable[str], before: Mapping[str, Served], policy: Policy
    ) -> None:
        """Waits until the copies that new ones have replaced are gone.

        The index tells of versions that leave. Where a new copy is of the same version it tells
        nothing of the old one, which takes memory until its requests have ended; the time
        that a drain gives them is all that is known of those.
        """
        after = await self.triton.observe(_ASK_TIMEOUT_S)
        known = [name for name in names if name in before and name in after]
        if any({*after[name].versions} & {*before[name].versions} for name in known):
            await asyncio.sleep(policy.unloads.drain_s)
        while True:
            served = await self.triton.observe(_ASK_TIMEOUT_S)
            if not any(served[name].more_leave for name in names if name in served):
                return
            await asyncio.sleep(POLL_S)

    async def _attempt(
        self, name: str, policy: Policy, config: str | None, *, beside: bool
    ) -> LoadFailure | None:
        try:
            if beside:
                await self._load_beside(name, policy)
            else:
                await self.triton.load(name, policy.loads.timeout_s, config)
        except DeadlineExceeded:
            log.warning("%s: still loading after %g s; waiting", name, policy.loads.timeout_s)
            self._overdue.add(name)
            return await self._watch_overdue(name)
        except LoadRefused as refused:
            return LoadFailure(self.clock.now_s(), refused.error_class, refused.message)
        except Unreachable as gone:
            return LoadFailure(self.clock.now_s(), ErrorClass.UNAVAILABLE, str(gone))
        return None

    async def _load_beside(self, name: str, policy: Policy) -> None:
        """Has no deadline: the index says READY all along, so only the answer tells the end."""
        call = asyncio.ensure_future(self.triton.load(name, None))
        try:
            await asyncio.wait({call}, timeout=policy.loads.timeout_s)
            if not call.done():
                log.warning("%s: still loading after %g s; waiting", name, policy.loads.timeout_s)
                self._overdue.add(name)
            await call
        finally:
            call.cancel()

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
            if action.reason is Reason.UPDATED and not stays:
                stays = not await self._keep_for_return(action.model)
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

    async def _keep_for_return(self, name: str) -> bool:
        """Writes down what it takes to have ``name`` again as it is; whether that is known."""
        try:
            served, config = await self._served(name), await self.triton.config(name)
        except TritonError as error:
            log.warning("%s: stays: its configuration cannot be had: %s", name, error)
            return False
        if served is None or served.state is not ModelState.READY:
            return False
        await asyncio.to_thread(self.versions.swaps, name, served.versions, written(config))
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
