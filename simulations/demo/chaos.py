"""Kills Triton and the sidecar while traffic runs, and judges which requests that may cost.

Owns when who is killed, and what was executing inside the killed process at that moment. What a
kubelet does is played here: whatever died is started again a second later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from simulations.demo.stage import Stage
from simulations.testbed.traffic import Outcome

Victim = Literal["Triton", "sidecar"]

RESTART_AFTER_S = 1.0
# A client whose connection breaks knows at once. Who fails later was not executing but waiting.
NOTICED_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Strike:
    """A kill that is due at_s after the start of the run."""

    at_s: float
    victim: Victim


def strikes_over(seconds: float) -> tuple[Strike, ...]:
    """Triton twice, and the sidecar once between."""
    return (
        Strike(seconds / 4, "Triton"),
        Strike(seconds / 2, "sidecar"),
        Strike(3 * seconds / 4, "Triton"),
    )


@dataclass(frozen=True, slots=True)
class Kill:
    """A SIGKILL: the victim lived at began_s and was gone at ended_s, in the time of the run."""

    victim: Victim
    began_s: float
    ended_s: float


async def strike(
    stage: Stage,
    strikes: Sequence[Strike],
    now_s: Callable[[], float],
    before_sidecar: Callable[[], Awaitable[None]],
) -> list[Kill]:
    """Kills and restarts by ``strikes``, which are ordered in time.

    now_s: the time of the run. before_sidecar: awaited before the sidecar is killed, for whoever
    wants to keep what only it knows.
    """
    kills = []
    for each in strikes:
        await asyncio.sleep(max(0.0, each.at_s - now_s()))
        if each.victim == "sidecar":
            await before_sidecar()
        process = stage.triton if each.victim == "Triton" else stage.sidecar
        began_s = now_s()
        await asyncio.to_thread(process.kill)
        kills.append(Kill(each.victim, began_s, now_s()))
        await asyncio.sleep(RESTART_AFTER_S)
        await asyncio.to_thread(process.restart)
    return kills


@dataclass(frozen=True, slots=True)
class Verdict:
    """The failures, told apart. executing: those inside a killed process when it died."""

    executing: tuple[Outcome, ...]
    others: tuple[Outcome, ...]

    @property
    def holds(self) -> bool:
        """Whether no request failed but those that no front door could have saved."""
        return not self.others


def judge(outcomes: Iterable[Outcome], kills: Sequence[Kill]) -> Verdict:
    failed = [outcome for outcome in outcomes if not outcome.served]
    executing = [each for each in failed if any(was_inside(each, kill) for kill in kills)]
    return Verdict(tuple(executing), tuple(each for each in failed if each not in executing))


def was_inside(outcome: Outcome, kill: Kill) -> bool:
    """Whether ``outcome`` ended because it was executing in, or streamed by, what was killed.

    The sidecar carries the answers of gRPC streams only; whatever else it holds is held by Envoy
    as well, which can ask again.
    """
    if kill.victim == "sidecar" and outcome.arrival.protocol != "stream":
        return False
    began_before = outcome.began_s <= kill.ended_s
    return began_before and kill.began_s <= outcome.ended_s <= kill.ended_s + NOTICED_WITHIN_S
