"""What the front door promises, with a real Triton and the real sidecar: once behind a real
Envoy, once with the sidecar as the only proxy."""

import asyncio
import io
import json
import re
import signal
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, get_args

import aiohttp
import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from simulations.testbed.installation import Installation, find
from simulations.testbed.protocols import Asker, Protocol, Question, Unanswered
from simulations.testbed.repository import ModelSpec
from tests.daemon.frontdoor.envoy_front import self_signed
from tests.daemon.pod import QUICK, Pod, eventually, pod

NewPod = Callable[..., AbstractContextManager[Pod]]
UNARY: tuple[Protocol, ...] = ("http", "grpc")
MIB = 2**20


def model(name: str, memory_mb: int = 30, load_s: float = 0.3, **more: Any) -> ModelSpec:
    return ModelSpec(name, memory_mb, load_s=load_s, compute_ms=2, hint=True, **more)


@pytest.fixture(scope="module")
def installation() -> Installation:
    return find()


@pytest.fixture(params=["envoy", "alone"])
def new_pod(request: pytest.FixtureRequest, installation: Installation, tmp_path: Path) -> NewPod:
    return partial(pod, installation, tmp_path, envoy=request.param == "envoy")


@pytest.fixture
async def ask() -> AsyncIterator[Callable[..., Any]]:
    """Asks a pod: the values of the answer, or the error's text."""
    askers: dict[str, Asker] = {}

    async def one(
        running: Pod, name: str, protocol: Protocol = "http", version: int | None = None
    ) -> list[float] | str:
        asker = askers.get(running.door_http)
        if asker is None:
            asker = Asker(http_url=running.door_http, grpc_url=running.door_grpc)
            askers[running.door_http] = await asker.__aenter__()
        try:
            return (await asker.ask(Question(name, 3.0, protocol, version), 40)).values
        except Unanswered as unanswered:
            return str(unanswered)

    yield one
    for asker in askers.values():
        await asker.__aexit__(None, None, None)


@pytest.mark.parametrize("protocols", [("http",), ("grpc",), get_args(Protocol)[:5]])
async def test_two_hundred_clients_of_a_cold_model_are_served_by_one_load(
    new_pod: NewPod, ask: Callable[..., Any], protocols: tuple[Protocol, ...]
) -> None:
    wanted = [p for p in protocols if p != "generate_stream"]
    with new_pod([model("a", load_s=1.0)], QUICK.format(budget=100)) as running:
        asking = [ask(running, "a", wanted[n % len(wanted)]) for n in range(200)]
        answers = await asyncio.gather(*asking)
        assert [answer for answer in answers if answer != [6.0]] == []
        assert running.times_loaded("a") == 1


