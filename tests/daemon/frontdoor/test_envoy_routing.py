"""What a real Envoy does with our bootstrap, before a real Triton and a stand-in activator."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import aiohttp
import grpc
import grpc.aio
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from simulations.testbed.installation import Installation
from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.tritonserver import TritonServer, free_ports
from tests.daemon.frontdoor.envoy_front import (
    SERVICE,
    Answer,
    Front,
    envoy,
    second_envoy,
    self_signed,
    tensor,
)
from tests.daemon.pod import eventually, kill_triton

LARGE = 2**20
SPECS = (
    # Each test has a model of its own, so that it finds it as cold as after a start.
    *(
        ModelSpec(name, 20, load_s=0.3, compute_ms=2, max_batch_size=LARGE)
        for name in ("http", "grpc", "versioned", "crowd", "held", "orphaned", "eager", "config")
    ),
    *(
        ModelSpec(name, 20, load_s=0.3, compute_ms=2)
        for name in ("zipped", "binary", "logged", "secret")
    ),
    ModelSpec("deep", 20, load_s=0.3, compute_ms=2, max_batch_size=LARGE),
    ModelSpec("long", 20, load_s=0.2, compute_ms=3000),
    ModelSpec("speech", 20, load_s=0.2, compute_ms=400, max_batch_size=0, decoupled=True),
)


@pytest.fixture(scope="module")
def behind(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Everything behind the clients, shared by this module's tests."""
    folder = tmp_path_factory.mktemp("front")
    write_repository(folder / "repository", SPECS)
    http_port, grpc_port, metrics_port, *ports = free_ports(8)
    triton = TritonServer.start(
        installation,
        folder / "repository",
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        log_path=folder / "triton.log",
    )
    with triton:
        triton.wait_live()
        front = Front(folder, triton, ports)
        front.start_door()
        log = ("--access-log", str(folder / "access.jsonl"), "--access-log-sample", "0")
        with envoy(front, "envoy", *log) as front.envoy:
            try:
                yield front
            finally:
                front.kill_door()
                # Asked politely, a Triton that still executes would take its time.
                triton.kill()


@pytest.fixture
async def front(behind: Front) -> AsyncIterator[Front]:
    """With clients of this test's own loop, and Triton up, whatever the test before left."""
    if not behind.triton.is_running:
        await asyncio.to_thread(behind.triton.restart)
        await asyncio.to_thread(behind.triton.wait_live)
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    address = f"127.0.0.1:{behind.grpc_port}"
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=connector) as behind.session,
        grpc.aio.insecure_channel(address, options=options) as behind.channel,
    ):
        yield behind


async def test_a_cold_model_is_served_over_http_after_one_signal(front: Front) -> None:
    began_s = time.time()
    cold = await front.infer_http("http")
    assert (cold.status, cold.attempts) == (200, 3)
    assert json.loads(cold.body)["outputs"][0]["data"] == [4.0]
    (asked,) = front.seen("http", "http/infer")
    assert asked["x-envoy-attempt-count"] == "2"
    assert began_s - 0.01 <= float(asked["x-remora-began"]) <= time.time()
    hot = await front.infer_http("http")
    assert (hot.status, hot.attempts, hot.body) == (200, 1, cold.body)


async def test_a_cold_model_is_served_over_grpc_after_one_signal(front: Front) -> None:
    began_s = time.time()
    cold = await front.infer_grpc("grpc")
    assert (cold.status, cold.attempts) == ("OK", 3)
    answer = service_pb2.ModelInferResponse.FromString(cold.body)
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [2.0]
    asked = front.seen("grpc")[-1]
    assert asked["x-envoy-attempt-count"] == "2"
    assert began_s - 0.01 <= float(asked["x-remora-began"]) <= time.time()
    hot = await front.infer_grpc("grpc")
    assert (hot.status, hot.attempts) == ("OK", 1)


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig"])
async def test_what_a_model_is_may_be_asked_while_it_is_cold(front: Front, method: str) -> None:
    if "config" in front.triton.stub_pids():
        front.unload_by_hand("config")
    request = service_pb2.ModelMetadataRequest(name="config")
    answer = await front.grpc(method, request)
    assert (answer.status, answer.attempts) == ("OK", 3)
    assert b"config" in answer.body


async def test_a_named_version_of_an_unloaded_model_is_served_too(front: Front) -> None:
    front.load_by_hand("versioned")
    front.unload_by_hand("versioned")
    answer = await front.http("/v2/models/versioned/versions/1/infer", tensor(1))
    assert (answer.status, answer.attempts) == (200, 3)
    front.unload_by_hand("versioned")
    answer = await front.infer_grpc("versioned", version="1")
    assert (answer.status, answer.attempts) == ("OK", 3)


