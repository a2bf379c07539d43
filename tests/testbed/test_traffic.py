"""Seeded arrivals, and the driver against a real Triton."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from tritonclient.grpc.aio import InferenceServerClient

from simulations.testbed.traffic import Arrival, Driver, Tally, says_absent, shifting_hot_set
from simulations.testbed.tritonserver import TritonServer, free_ports

MODELS = [f"model-{number:02}" for number in range(12)]


def arrivals(seed: int = 7, rate_per_s: float = 20.0) -> list[Arrival]:
    return list(
        shifting_hot_set(
            MODELS,
            duration_s=200,
            rate_per_s=rate_per_s,
            hot_count=4,
            shift_every_s=50,
            seed=seed,
        )
    )


def hottest(of: list[Arrival], begin_s: float, end_s: float) -> set[str]:
    counts = Counter(each.model for each in of if begin_s <= each.at_s < end_s)
    return {model for model, _ in counts.most_common(4)}


def test_the_same_seed_gives_the_same_arrivals() -> None:
    assert arrivals(seed=3) == arrivals(seed=3)
    assert arrivals(seed=3) != arrivals(seed=4)


def test_arrivals_are_ordered_and_come_at_the_rate() -> None:
    times_s = [each.at_s for each in arrivals()]
    assert all(earlier <= later for earlier, later in pairwise(times_s))
    assert times_s[0] >= 0
    assert times_s[-1] < 200
    assert len(times_s) == pytest.approx(20 * 200, rel=0.1)


def test_most_requests_go_to_the_hot_models() -> None:
    first = [each for each in arrivals() if each.at_s < 50]
    hot = hottest(first, 0, 50)
    share = sum(each.model in hot for each in first) / len(first)
    assert share == pytest.approx(0.9, abs=0.05)


def test_the_hot_set_slides_at_each_shift() -> None:
    every = arrivals()
    sets = [hottest(every, begin_s, begin_s + 50) for begin_s in (0, 50, 100, 150)]
    assert all(len(earlier & later) == 3 for earlier, later in pairwise(sets))


def test_more_hot_models_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="hot_count is 3; 1 to 2"):
        next(
            shifting_hot_set(
                ["a", "b"], duration_s=1, rate_per_s=1, hot_count=3, shift_every_s=1, seed=0
            )
        )


def test_every_model_may_be_hot() -> None:
    models = {
        each.model
        for each in shifting_hot_set(
            ["a", "b"], duration_s=50, rate_per_s=5, hot_count=2, shift_every_s=10, seed=0
        )
    }
    assert models == {"a", "b"}


async def test_a_resident_model_is_served_warm(
    server: TritonServer, client: InferenceServerClient
) -> None:
    await client.load_model("small")
    driver = Driver(server.grpc_url, _nobody_hears)
    outcomes = await driver.run([Arrival(0.0, "small"), Arrival(0.1, "small")])
    assert [(each.served, each.cold, each.error) for each in outcomes] == [(True, False, None)] * 2
    assert driver.total == Tally(sent=2, served=2)


async def test_a_miss_is_reported_and_served_after_someone_loads_the_model(
    server: TritonServer, client: InferenceServerClient
) -> None:
    misses: list[tuple[str, int]] = []
    loading: list[asyncio.Task[None]] = []

    async def report_miss(model: str, new_requests: int) -> None:
        misses.append((model, new_requests))
        loading.append(asyncio.create_task(client.load_model(model)))

    # The load takes 1.5 s, so a miss is reported twice: at once, and when a second is over.
    driver = Driver(server.grpc_url, report_miss)
    [outcome] = await driver.run([Arrival(0.0, "large")])
    await asyncio.gather(*loading)

    assert misses == [("large", 1), ("large", 0)]
    assert outcome.served
    assert outcome.cold
    assert 1.2 < outcome.latency_s < 3.0
    assert driver.tallies == {"large": Tally(sent=1, served=1)}


async def test_a_cold_request_holds_up_no_other(
    server: TritonServer, client: InferenceServerClient
) -> None:
    await client.load_model("small")
    driver = Driver(server.grpc_url, _nobody_hears, deadline_s=1.0)
    outcomes = await driver.run([Arrival(0.0, "large"), Arrival(0.05, "small")])
    assert [each.arrival.model for each in outcomes] == ["small", "large"]
    assert outcomes[0].latency_s < 0.5


async def test_a_model_that_never_comes_fails_at_the_deadline(
    server: TritonServer, client: InferenceServerClient
) -> None:
    driver = Driver(server.grpc_url, _nobody_hears, deadline_s=0.5)
    [outcome] = await driver.run([Arrival(0.0, "large")])
    assert not outcome.served
    assert outcome.cold
    assert outcome.latency_s == pytest.approx(0.5, abs=0.3)
    assert outcome.error is not None
    assert says_absent(outcome.error)
    assert driver.total == Tally(sent=1, failed=1)


async def test_waiting_requests_can_be_counted_and_cancelled_while_it_runs(
    server: TritonServer, client: InferenceServerClient
) -> None:
    misses: asyncio.Queue[str] = asyncio.Queue()

    async def report_miss(model: str, new_requests: int) -> None:
        await misses.put(model)

    driver = Driver(server.grpc_url, report_miss, report_every_s=60)
    running = asyncio.create_task(driver.run([Arrival(0.0, "large")] * 3))
    for _ in range(3):
        await misses.get()
    assert driver.tallies == {"large": Tally(sent=3, waiting=3)}

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert driver.tallies == {"large": Tally(sent=3)}
    assert len(asyncio.all_tasks()) == 1


async def test_a_report_that_nobody_hears_does_not_end_the_request(
    server: TritonServer, client: InferenceServerClient
) -> None:
    tried = asyncio.Event()

    async def refused(model: str, new_requests: int) -> None:
        tried.set()
        raise ConnectionRefusedError("nobody there")

    driver = Driver(server.grpc_url, refused)
    running = asyncio.create_task(driver.run([Arrival(0.0, "small")]))
    await tried.wait()
    await client.load_model("small")
    [outcome] = await running
    assert outcome.served
    assert outcome.cold
    assert driver.last_report_error == "nobody there"


async def test_a_server_that_is_away_is_a_failure_and_no_miss() -> None:
    misses: list[tuple[str, int]] = []

    async def report_miss(model: str, new_requests: int) -> None:
        misses.append((model, new_requests))

    driver = Driver(f"127.0.0.1:{free_ports(1)[0]}", report_miss)
    [outcome] = await driver.run([Arrival(0.0, "small")])
    assert not outcome.served
    assert not outcome.cold
    assert misses == []


async def _nobody_hears(model: str, new_requests: int) -> None:
    """The sidecar would hear of the miss; these tests have none."""
