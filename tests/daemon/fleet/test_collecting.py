"""Rounds of questions over many sidecars, and what is served after each."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from daemon.fleet.collecting import Collecting
from daemon.fleet.credentials import Credentials, Files
from daemon.fleet.samples import Pod, Samples
from daemon.fleet.sidecars import Sidecars
from daemon.fleet.steadying import Steadying
from daemon.fleet.telemetry import Telemetry
from daemon.policyfile import PolicyFile
from tests.daemon.fleet.sidecar import FakeSidecar, said
from tests.daemon.fleet.waiting import eventually


@dataclass
class World:
    samples: Samples
    collecting: Collecting
    telemetry: Telemetry
    now_s: float = 1000.0

    def add(self, name: str, sidecar: FakeSidecar, deployment: str | None = "triton") -> None:
        self.samples.put_pod(
            Pod("default", name, name, {}, "127.0.0.1", sidecar.port, deployment, False, "Running")
        )

    def served(self, name: str) -> float | None:
        return self.samples.served(("default", name))

    def answers(self, outcome: str) -> float:
        labels = {"outcome": outcome}
        value = self.telemetry.registry.get_sample_value("remora_fleet_answers_total", labels)
        return value or 0.0


@asynccontextmanager
async def world(
    interval_s: float = 0.5, timeout_s: float = 0.4, concurrency: int = 8
) -> AsyncIterator[World]:
    samples = Samples(30.0)
    telemetry = Telemetry(samples)
    asking = Sidecars(Credentials(Files()), timeout_s, interval_s)
    steadying = Steadying(samples, PolicyFile(None), lambda: it.now_s)
    collecting = Collecting(
        samples, asking, telemetry, steadying.step, interval_s, concurrency, seed=1
    )
    it = World(samples, collecting, telemetry)
    try:
        yield it
    finally:
        await asking.close()


async def test_a_round_asks_everybody_and_serves_what_they_said() -> None:
    async with AsyncExitStack() as stack, world() as it:
        for number in range(20):
            sidecar = await stack.enter_async_context(FakeSidecar(said(number / 10)))
            it.add(f"p{number:02}", sidecar)
        await it.collecting.round()
        assert [it.served(f"p{number:02}") for number in range(20)] == pytest.approx(
            [number / 10 for number in range(20)]
        )
        assert it.answers("known") == 20


async def test_the_sum_of_a_deployment_falls_slowly() -> None:
    async with FakeSidecar(said(1.0)) as first, FakeSidecar(said(1.0)) as second, world() as it:
        it.add("a", first)
        it.add("b", second)
        await it.collecting.round()
        first.answer = said(0.2)
        it.now_s += 60.0
        await it.collecting.round()
        served = [it.served("a") or 0, it.served("b") or 0]
        # By the policy, a fall of the sum fades by e in a minute.
        assert sum(served) == pytest.approx(1.2 + 0.8 / 2.718281828)
        assert served[1] / served[0] == pytest.approx(5.0)


async def test_a_pod_without_a_deployment_is_served_as_it_is() -> None:
    async with FakeSidecar(said(1.0)) as sidecar, world() as it:
        it.add("bare", sidecar, deployment=None)
        await it.collecting.round()
        sidecar.answer = said(0.2)
        await it.collecting.round()
        assert it.served("bare") == 0.2


async def test_one_slow_sidecar_delays_nobody() -> None:
    async with (
        FakeSidecar() as well,
        FakeSidecar(delay_s=30.0) as slow,
        world(timeout_s=10.0, concurrency=1) as it,
    ):
        it.add("slow", slow)
        await it.collecting.round()
        it.add("well", well)
        # The only slot is the slow one's: it is waited for once, and no longer than a round.
        began_s = time.monotonic()
        await it.collecting.round()
        assert time.monotonic() - began_s < 5.0
        assert it.served("slow") is None
        await it.collecting._stop()


async def test_those_who_did_not_answer_are_asked_on_the_side() -> None:
    async with AsyncExitStack() as stack, world(timeout_s=1.0, concurrency=4) as it:
        for number in range(8):
            it.add(f"slow{number}", await stack.enter_async_context(FakeSidecar(delay_s=30.0)))
        await it.collecting.round()
        await eventually(lambda: it.answers("timeout") == 8)
        for number in range(8):
            it.add(f"well{number}", await stack.enter_async_context(FakeSidecar()))
        await it.collecting.round()
        assert [it.served(f"well{number}") for number in range(8)] == [0.4] * 8
        await it.collecting._stop()


async def test_a_round_does_not_wait_for_those_on_the_side() -> None:
    async with (
        FakeSidecar() as well,
        FakeSidecar(delay_s=30.0) as slow,
        world(interval_s=20.0, timeout_s=1.0) as it,
    ):
        it.add("well", well)
        it.add("slow", slow)
        await it.collecting.round()
        assert it.answers("timeout") == 1
        await it.collecting.round()
        assert it.answers("known") == 2
        assert it.answers("timeout") == 1, "it is still being asked"
        await it.collecting._stop()


async def test_nobody_is_asked_twice_at_once() -> None:
    async with FakeSidecar(delay_s=0.8) as sidecar, world(interval_s=0.2, timeout_s=5.0) as it:
        it.add("a", sidecar)
        for _ in range(3):
            await it.collecting.round()
        assert len(sidecar.requests) == 1
        await eventually(lambda: it.samples.signals(("default", "a")) is not None)


async def test_a_dead_sidecar_is_unknown_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeSidecar() as well, world() as it:
        async with FakeSidecar() as dead:
            it.add("dead", dead)
        it.add("well", well)
        for _ in range(3):
            await it.collecting.round()
        assert it.served("dead") is None
        assert it.served("well") == 0.4
        await eventually(lambda: it.answers("unreachable") == 3)
        lines = [each for each in caplog.messages if "gave no answer" in each]
        assert len(lines) == 1
        assert lines[0].startswith("1 of 2 sidecars gave no answer that can be used; default/dead")


async def test_a_triton_that_is_unreachable_is_counted_as_such() -> None:
    async with FakeSidecar(said(0.0, reachable=False)) as sidecar, world() as it:
        it.add("a", sidecar)
        await it.collecting.round()
        assert it.served("a") is None
        assert it.answers("triton-unreachable") == 1


async def test_rounds_go_on_until_they_are_told_to_stop() -> None:
    async with FakeSidecar() as sidecar, world(interval_s=0.1) as it:
        it.add("a", sidecar)
        task = asyncio.create_task(it.collecting.run())
        await eventually(lambda: it.collecting.rounds >= 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert it.served("a") == 0.4