async def test_a_crowd_of_both_protocols_is_served_by_one_load(front: Front) -> None:
    answers = await asyncio.gather(
        *(front.infer_http("crowd") for _ in range(100)),
        *(front.infer_grpc("crowd") for _ in range(100)),
    )
    assert Counter(answer.status for answer in answers) == {200: 100, "OK": 100}
    assert front.times_loaded("crowd") == 1


async def test_a_body_is_sent_again_as_it_came(front: Front) -> None:
    body = gzip.compress(tensor(1).encode())
    zipped = await front.http("/v2/models/zipped/infer", body, headers={"Content-Encoding": "gzip"})
    assert (zipped.status, zipped.attempts) == (200, 3)
    assert json.loads(zipped.body)["outputs"][0]["data"] == [4.0]

    data = np.full((3, 1), 5.0, np.float32).tobytes()
    sizes = {"binary_data_size": len(data)}
    head = {"name": "X", "shape": [3, 1], "datatype": "FP32", "parameters": sizes}
    said = json.dumps({"inputs": [head], "parameters": {"binary_data_output": True}}).encode()
    length = {"Inference-Header-Content-Length": str(len(said))}
    binary = await front.http("/v2/models/binary/infer", said + data, headers=length)
    assert (binary.status, binary.attempts) == (200, 3)
    tail = binary.body[int(binary.headers["inference-header-content-length"]) :]
    assert np.frombuffer(tail, np.float32).tolist() == [10.0, 10.0, 10.0]


async def test_a_generated_stream_comes_in_its_pieces(front: Front) -> None:
    url = f"http://127.0.0.1:{front.http_port}/v2/models/speech/generate_stream"
    async with front.session.post(url, json={"X": [[2.0]]}) as answer:
        assert answer.headers["x-envoy-attempt-count"] == "3"
        assert answer.headers["content-type"].startswith("text/event-stream")
        came_s = [time.monotonic() async for line in answer.content if line.startswith(b"data:")]
    assert len(came_s) == 3
    assert came_s[-1] - came_s[0] > 0.5


async def test_a_final_answer_is_passed_on_and_not_retried(front: Front) -> None:
    over_http = await front.infer_http("nowhere")
    assert (over_http.status, over_http.attempts) == (404, 2)
    assert json.loads(over_http.body) == {"error": "refused by the double"}
    over_grpc = await front.infer_grpc("nowhere")
    assert (over_grpc.status, over_grpc.attempts) == ("NOT_FOUND", 2)
    assert over_grpc.body == b"refused by the double"
    for answer in (over_http, over_grpc):
        assert answer.headers["retry-after"] == "7"
        assert "x-envoy-ratelimited" not in answer.headers


async def test_signals_that_come_too_soon_are_survived(front: Front) -> None:
    with front.sign("eager"):
        asking = [asyncio.create_task(front.infer_http("eager"))]
        asking += [asyncio.create_task(front.infer_grpc("eager"))]
        await asyncio.sleep(2)
    answers = await asyncio.gather(*asking)
    assert [answer.status for answer in answers] == [200, "OK"]
    assert min(answer.attempts for answer in answers) > 30


async def test_readiness_and_statistics_of_a_cold_model_wake_nobody(front: Front) -> None:
    before = len(front.seen("http"))
    url = f"http://127.0.0.1:{front.http_port}/v2/models/deep/"
    for page, status in (("ready", 400), ("versions/1/ready", 400), ("stats", 400)):
        async with front.session.get(url + page) as answer:
            assert (page, answer.status) == (page, status)
            assert answer.headers["x-envoy-attempt-count"] == "1"
    ready = await front.grpc("ModelReady", service_pb2.ModelReadyRequest(name="deep"))
    assert (ready.status, ready.attempts) == ("OK", 1)
    assert len(front.seen("http")) == before


@pytest.mark.parametrize("action", ["load", "unload"])
async def test_loads_and_unloads_are_refused_at_the_door(front: Front, action: str) -> None:
    before = front.times_loaded("deep")
    words = "models are loaded and unloaded by Remora"
    for path in ("", "/somewhere"):
        answer = await front.http(f"/v2/repository{path}/models/deep/{action}?a=b")
        assert answer.status == 403
        assert json.loads(answer.body) == {"error": words}
    request = service_pb2.RepositoryModelLoadRequest(model_name="deep")
    refused = await front.grpc(f"RepositoryModel{action.title()}", request)
    assert (refused.status, refused.body) == ("PERMISSION_DENIED", words.encode())
    assert front.times_loaded("deep") == before
    assert b'"name":"deep"' in (await front.http("/v2/repository/index")).body
    index = await front.grpc("RepositoryIndex", service_pb2.RepositoryIndexRequest())
    assert index.status == "OK"