async def test_models_take_turns_in_memory_and_nobody_fails(
    new_pod: NewPod, ask: Callable[..., Any]
) -> None:
    specs = [model("a", versions=(1, 2), memory_mb=20), model("b", 40), model("c", 40)]
    specs.append(model("many", 40, decoupled=True))
    with new_pod(specs, QUICK.format(budget=95)) as running:

        async def visitor(number: int) -> list[Any]:
            failed = []
            for turn in range(12):
                spec = specs[(number + turn // 3) % len(specs)]
                ways: tuple[Protocol, ...] = ("stream",) if spec.decoupled else UNARY
                version = spec.versions[0] if turn % 2 else None
                answer = await ask(running, spec.name, ways[turn % len(ways)], version)
                if answer != spec.answers(3.0, version):
                    failed.append((spec.name, version, answer))
            return failed

        failed = await asyncio.gather(*(visitor(number) for number in range(8)))
        assert [each for one in failed for each in one] == []
        swaps = sum(running.times_loaded(spec.name) for spec in specs)
        assert swaps > len(specs), "they do not all fit, so some had to come back"


@pytest.mark.parametrize("protocol", UNARY)
async def test_requests_that_cannot_be_served_are_told_why_at_once(
    new_pod: NewPod, ask: Callable[..., Any], protocol: Protocol
) -> None:
    specs = [
        model("pinned", 60),
        model("pinned-out", 50),
        model("too-big", 200),
        ModelSpec("broken", 20, load_s=0.1, compute_ms=1, hint=True, fails="initialize"),
    ]
    policy = QUICK.format(budget=100) + "models: {pinned: {pin: true}}\n"
    with new_pod(specs, policy) as running:
        await asyncio.to_thread(eventually, lambda: running.ready() == {"pinned"}, 15)
        answers = {}
        for name in ("absent", "pinned-out", "too-big", "broken"):
            began_s = time.monotonic()
            answers[name] = await ask(running, name, protocol)
            assert time.monotonic() - began_s < 3, name
        assert await ask(running, "pinned", protocol) == [6.0]
        again_s = time.monotonic()
        assert "told to fail" in await ask(running, "broken", protocol)
        assert time.monotonic() - again_s < 0.5, "not tried again for each request"
        times_tried = running.times_loaded("broken")
        assert running.times_loaded("too-big") == running.times_loaded("pinned-out") == 0
    unavailable = "503: " if protocol == "http" else "UNAVAILABLE: "
    not_found = "404: " if protocol == "http" else "NOT_FOUND: "
    assert answers["absent"].startswith(not_found)
    assert "unknown model: 'absent'" in answers["absent"]
    assert answers["pinned-out"].startswith(unavailable)
    assert "pinned models" in answers["pinned-out"]
    assert answers["too-big"].startswith(unavailable)
    assert "larger than budget" in answers["too-big"]
    assert answers["broken"].startswith(unavailable)
    assert "told to fail" in answers["broken"]
    assert "next try in" in answers["broken"]
    assert times_tried == 1


async def test_request_whose_model_will_not_be_worth_it_in_time_is_told_so_at_once(
    new_pod: NewPod, ask: Callable[..., Any]
) -> None:
    specs = [model("busy", 60, load_s=1.0), model("b", 60)]
    policy = QUICK.format(budget=100) + "models: {busy: {weight: 1000}}\n"
    with new_pod(specs, policy) as running:
        for _ in range(30):
            assert await ask(running, "busy") == [6.0]
        async with grpc.aio.insecure_channel(running.door_grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            began_s = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.ModelInfer(_request("b"), timeout=5)
        assert time.monotonic() - began_s < 2
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "swap does not pay" in (refused.value.details() or "")
        assert running.ready() == {"busy"}


async def test_refusals_say_when_to_come_again(new_pod: NewPod) -> None:
    with new_pod([model("too-big", 200)], QUICK.format(budget=100)) as running:
        async with (
            aiohttp.ClientSession(f"http://{running.door_http}") as session,
            session.post("/v2/models/too-big/infer", data=b"{}") as answer,
        ):
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert "x-envoy-ratelimited" not in answer.headers or not running.envoy
        async with grpc.aio.insecure_channel(running.door_grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            call = stub.ModelInfer(service_pb2.ModelInferRequest(model_name="too-big"))
            with pytest.raises(grpc.aio.AioRpcError):
                await call
            told = dict([*await call.initial_metadata(), *await call.trailing_metadata()])
            assert int(told["retry-after"]) >= 1


async def test_version_that_is_not_there_is_not_found_at_once(
    new_pod: NewPod, ask: Callable[..., Any]
) -> None:
    with new_pod([model("a")], QUICK.format(budget=100)) as running:
        for protocol in UNARY:
            assert await ask(running, "a", protocol, 1) == [6.0]
            began_s = time.monotonic()
            assert "version 7 is not found" in await ask(running, "a", protocol, 7)
            assert time.monotonic() - began_s < 1


async def test_body_too_large_to_be_sent_twice_waits_for_its_model_too(new_pod: NewPod) -> None:
    numbers = 9 * 2**20
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "X",
                    "shape": [numbers, 1],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": 4 * numbers},
                }
            ],
            "outputs": [{"name": "Y", "parameters": {"binary_data": True}}],
        }
    ).encode()
    body = io.BytesIO(head + struct.pack("<f", 3.0) * numbers)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    large = ModelSpec("a", 30, load_s=0.5, compute_ms=1, hint=True, max_batch_size=2**24)
    with new_pod([large], QUICK.format(budget=100)) as running:
        async with (
            aiohttp.ClientSession(f"http://{running.door_http}") as session,
            session.post("/v2/models/a/infer", data=body, headers=headers) as answer,
        ):
            assert answer.status == 200
            content = await answer.read()
    length = int(answer.headers["Inference-Header-Content-Length"])
    assert content[length:] == struct.pack("<f", 6.0) * numbers


