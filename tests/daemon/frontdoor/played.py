"""A gate without sockets, on a loop whose clock jumps to whatever is due next."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import pytest

from daemon.frontdoor.gate import Call, Gate
from daemon.frontdoor.refusals import Outcome, Refusal
from policies.actions import Hold, Plan
from policies.history import History
from policies.policy import FrontDoor, Policy
from policies.snapshot import Model, ModelState, Snapshot

MONDAY_S = 1_767_600_000.0
MODELS = ("a", "b", "c")
STEPS = 25


class _Jumping(selectors.DefaultSelector):
    """Does not sleep until the next timer is due: it is told how long that is, and keeps it."""

    slept_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing is due ever again, and somebody still waits"
        self.slept_s += max(0.0, timeout)
        return super().select(0)


class PlayedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _Jumping()
        super().__init__(self.clock)

    def time(self) -> float:
        """Small, so that it is exact; an epoch's seconds are further apart than the loop thinks."""
        return self.clock.slept_s

    def now_s(self) -> float:
        return MONDAY_S + self.clock.slept_s


@dataclass
class Timeline:
    """A gate, with what the loop would tell it. woken: how often it made the loop look."""

    now_s: Callable[[], float]
    limits: FrontDoor = field(default_factory=FrontDoor)
    woken: int = 0

    def __post_init__(self) -> None:
        self.gate = Gate(self.now_s)
        self.gate.wake = self.wake

    def wake(self) -> None:
        self.woken += 1

    def look(
        self,
        ready: Iterable[str] = (),
        holds: Iterable[Hold] = (),
        *,
        loading: Iterable[str] = (),
        models: Iterable[str] = MODELS,
        asked_at_s: float | None = None,
        reachable: bool = True,
    ) -> None:
        """A tick that has seen ``models``, of which those in ``ready`` can serve."""
        states = dict.fromkeys(ready, ModelState.READY) | dict.fromkeys(loading, ModelState.LOADING)
        found: Mapping[str, Model] = {
            name: Model(name, states.get(name, ModelState.UNLOADED)) for name in models
        }
        snapshot = Snapshot(self.now_s(), reachable, models=found)
        plan = Plan((), tuple(holds), History())
        asked_at_s = self.now_s() if asked_at_s is None else asked_at_s
        self.gate.saw(Policy(front_door=self.limits), snapshot, plan, asked_at_s)

    def call(self, model: str = "a", **more: Any) -> Call:
        given: dict[str, Any] = {"version": "", "body_bytes": 0, "began_s": self.now_s()}
        return Call(model, **given | more)

    def arrive(self, model: str = "a", **more: Any) -> "asyncio.Task[bool]":
        return asyncio.create_task(self.gate.admit(self.call(model, **more)))

    async def refused(self, asking: Awaitable[bool], outcome: Outcome) -> Refusal:
        with pytest.raises(Refusal) as refused:
            await asking
        assert refused.value.outcome is outcome
        return refused.value


def played(
    test: Callable[[Timeline], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    """Runs ``test`` on a played loop: hours of it take no time."""

    @wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=PlayedLoop) as runner:
            runner.run(test(Timeline(now_s_of(runner))))

    # pytest would take the parameter that `wraps` shows for a fixture.
    del run.__wrapped__
    return run


def now_s_of(runner: asyncio.Runner) -> Callable[[], float]:
    loop = runner.get_loop()
    assert isinstance(loop, PlayedLoop)
    return loop.now_s


async def settled() -> None:
    """Lets everything run that can, without time going on."""
    for _ in range(STEPS):
        await asyncio.sleep(0)
