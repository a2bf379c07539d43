"""Plays the demo: the traffic, the live view, the kills if wanted, and the summary at the end.

Owns the course of it. The processes are `simulations.demo.stage`'s matter, what is shown
`simulations.demo.view`'s, and what it came to `simulations.demo.summary`'s.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from simulations.demo.chaos import Strike, judge, strike, strikes_over
from simulations.demo.stage import BUDGET_MIB, Stage, staged
from simulations.demo.summary import Facts, summary
from simulations.demo.view import Screen
from simulations.testbed.repository import demo_models
from simulations.testbed.traffic import Arrival, Driver, mixed, shifting_hot_set

RATE_PER_S = 25.0
SHIFT_EVERY_S = 10.0
HOT_COUNT = 2
HOT_SHARE = 0.99
LOOK_EVERY_S = 0.25


@dataclass(slots=True)
class _Seen:
    """What was seen of the servers: the most memory, and the sidecar's pages of metrics."""

    peak_reserved_bytes: int = 0
    peak_measured_bytes: int = 0
    metrics: list[str] = field(default_factory=list)

    def reserved(self, by_device: Sequence[int]) -> None:
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, *by_device, 0)


async def run_demo(
    seconds: float,
    directory: Path | None,
    seed: int,
    *,
    plain: bool,
    keep: Path | None = None,
    chaos: bool = False,
) -> bool:
    """Plays the demo for ``seconds`` of traffic and prints what it came to.

    The journal, the logs and the policy stay in ``directory``, by default ./remora-demo. Whether
    no request failed, or with ``chaos`` none but those executing inside a killed process. Raises
    DemoError.
    """
    directory = directory or Path("remora-demo")
    async with staged(directory, demo_models()) as stage:
        screen = Screen(plain=plain, keep=keep)
        strikes = strikes_over(seconds) if chaos else ()
        facts = await _play(stage, _arrivals(seconds, seed), strikes, screen)
    verdict = judge(facts.outcomes, facts.kills)
    print(summary(facts, verdict))
    return verdict.holds


def _arrivals(seconds: float, seed: int) -> list[Arrival]:
    specs = demo_models()
    hot = shifting_hot_set(
        [spec.name for spec in specs],
        duration_s=seconds,
        rate_per_s=RATE_PER_S,
        hot_count=HOT_COUNT,
        hot_share=HOT_SHARE,
        shift_every_s=SHIFT_EVERY_S,
        seed=seed,
    )
    return list(mixed(hot, specs, seed=seed))


async def _play(
    stage: Stage, arrivals: Sequence[Arrival], strikes: Sequence[Strike], screen: Screen
) -> Facts:
    seen = _Seen()
    driver = Driver(demo_models(), http_url=stage.http_url, grpc_url=stage.grpc_url)
    async with aiohttp.ClientSession(stage.sidecar.url) as session:

        async def keep_metrics() -> None:
            async with session.get("/metrics") as answer:
                seen.metrics.append(await answer.text())

        with screen:
            async with asyncio.TaskGroup() as tasks:
                showing = tasks.create_task(_show(session, driver, screen, seen))
                weighing = tasks.create_task(_weigh(stage, seen))
                striking = tasks.create_task(strike(stage, strikes, driver.now_s, keep_metrics))
                outcomes = await driver.run(arrivals)
                kills = await striking
                showing.cancel()
                weighing.cancel()
        await keep_metrics()
    return Facts(
        outcomes=tuple(outcomes),
        kills=tuple(kills),
        size_bytes={spec.name: spec.total_mb * 2**20 for spec in demo_models()},
        budget_bytes=BUDGET_MIB * 2**20,
        peak_reserved_bytes=seen.peak_reserved_bytes,
        peak_measured_bytes=seen.peak_measured_bytes,
        metrics=tuple(seen.metrics),
        directory=stage.directory,
    )


async def _show(
    session: aiohttp.ClientSession, driver: Driver, screen: Screen, seen: _Seen
) -> None:
    state: dict[str, Any] = {}
    while True:
        # While the sidecar is away the last state stays on the screen.
        with contextlib.suppress(OSError, aiohttp.ClientError):
            async with session.get("/v1/state") as answer:
                state = await answer.json()
        if state:
            seen.reserved([device["reserved"] for device in state["devices"].values()])
            screen.show(state, driver.tallies, driver.total)
        await asyncio.sleep(LOOK_EVERY_S)


async def _weigh(stage: Stage, seen: _Seen) -> None:
    """Weighs Triton's model processes, so that the summary rests on more than our own word."""
    while True:
        weights = await asyncio.to_thread(stage.triton.resident_bytes)
        seen.peak_measured_bytes = max(seen.peak_measured_bytes, sum(weights.values()))
        await asyncio.sleep(LOOK_EVERY_S)
