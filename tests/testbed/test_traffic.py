"""Seeded arrivals, and the driver against a real Triton."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise, product
from typing import Any

import grpc
import pytest
from aiohttp import test_utils, web
from tritonclient.grpc import service_pb2, service_pb2_grpc

from simulations.testbed.protocols import Protocol
from simulations.testbed.repository import ModelSpec
from simulations.testbed.traffic import Arrival, Driver, Tally, mixed, shifting_hot_set
from simulations.testbed.tritonserver import Installation, TritonServer, free_ports
from tests.testbed.started import started

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


SPECS = (
    ModelSpec("plain", 30, load_s=0.4, compute_ms=2),
    ModelSpec("versions", 30, load_s=0.4, compute_ms=2, versions=(1, 2)),
    ModelSpec("stream", 30, load_s=0.4, compute_ms=2, decoupled=True),
    ModelSpec("slow", 30, load_s=0.4, compute_ms=1500),
    ModelSpec("absent", 30, load_s=0.4, compute_ms=2),
)


ONCE: tuple[Protocol, ...] = ("http", "generate", "grpc", "stream")
STREAMS: tuple[Protocol, ...] = ("generate_stream", "stream")


def drawn(pinned_share: float = 0.25, seed: int = 5) -> list[Arrival]:
    names = [spec.name for spec in SPECS]
    plain = shifting_hot_set(
        names, duration_s=100, rate_per_s=20, hot_count=5, shift_every_s=20, seed=1
    )
    return list(mixed(plain, SPECS, pinned_share=pinned_share, seed=seed))


def test_the_same_seed_gives_the_same_mix() -> None:
    assert drawn(seed=5) == drawn(seed=5)
    assert drawn(seed=5) != drawn(seed=6)


def test_every_protocol_is_drawn_and_decoupled_models_are_asked_by_streams_alone() -> None:
    by_model = {
        spec.name: {each.protocol for each in drawn() if each.model == spec.name} for spec in SPECS
    }
    assert by_model.pop("stream") == {"stream", "generate_stream"}
    assert all(each == {"http", "grpc", "stream", "generate"} for each in by_model.values())


def test_a_share_is_pinned_to_a_version_that_the_model_has() -> None:
    pinned = [each for each in drawn() if each.version]
    assert len(pinned) / len(drawn()) == pytest.approx(0.25, abs=0.05)
    assert {each.version for each in pinned if each.model == "versions"} == {1, 2}
    assert {each.version for each in pinned if each.model != "versions"} == {1}
    assert not any(each.version for each in drawn(pinned_share=0))


# --- the driver against a real Triton ------------------------------------------------------------


@pytest.fixture(scope="module")
def triton(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """A server with every model of SPECS loaded but the absent one."""
    folder = tmp_path_factory.mktemp("traffic")
    loaded = [spec.name for spec in SPECS if spec.name != "absent"]
    with started(installation, folder, SPECS, loaded) as server:
        server.wait_live()
        yield server


def driver(triton: TritonServer, deadline_s: float = 60.0) -> Driver:
    return Driver(SPECS, http_url=triton.http_url, grpc_url=triton.grpc_url, deadline_s=deadline_s)


async def test_every_protocol_and_every_version_is_answered_rightly(triton: TritonServer) -> None:
    asked = [
        *product(["plain"], ONCE, [None, 1]),
        *product(["versions"], ONCE, [None, 1, 2]),
        *product(["stream"], STREAMS, [None, 1]),
    ]
    arrivals = [Arrival(0.01 * at, *each) for at, each in enumerate(asked)]
    running = driver(triton)
    outcomes = await running.run(arrivals)
    assert [(each.arrival, each.error) for each in outcomes if not each.served] == []
    assert {each.cold for each in outcomes} == {None}, "nobody counts attempts here"
    assert running.total == Tally(sent=24, served=24)


@pytest.mark.parametrize("protocol", [*ONCE, "generate_stream"])
@pytest.mark.parametrize("version", [None, 1])
async def test_an_absent_model_fails_at_once_and_is_asked_once(
    triton: TritonServer, protocol: Protocol, version: int | None
) -> None:
    running = driver(triton)
    [outcome] = await running.run([Arrival(0.0, "absent", protocol, version)])
    assert outcome.error is not None
    assert "'absent' is not found" in outcome.error
    assert outcome.latency_s < 1
    assert running.tallies == {"absent": Tally(sent=1, failed=1)}


@pytest.mark.parametrize("protocol", ONCE)
async def test_patience_ends_at_the_deadline(triton: TritonServer, protocol: Protocol) -> None:
    [outcome] = await driver(triton, deadline_s=0.4).run([Arrival(0.0, "slow", protocol)])
    assert not outcome.served
    assert outcome.latency_s == pytest.approx(0.4, abs=0.3)


async def test_a_slow_request_holds_up_no_other(triton: TritonServer) -> None:
    outcomes = await driver(triton).run([Arrival(0.0, "slow"), Arrival(0.05, "plain")])
    assert [each.arrival.model for each in outcomes] == ["plain", "slow"]
    assert outcomes[0].latency_s < 0.5


async def test_an_outcome_tells_when_it_was_under_way(triton: TritonServer) -> None:
    [outcome] = await driver(triton).run([Arrival(0.3, "slow", "http")])
    assert 0.3 <= outcome.began_s < 0.5
    assert outcome.ended_s - outcome.began_s == pytest.approx(1.5, abs=0.3)
    assert outcome.latency_s == outcome.ended_s - 0.3


async def test_requests_under_way_can_be_counted_and_cancelled(triton: TritonServer) -> None:
    running = driver(triton)
    task = asyncio.create_task(running.run([Arrival(0.0, "slow", "http"), Arrival(0.0, "slow")]))
    await asyncio.sleep(0.5)
    assert running.tallies == {"slow": Tally(sent=2)}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running.tallies == {"slow": Tally(sent=2)}
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("protocol", ["http", "grpc", "stream"])
async def test_a_server_that_is_away_is_a_failure(protocol: Protocol) -> None:
    http_port, grpc_port = free_ports(2)
    running = Driver(
        SPECS, http_url=f"127.0.0.1:{http_port}", grpc_url=f"127.0.0.1:{grpc_port}", deadline_s=5
    )
    [outcome] = await running.run([Arrival(0.0, "plain", protocol)])
    assert not outcome.served
    assert outcome.latency_s < 4


# --- what a proxy says of its attempts, and answers that are wrong -------------------------------


class _Doubling(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Doubles X as a model would, and counts attempts as a proxy would: three every time."""

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        await context.send_initial_metadata([("x-envoy-attempt-count", "3")])
        [value] = struct.unpack("<f", request.raw_input_contents[0])
        return service_pb2.ModelInferResponse(raw_output_contents=[struct.pack("<f", 2 * value)])