async def test_where_remora_only_observes_nobody_waits_for_what_it_will_not_load(
    new_pod: NewPod, ask: Callable[..., Any]
) -> None:
    policy = QUICK.format(budget=100) + "mode: observe\n"
    with new_pod([model("a")], policy) as running:
        for protocol in (*UNARY, "stream"):
            began_s = time.monotonic()
            assert "only observes" in await ask(running, "a", protocol)
            assert time.monotonic() - began_s < 2
        assert running.times_loaded("a") == 0
        await asyncio.to_thread(eventually, lambda: "would load a (demanded)" in running.log, 3)


async def test_client_that_goes_away_does_not_take_the_load_with_it(
    new_pod: NewPod, ask: Callable[..., Any]
) -> None:
    with new_pod([model("a", load_s=1.5)], QUICK.format(budget=100)) as running:
        leaving = [asyncio.create_task(ask(running, "a", p)) for p in UNARY]
        await asyncio.sleep(0.4)
        staying = [asyncio.create_task(ask(running, "a", p)) for p in UNARY]
        await asyncio.sleep(0.3)
        assert running.get("/v1/state")["models"]["a"]["state"] == "loading"
        for task in leaving:
            task.cancel()
        assert await asyncio.gather(*staying) == [[6.0], [6.0]]
        assert running.times_loaded("a") == 1


async def test_client_that_was_alone_and_went_away_waits_no_longer(
    new_pod: NewPod, ask: Callable[..., Any]
) -> None:
    with new_pod([model("a", load_s=2.0)], QUICK.format(budget=100)) as running:
        leaving = [asyncio.create_task(ask(running, "a", p)) for p in (*UNARY, "stream")]
        await asyncio.sleep(0.5)
        assert _gauge(running, "remora_door_waiting_requests") == 3
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        await asyncio.to_thread(
            eventually, lambda: _gauge(running, "remora_door_waiting_requests") == 0, 2
        )


async def test_killed_triton_is_waited_for(new_pod: NewPod, ask: Callable[..., Any]) -> None:
    with new_pod([model("a"), model("b")], QUICK.format(budget=100)) as running:
        for name in ("a", "b"):
            assert await ask(running, name) == [6.0]
        await asyncio.to_thread(running.kill_triton)
        waiting = [
            asyncio.create_task(ask(running, name, protocol))
            for name in ("a", "b")
            for protocol in (*UNARY, "stream")
        ]
        await asyncio.sleep(1.0)
        await asyncio.to_thread(eventually, lambda: running.get("/readyz") != "ok\n", 5)
        assert running.get("/healthz") == "ok\n", "the sidecar itself is well"
        await asyncio.to_thread(running.triton.restart)
        assert await asyncio.gather(*waiting) == [[6.0]] * 6
        assert (running.times_loaded("a"), running.times_loaded("b")) == (2, 2)


async def test_after_a_restart_of_triton_models_come_in_the_order_of_their_worth(
    new_pod: NewPod, ask: Callable[..., Any]
) -> None:
    policy = QUICK.format(budget=200) + "loads: {concurrent: 1}\n"
    names = ("few", "many", "some")
    with new_pod([model(name) for name in names], policy) as running:
        for name in names:
            assert await ask(running, name) == [6.0]
        await asyncio.to_thread(running.kill_triton)
        before = len(running.triton_log)
        crowd = {"few": 1, "many": 20, "some": 6}
        waiting = [asyncio.create_task(ask(running, n)) for n in names for _ in range(crowd[n])]
        await asyncio.sleep(1.0)
        assert _gauge(running, "remora_door_waiting_requests") == 27
        await asyncio.to_thread(running.triton.restart)
        assert await asyncio.gather(*waiting) == [[6.0]] * 27
        assert re.findall(r'"loading: (\w+):', running.triton_log[before:]) == [
            "many",
            "some",
            "few",
        ]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_requests_that_wait_behind_envoy_outlive_the_sidecar(
    installation: Installation, tmp_path: Path, ask: Callable[..., Any], number: int
) -> None:
    slow = model("a", load_s=2.0)
    with pod(installation, tmp_path, [slow], QUICK.format(budget=100), envoy=True) as running:
        ways: tuple[Protocol, ...] = ("http", "grpc", "stream", "generate_stream")
        waiting = [asyncio.create_task(ask(running, "a", ways[n % len(ways)])) for n in range(40)]
        await asyncio.sleep(0.7)
        assert _gauge(running, "remora_door_waiting_requests") == 40
        await asyncio.to_thread(running.stop_sidecar, number)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(running.start_sidecar)
        assert await asyncio.gather(*waiting) == [[6.0]] * 40
        assert running.times_loaded("a") == 1