async def test_a_client_cannot_speak_for_envoy(front: Front) -> None:
    """Not in what the activator is told, nor in what is retried."""
    lies = {"x-remora-began": "1", "x-envoy-attempt-count": "77", "X-Remora-Else": "1"}
    await front.infer_http("nowhere", headers=lies)
    asked = front.seen("http", "nowhere")[-1]
    assert asked["x-envoy-attempt-count"] == "2"
    assert float(asked["x-remora-began"]) > time.time() - 60
    assert "x-remora-else" not in asked
    lies = {"x-remora-began": "1", "x-envoy-attempt-count": "77", "x-envoy-retry-on": "5xx"}
    await front.infer_grpc("nowhere", metadata=lies)
    asked = front.seen("grpc")[-1]
    assert asked["x-envoy-attempt-count"] == "2"
    assert float(asked["x-remora-began"]) > time.time() - 60
    assert "x-envoy-retry-on" not in asked


async def test_those_who_wait_outlive_the_activator(front: Front) -> None:
    with front.sign("hold"):
        before = len(front.seen("http")) + len(front.seen("grpc"))
        waiting = [
            # One of each has a body that no socket swallows whole.
            *(asyncio.create_task(front.infer_http("held", 2**17 if n else 1)) for n in range(25)),
            *(asyncio.create_task(front.infer_grpc("held", 2**19 if n else 1)) for n in range(25)),
        ]
        await asyncio.to_thread(
            eventually, lambda: len(front.seen("http")) + len(front.seen("grpc")) == before + 50, 20
        )
        front.kill_door()
        await asyncio.sleep(6)
        await asyncio.to_thread(front.start_door)
        await asyncio.sleep(1)
        assert not any(each.done() for each in waiting)
    answers = await asyncio.gather(*waiting)
    assert Counter(answer.status for answer in answers) == {200: 25, "OK": 25}
    # The outer count is what the activator sees again: its own restart was no replay.
    assert {answer.attempts for answer in answers} == {3}
    assert {asked["x-envoy-attempt-count"] for asked in front.seen("http", "held")} == {"2"}


async def test_a_stream_that_begins_while_the_activator_is_away_waits_for_it(front: Front) -> None:
    front.kill_door()
    call = front.channel.stream_stream(
        SERVICE + "ModelStreamInfer", request_serializer=None, response_deserializer=None
    )(None)
    await call.write(b"as it is")
    await asyncio.sleep(3)
    await asyncio.to_thread(front.start_door)
    assert await call.read() == b"as it is"
    await call.done_writing()
    assert await call.code() == grpc.StatusCode.OK


async def test_requests_are_held_while_triton_is_away(front: Front) -> None:
    await asyncio.to_thread(kill_triton, front.triton, front.envoy)
    before = len(front.seen("http"))
    asking = [
        asyncio.create_task(front.infer_http("orphaned")),
        asyncio.create_task(front.infer_grpc("orphaned")),
        asyncio.create_task(_upload_slowly(front, "orphaned")),
    ]
    await asyncio.sleep(3)
    assert [each.result() for each in asking if each.done()] == []
    assert len(front.seen("http")) == before + 2
    await asyncio.to_thread(front.triton.restart)
    answers = await asyncio.gather(*asking)
    assert [answer.status for answer in answers] == [200, "OK", 200]


async def _upload_slowly(front: Front, model: str) -> Answer:
    """The first attempt fails while the body is still coming."""
    body = tensor(1).encode()

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:10]
        await asyncio.sleep(1)
        yield body[10:]

    url = f"http://127.0.0.1:{front.http_port}/v2/models/{model}/infer"
    length = {"Content-Length": str(len(body))}
    async with front.session.post(url, data=pieces(), headers=length) as answer:
        return Answer(answer.status, 0, await answer.read(), {})


async def test_what_triton_was_executing_when_it_died_is_not_executed_again(front: Front) -> None:
    await asyncio.to_thread(front.load_by_hand, "long")
    asking = [
        asyncio.create_task(front.infer_http("long", headers={"x-envoy-retry-on": "reset"})),
        asyncio.create_task(
            front.infer_grpc("long", metadata={"x-envoy-retry-grpc-on": "unavailable"})
        ),
    ]
    await asyncio.sleep(1)
    before = len(front.seen("grpc"))
    front.triton.kill()
    over_http, over_grpc = await asyncio.gather(*asking)
    assert (over_http.status, over_http.attempts) == (503, 1)
    assert "connection termination" in json.loads(over_http.body)["error"]
    assert (over_grpc.status, over_grpc.attempts) == ("UNAVAILABLE", 1)
    assert (front.seen("http", "long"), len(front.seen("grpc"))) == ([], before)
    await asyncio.to_thread(front.triton.restart)
    await asyncio.to_thread(front.triton.wait_live)


