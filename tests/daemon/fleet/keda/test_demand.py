"""A gateway's demand by PromQL, asked of a Prometheus on a real port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from daemon.fleet.keda.demand import Demand, DemandUnknown
from daemon.fleet.samples import Samples
from daemon.fleet.telemetry import Telemetry
from tests.daemon.fleet.prometheus import FakePrometheus


@asynccontextmanager
async def demand(remembered_s: float = 60.0) -> AsyncIterator[Demand]:
    asking = Demand(Telemetry(Samples(30.0)), remembered_s)
    try:
        yield asking
    finally:
        await asking.close()


async def test_the_one_series_is_the_demand() -> None:
    async with FakePrometheus([2.5]) as server, demand() as asking:
        assert await asking.value(server.url, "sum(rate(requests[1m]))") == 2.5
    assert server.queries == ["sum(rate(requests[1m]))"]


async def test_a_scalar_is_the_demand_too() -> None:
    scalar = b'{"status":"success","data":{"resultType":"scalar","result":[1700000000,"3"]}}'
    async with FakePrometheus(scalar) as server, demand() as asking:
        assert await asking.value(server.url, "scalar(x)") == 3.0


async def test_many_who_ask_the_same_make_one_question() -> None:
    async with FakePrometheus([1.0], delay_s=0.1) as server, demand() as asking:
        found = await asyncio.gather(*(asking.value(server.url, "x") for _ in range(20)))
        assert found == [1.0] * 20
        await asking.value(server.url, "y")
    assert server.queries == ["x", "y"]


async def test_an_answer_holds_for_a_moment_only() -> None:
    async with FakePrometheus([1.0]) as server, demand(remembered_s=0.05) as asking:
        assert await asking.value(server.url, "x") == 1.0
        server.result = [0.0]
        await asyncio.sleep(0.1)
        assert await asking.value(server.url, "x") == 0.0


async def test_one_who_gives_up_takes_no_answer_from_the_others() -> None:
    async with FakePrometheus([1.0], delay_s=0.2) as server, demand() as asking:
        hasty = asyncio.create_task(asking.value(server.url, "x"))
        await asyncio.sleep(0.05)
        patient = asyncio.create_task(asking.value(server.url, "x"))
        await asyncio.sleep(0)
        hasty.cancel()
        assert await patient == 1.0


@pytest.mark.parametrize(
    ("result", "status", "words"),
    [
        ([], 200, "0 series"),
        ([1.0, 2.0], 200, "2 series"),
        (["NaN"], 200, "the answer is nan"),
        (["+Inf"], 200, "the answer is inf"),
        (["many"], 200, "not that of a query"),
        (b"<html>", 200, "not that of a query"),
        (b'{"status":"error","error":"parse error"}', 400, "status 400"),
        (b" " * 100_000, 200, "more than 65536 bytes"),
    ],
    ids=["none", "several", "nan", "infinite", "word", "html", "status", "huge"],
)
async def test_what_is_no_number_is_unknown(
    result: list[float | str] | bytes, status: int, words: str
) -> None:
    async with FakePrometheus(result, status) as server, demand() as asking:
        with pytest.raises(DemandUnknown, match=words):
            await asking.value(server.url, "x")


async def test_a_server_that_is_not_there_is_unknown() -> None:
    async with FakePrometheus() as server:
        url = server.url
    async with demand() as asking:
        with pytest.raises(DemandUnknown, match=url):
            await asking.value(url, "x")


async def test_a_server_that_does_not_answer_in_time_is_unknown() -> None:
    async with FakePrometheus([1.0], delay_s=30.0) as server, demand() as asking:
        with pytest.raises(DemandUnknown, match="no answer within 2 s"):
            await asking.value(server.url, "x")