async def test_loads_and_unloads_of_clients_are_refused(new_pod: NewPod) -> None:
    with new_pod([model("a")], QUICK.format(budget=100)) as running:
        async with aiohttp.ClientSession(f"http://{running.door_http}") as session:
            async with session.post("/v2/repository/models/a/load") as answer:
                assert answer.status == 403
                assert "by Remora" in await answer.text()
            async with session.post("/v2/repository/index") as answer:
                assert [row["name"] for row in await answer.json()] == ["a"]
        async with grpc.aio.insecure_channel(running.door_grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.RepositoryModelLoad(
                    service_pb2.RepositoryModelLoadRequest(model_name="a")
                )
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert running.ready() == set()


async def test_model_leaves_when_what_is_inside_has_finished_and_holds_what_comes_meanwhile(
    installation: Installation, tmp_path: Path, ask: Callable[..., Any]
) -> None:
    long = ModelSpec("long", 60, load_s=0.3, compute_ms=2500, hint=True)
    with pod(installation, tmp_path, [long, model("b", 60)], QUICK.format(budget=100)) as running:
        assert await ask(running, "long") == [6.0]
        inside = asyncio.create_task(ask(running, "long", "grpc"))
        await asyncio.sleep(0.5)
        others = [asyncio.create_task(ask(running, "b", "http")) for _ in range(20)]
        await asyncio.to_thread(
            eventually, lambda: running.get("/v1/state")["models"]["long"]["draining"], 5
        )
        late = asyncio.create_task(ask(running, "long", "http"))
        await asyncio.sleep(0.2)
        assert not inside.done()
        assert running.ready() == {"long"}
        assert await inside == [6.0]
        assert await asyncio.gather(*others) == [[6.0]] * 20
        assert await late == [6.0], "it came during the drain, and waited until after the swap"
        assert running.times_loaded("long") == 2


async def test_drain_is_called_off_when_demand_returns(
    installation: Installation, tmp_path: Path, ask: Callable[..., Any]
) -> None:
    long = ModelSpec("long", 60, load_s=0.3, compute_ms=1500, hint=True)
    with pod(installation, tmp_path, [long, model("b", 60)], QUICK.format(budget=100)) as running:
        assert await ask(running, "long") == [6.0]
        inside = asyncio.create_task(ask(running, "long", "grpc"))
        await asyncio.sleep(0.5)
        other = asyncio.create_task(ask(running, "b"))
        await asyncio.to_thread(
            eventually, lambda: running.get("/v1/state")["models"]["long"]["draining"], 5
        )
        many = [asyncio.create_task(ask(running, "long", UNARY[n % 2])) for n in range(24)]
        await asyncio.to_thread(eventually, lambda: "long: stays after all" in running.log, 2)
        assert not inside.done()
        assert await asyncio.gather(inside, *many) == [[6.0]] * 25
        assert running.times_loaded("long") == 1
        assert await other == [6.0]


async def test_open_stream_keeps_its_model_and_a_closed_one_does_not(new_pod: NewPod) -> None:
    specs = [model("a", 60), model("b", 60)]
    with new_pod(specs, QUICK.format(budget=100)) as running:
        async with grpc.aio.insecure_channel(running.door_grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            stream = stub.ModelStreamInfer()
            await stream.write(_request("a"))
            answer = await stream.read()
            assert answer.infer_response.model_name == "a"
            asking = stub.ModelInfer(_request("b"), timeout=30)
            await asyncio.sleep(2)
            assert running.ready() == {"a"}, "its stream is open"
            assert running.get("/v1/explain/b")["reason"] == "no_room"
            await stream.write(_request("a"))
            assert (await stream.read()).error_message == ""
            await stream.done_writing()
            assert await stream.read() == grpc.aio.EOF  # type: ignore[attr-defined]
            assert (await asking).model_name == "b"


async def test_open_sequence_keeps_its_model(new_pod: NewPod) -> None:
    specs = [model("a", 60, sequence=True), model("b", 60)]
    with new_pod(specs, QUICK.format(budget=100)) as running:
        async with grpc.aio.insecure_channel(running.door_grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            await stub.ModelInfer(_request("a", sequence=7, start=True), timeout=30)
            asking = stub.ModelInfer(_request("b"), timeout=40)
            for _ in range(4):
                await asyncio.sleep(0.7)
                await stub.ModelInfer(_request("a", sequence=7), timeout=5)
            assert running.times_loaded("a") == 1
            last = await stub.ModelInfer(_request("a", sequence=7, end=True), timeout=5)
            assert last.raw_output_contents[0] == _request("a", value=36.0).raw_input_contents[0]
            assert (await asking).model_name == "b"


async def test_clients_may_be_served_over_tls_without_envoy(
    installation: Installation, tmp_path: Path
) -> None:
    certificate, key = self_signed(tmp_path)
    settings = {
        "REMORA_FRONT_DOOR_CERTIFICATE": str(certificate),
        "REMORA_FRONT_DOOR_KEY": str(key),
    }
    policy = QUICK.format(budget=100)
    with pod(installation, tmp_path, [model("a")], policy, settings=settings) as running:
        port = running.door_http.rpartition(":")[2]
        trusted = ssl.create_default_context(cafile=str(certificate))
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"https://localhost:{port}/v2/models/a/generate", json={"X": 3.0}, ssl=trusted
            ) as answer,
        ):
            assert (await answer.json())["Y"] == 6.0
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        target = f"localhost:{running.door_grpc.rpartition(':')[2]}"
        async with grpc.aio.secure_channel(target, credentials) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert (await stub.ModelInfer(_request("a"))).model_name == "a"


async def test_metrics_and_the_access_journal_tell_of_it(
    new_pod: NewPod, ask: Callable[..., Any]
) -> None:
    policy = QUICK.format(budget=100) + "front_door: {access_sample: 1}\n"
    with new_pod([model("a")], policy) as running:
        await asyncio.gather(*(ask(running, "a", "grpc") for _ in range(5)))
        for _ in range(20):
            await ask(running, "a", "http")
        await ask(running, "nobody-has-this", "http")
        await asyncio.to_thread(
            eventually, lambda: _gauge(running, 'remora_model_arrivals_total{model="a"}') == 25, 5
        )
        assert _gauge(running, 'remora_model_misses_total{model="a"}') == 5
        assert _gauge(running, "remora_door_wait_seconds_count") == 5
        page = running.get("/metrics")
        assert "nobody-has-this" not in page
        outcome = "released" if running.envoy else "served"
        row = f'remora_door_requests_total{{model="a",outcome="{outcome}",protocol="grpc"}}'
        assert _gauge(running, row) == 5
        source = "estimated" if running.envoy else "counted"
        assert f'remora_model_in_flight_requests{{model="a",source="{source}"}}' in page
        lines = (running.directory / "state" / "access" / "access.jsonl").read_text().splitlines()
        assert len(lines) >= 6
        assert "nobody-has-this" in lines[-1]


def _request(
    name: str, value: float = 3.0, sequence: int = 0, start: bool = False, end: bool = False
) -> Any:
    request = service_pb2.ModelInferRequest(
        model_name=name, raw_input_contents=[struct.pack("<f", value)]
    )
    request.inputs.add(name="X", datatype="FP32", shape=[1, 1])
    if sequence:
        request.parameters["sequence_id"].int64_param = sequence
        request.parameters["sequence_start"].bool_param = start
        request.parameters["sequence_end"].bool_param = end
    return request


def _gauge(running: Pod, row: str) -> float:
    lines = (running.get("/metrics") or "").splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(row)), 0.0)