async def test_misses_and_failures_are_logged_and_the_rest_is_sampled(front: Front) -> None:
    await front.infer_http("logged")
    await front.infer_grpc("logged")
    log = front.folder / "access.jsonl"
    eventually(lambda: "/v2/models/logged" in log.read_text(), 10)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    about = [line for line in lines if line["path"] == "/v2/models/logged/infer"]
    assert [(line["status"], line["attempts"]) for line in about] == [(200, 3)]
    # Every line of this module's Envoy, which samples none, is a miss or a failure.
    assert all(
        line["attempts"] > 1 or line["status"] >= 500 or line["grpc_status"] for line in lines
    )


async def test_a_body_above_the_cap_is_the_activators_where_its_length_is_known(
    front: Front,
) -> None:
    with second_envoy(front, "small-cap", "--body-cap", "64KiB") as (port, _):
        await front.http("/v2/models/deep/infer", tensor(2**16), port=port)
        assert front.seen("http", "models/deep")[-1]["x-envoy-attempt-count"] == "1"


async def test_a_body_above_the_cap_and_of_unknown_length_goes_through_but_is_not_held(
    front: Front,
) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        body = tensor(2**16).encode()
        for at in range(0, len(body), 2**14):
            yield body[at : at + 2**14]

    front.load_by_hand("deep")
    with second_envoy(front, "small-cap", "--body-cap", "64KiB") as (port, server):
        url = f"http://127.0.0.1:{port}/v2/models/deep/infer"
        async with front.session.post(url, data=in_pieces()) as large:
            assert large.status == 200
        front.unload_by_hand("deep")
        async with front.session.post(url, data=in_pieces()) as missed:
            assert missed.status == 404
        assert server.counters("cluster.http.retry_or_shadow_abandoned")
        small = await front.http("/v2/models/deep/infer", tensor(1), port=port)
        assert (small.status, small.attempts) == (200, 3)


async def test_near_its_memory_limit_new_requests_are_refused_and_no_other(front: Front) -> None:
    front.unload_by_hand("deep")
    asking = []
    with second_envoy(front, "small-heap", "--memory", "64MiB") as (port, _):
        with front.sign("hold"):
            for _ in range(60):
                asking.append(asyncio.create_task(_ask(front, port)))
                await asyncio.sleep(0.05)
        answers = await asyncio.gather(*asking)
    assert {answer.status for answer in answers} == {200, 503}
    refused = [answer for answer in answers if answer.status == 503]
    assert 5 < len(refused) < 55
    for answer in refused:
        assert json.loads(answer.body) == {"error": "envoy overloaded"}
        assert answer.headers["retry-after"] == "1"


async def _ask(front: Front, port: int) -> Answer:
    return await front.http("/v2/models/deep/infer", tensor(2**18), port=port)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
async def test_cold_models_are_served_over_tls_too(front: Front) -> None:
    certificate, key = self_signed(front.folder)
    (grpc_port,) = free_ports(1)
    pair = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    trusted = ssl.create_default_context(cafile=str(certificate))
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
    with second_envoy(front, "tls", *pair, "--grpc-port", str(grpc_port)) as (port, _):
        url = f"https://localhost:{port}/v2/models/secret/infer"
        async with front.session.post(url, data=tensor(1), ssl=trusted) as answer:
            assert (answer.status, answer.headers["x-envoy-attempt-count"]) == (200, "3")
        front.unload_by_hand("secret")
        async with grpc.aio.secure_channel(f"localhost:{grpc_port}", credentials) as front.channel:
            cold = await front.infer_grpc("secret")
    assert (cold.status, cold.attempts) == ("OK", 3)


async def test_an_activator_that_stays_away_is_said_so(front: Front) -> None:
    """Shortened from the 50 s that the bootstrap gives it."""
    front.kill_door()
    with second_envoy(front, "impatient", retries=5) as (port, _):
        answer = await front.http("/v2/models/nowhere/infer", tensor(1), port=port)
    await asyncio.to_thread(front.start_door)
    assert (answer.status, answer.attempts) == (503, 2)
    assert json.loads(answer.body) == {"error": "Remora's activator does not answer"}
    assert answer.headers["retry-after"] == "1"