@pytest.fixture
async def proxied() -> AsyncIterator[Driver]:
    async def generate(request: web.Request) -> web.Response:
        value = (await request.json())["X"]
        headers = {"x-envoy-attempt-count": "1" if request.match_info["model"] == "plain" else "3"}
        # Of the models with two versions the newest triples.
        return web.json_response({"Y": 2 * value}, headers=headers)

    app = web.Application()
    app.router.add_post("/v2/models/{model}/generate", generate)
    http = test_utils.TestServer(app)
    await http.start_server()
    grpc_server = grpc.aio.server()
    grpc_port = grpc_server.add_insecure_port("127.0.0.1:0")
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Doubling(), grpc_server)
    await grpc_server.start()
    yield Driver(SPECS, http_url=f"127.0.0.1:{http.port}", grpc_url=f"127.0.0.1:{grpc_port}")
    await grpc_server.stop(None)
    await http.close()


async def test_more_than_one_attempt_is_a_cold_start(proxied: Driver) -> None:
    outcomes = await proxied.run(
        [
            Arrival(0.0, "plain", "generate"),
            Arrival(0.1, "slow", "generate"),
            Arrival(0.2, "plain", "grpc"),
        ]
    )
    assert [(each.served, each.cold) for each in outcomes] == [
        (True, False),
        (True, True),
        (True, True),
    ]


async def test_a_wrong_answer_is_a_failure(proxied: Driver) -> None:
    outcomes = await proxied.run([Arrival(0.0, "versions", "generate")])
    assert [each.error for each in outcomes] == ["answered [2.0] where [3.0] was due"]
