"""Streams and long bodies through a real sidecar to a real Triton, and back."""

import asyncio
import gzip
import http.client
import json
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.grpc.aio import InferenceServerClient

from simulations.testbed.installation import Installation
from simulations.testbed.protocols import CHANNEL_OPTIONS, INFER_HEADER, JSON_LENGTH_HEADER
from simulations.testbed.repository import RESPONSES, ModelSpec
from tests.daemon.pod import QUICK, Pod, eventually, pod

MIB = 2**20
EOF: Any = aio.EOF  # type: ignore[attr-defined]
# The loop looks rarely, and at once when a request misses its model: who unloads behind its
# back is found out by the request.
POLICY = QUICK.format(budget=600).replace("tick: 200ms", "tick: 2s")
LIMITLESS = [
    *CHANNEL_OPTIONS,
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]
ANSWER_S = 20.0


def model(name: str, compute_ms: float = 2, **more: Any) -> ModelSpec:
    return ModelSpec(name, 25, load_s=0.3, compute_ms=compute_ms, hint=True, **more)


SPECS = (
    model("a"),
    model("b"),
    model("cold"),
    model("slow", compute_ms=1500),
    model("many", compute_ms=300, decoupled=True),
    model("late-end", compute_ms=1, decoupled=True),
    model("wide", max_batch_size=0),
)


@pytest.fixture(scope="module")
def running(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    with pod(installation, tmp_path_factory.mktemp("streams"), SPECS, POLICY) as started:
        _let_the_end_come_late(started.directory / "repository" / "late-end" / "1" / "model.py")
        yield started


def _let_the_end_come_late(source: Path) -> None:
    """As many a backend does: the end of an answer comes by itself, after the last response."""
    text = source.read_text()
    at_once = "pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if count == self.responses else 0"
    assert at_once in text
    text = text.replace(at_once, "0")
    end = (
        "        for sender in senders:\n"
        "            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)\n"
    )
    body, _, rest = text.partition("    def _compute(self)")
    source.write_text(body.rstrip("\n") + "\n" + end + "\n    def _compute(self)" + rest)


class Talk:
    """One stream, in which each answer must come within ANSWER_S."""

    def __init__(self, channel: Any, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self.call = stub.ModelStreamInfer(metadata=metadata)

    async def say(self, name: str, value: float = 3.0, **more: Any) -> None:
        await self.call.write(request(name, value, **more))

    async def hear(self) -> Any:
        async with asyncio.timeout(ANSWER_S):
            return await self.call.read()

    async def ask(self, name: str, value: float = 3.0, **more: Any) -> float | str:
        await self.say(name, value, **more)
        return told(await self.hear())

    async def end(self) -> grpc.StatusCode:
        """Says no more, expects to hear no more, and how it ended."""
        await self.call.done_writing()
        assert await self.hear() is EOF
        code: grpc.StatusCode = await self.call.code()
        return code


def request(name: str, value: float = 3.0, **more: Any) -> Any:
    data = struct.pack("<f", value)
    asked = service_pb2.ModelInferRequest(model_name=name, raw_input_contents=[data], **more)
    asked.inputs.add(name="X", datatype="FP32", shape=[1, 1])
    return asked


def told(answer: Any) -> float | str:
    if answer.error_message:
        return str(answer.error_message)
    [value] = struct.unpack("<f", answer.infer_response.raw_output_contents[0])
    return float(value)


@pytest.fixture
async def channel(running: Pod) -> AsyncIterator[Any]:
    async with aio.insecure_channel(running.door_grpc, options=LIMITLESS) as opened:
        yield opened


async def unload_behind_our_back(running: Pod, name: str) -> None:
    async with InferenceServerClient(running.triton.grpc_url) as client:
        await client.unload_model(name)


def gauge(running: Pod, row: str) -> float:
    lines = (running.get("/metrics") or "").splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(row)), 0.0)


def misses(running: Pod, name: str) -> float:
    return gauge(running, f'remora_model_misses_total{{model="{name}"}}')


# --- streams


async def test_two_hundred_requests_for_a_cold_model_in_one_stream(
    running: Pod, channel: Any
) -> None:
    talk = Talk(channel)

    async def say_all() -> None:
        for number in range(200):
            await talk.say("cold", number, id=str(number))

    saying = asyncio.create_task(say_all())
    answers = [await talk.hear() for _ in range(200)]
    await saying
    assert [told(answer) for answer in answers] == [2.0 * number for number in range(200)]
    assert [answer.infer_response.id for answer in answers] == [str(n) for n in range(200)]
    assert await talk.end() is grpc.StatusCode.OK
    assert running.times_loaded("cold") == 1


async def test_one_stream_asks_several_models(channel: Any) -> None:
    talk = Talk(channel)
    for turn in range(3):
        assert await talk.ask("a", turn) == 2 * turn
        assert await talk.ask("b", turn + 10) == 2 * (turn + 10)
    assert await talk.end() is grpc.StatusCode.OK


async def test_answers_come_in_the_order_of_the_requests_as_tritons_do(channel: Any) -> None:
    talk = Talk(channel)
    assert await talk.ask("slow") == 6
    await talk.say("slow", 1, id="slow")
    await talk.say("a", 2, id="quick")
    assert [(await talk.hear()).infer_response.id for _ in range(2)] == ["slow", "quick"]
    assert await talk.end() is grpc.StatusCode.OK


async def test_every_answer_of_a_decoupled_model_comes_in_order(channel: Any) -> None:
    talk = Talk(channel)
    for value in (1.0, 5.0):
        await talk.say("many", value)
    heard = [told(await talk.hear()) for _ in range(2 * RESPONSES)]
    assert sorted(heard) == sorted(count * 2 * v for v in (1, 5) for count in (1, 2, 3))
    assert [v for v in heard if v in (2.0, 4.0, 6.0)] == [2.0, 4.0, 6.0]
    assert await talk.end() is grpc.StatusCode.OK


async def test_end_that_comes_by_itself_ends_the_request_and_is_not_passed_on(
    running: Pod, channel: Any
) -> None:
    talk = Talk(channel)
    for value in range(1, 6):
        await talk.say("late-end", value)
        heard = [told(await talk.hear()) for _ in range(RESPONSES)]
        assert heard == [2.0 * value, 4.0 * value, 6.0 * value]
    eventually(lambda: _in_flight(running, "late-end") == 0, 6)
    assert await talk.end() is grpc.StatusCode.OK, "with nothing left to hear"


async def test_client_that_asks_for_empty_ends_gets_them(channel: Any) -> None:
    talk = Talk(channel)
    asked = request("late-end", 1.0)
    asked.parameters["triton_enable_empty_final_response"].bool_param = True
    await talk.call.write(asked)
    answers = [await talk.hear() for _ in range(RESPONSES + 1)]
    finals = [a.infer_response.parameters["triton_final_response"].bool_param for a in answers]
    assert finals == [False, False, False, True]
    assert await talk.end() is grpc.StatusCode.OK


async def test_idle_stream_outlives_a_restart_of_triton(running: Pod, channel: Any) -> None:
    talk = Talk(channel)
    assert await talk.ask("a") == 6
    running.triton.kill()
    await asyncio.to_thread(running.triton.restart)
    assert await talk.ask("a") == 6
    assert await talk.ask("b") == 6
    assert await talk.end() is grpc.StatusCode.OK


async def test_stream_with_an_unanswered_request_ends_when_triton_dies(
    running: Pod, channel: Any
) -> None:
    idle, talk = Talk(channel), Talk(channel)
    assert await idle.ask("a") == 6
    assert await talk.ask("slow") == 6
    await talk.say("slow")
    await asyncio.sleep(0.4)
    running.triton.kill()
    with pytest.raises(aio.AioRpcError) as died:
        await talk.hear()
    assert died.value.code() is grpc.StatusCode.UNAVAILABLE
    await asyncio.to_thread(running.triton.restart)
    assert await idle.ask("a") == 6, "another stream has nothing to do with it"
    assert await idle.end() is grpc.StatusCode.OK


async def test_model_that_somebody_unloads_between_two_requests_is_brought_back(
    running: Pod, channel: Any
) -> None:
    talk = Talk(channel)
    assert await talk.ask("a") == 6
    loaded, missed = running.times_loaded("a"), misses(running, "a")
    for turn in range(3):
        await unload_behind_our_back(running, "a")
        assert await talk.ask("a", turn, id=str(turn)) == 2 * turn
        assert await talk.ask("a", turn) == 2 * turn
    assert running.times_loaded("a") == loaded + 3
    assert misses(running, "a") == missed + 3
    assert await talk.end() is grpc.StatusCode.OK


async def test_miss_is_told_from_other_requests_that_have_no_id_either(
    running: Pod, channel: Any
) -> None:
    talk = Talk(channel)
    assert (await talk.ask("slow"), await talk.ask("a")) == (6, 6)
    await unload_behind_our_back(running, "a")
    await talk.say("slow", 1)
    await talk.say("a", 2)
    assert sorted([told(await talk.hear()), told(await talk.hear())], key=str) == [2, 4]
    assert await talk.end() is grpc.StatusCode.OK


async def test_requests_that_a_dying_model_leaves_behind_are_all_sent_again(
    running: Pod, channel: Any
) -> None:
    talk = Talk(channel)
    assert await talk.ask("a") == 6
    await unload_behind_our_back(running, "a")
    for number in range(150):
        await talk.say("a", number, id=str(number))
    answers = [await talk.hear() for _ in range(150)]
    wrong = [told(a) for a in answers if told(a) != 2.0 * int(a.infer_response.id or -1)]
    assert wrong == []
    assert await talk.end() is grpc.StatusCode.OK


async def test_last_request_of_a_stream_is_sent_again_too(running: Pod, channel: Any) -> None:
    talk = Talk(channel)
    assert await talk.ask("a") == 6
    await unload_behind_our_back(running, "a")
    await talk.say("a", 5)
    await talk.call.done_writing()
    assert told(await talk.hear()) == 10
    assert await talk.hear() is EOF


async def test_tensors_of_eight_mebibytes_pass_both_ways(channel: Any) -> None:
    talk = Talk(channel)
    for seed in range(3):
        sent = np.random.default_rng(seed).random((2 * MIB, 1), np.float32)
        asked = service_pb2.ModelInferRequest(
            model_name="wide", raw_input_contents=[sent.tobytes()]
        )
        asked.inputs.add(name="X", datatype="FP32", shape=list(sent.shape))
        await talk.call.write(asked)
        answer = await talk.hear()
        assert answer.error_message == ""
        got = np.frombuffer(answer.infer_response.raw_output_contents[0], np.float32)
        assert np.array_equal(got, 2 * sent[:, 0])
    assert await talk.end() is grpc.StatusCode.OK


async def test_refusal_inside_a_stream_keeps_the_stream(channel: Any) -> None:
    talk = Talk(channel)
    await talk.say("nobody", id="7")
    answer = await talk.hear()
    assert answer.error_message == "Request for unknown model: 'nobody' is not found"
    assert answer.infer_response.id == "7"
    assert await talk.ask("a") == 6
    wrong = request("a")
    wrong.inputs[0].name = "Z"
    await talk.call.write(wrong)
    assert "Z" in str(told(await talk.hear())), "Triton's own words"
    assert await talk.ask("a") == 6
    assert await talk.end() is grpc.StatusCode.OK


async def test_client_that_wants_errors_as_a_status_gets_one(channel: Any) -> None:
    talk = Talk(channel, (("triton_grpc_error", "true"),))
    assert await talk.ask("b") == 6
    await talk.say("nobody")
    with pytest.raises(aio.AioRpcError) as refused:
        await talk.hear()
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert refused.value.details() == "Request for unknown model: 'nobody' is not found"


async def test_client_that_wants_errors_as_a_status_is_not_told_of_a_miss(
    running: Pod, channel: Any
) -> None:
    talk = Talk(channel, (("triton_grpc_error", "true"),))
    assert await talk.ask("a") == 6
    await unload_behind_our_back(running, "a")
    assert await talk.ask("a", 5) == 10
    assert await talk.end() is grpc.StatusCode.OK


async def test_idle_stream_does_not_keep_a_model_that_must_leave(
    installation: Installation, tmp_path: Path
) -> None:
    """Triton keeps every model that a stream has asked for until the stream has ended."""
    specs = (model("small"), ModelSpec("one", 60, 0.3, 2, hint=True), model("other"))
    policy = QUICK.format(budget=95) + "front_door: {lease: 2s}\n"
    with pod(installation, tmp_path, specs, policy) as cramped:
        async with aio.insecure_channel(cramped.door_grpc) as opened:
            idle, busy = Talk(opened), Talk(opened)
            assert (await idle.ask("one"), await busy.ask("one")) == (6, 6)
            # It must be there first, or it and the other one would race for the free room.
            assert await busy.ask("small") == 6
            asking = asyncio.create_task(_ask_once(opened, "other", 15))
            while not asking.done():
                assert await busy.ask("small") == 6
                await asyncio.sleep(0.02)
            assert await asking == 6
            assert cramped.states()["one"] == "UNAVAILABLE"
            assert (await idle.ask("one"), await busy.ask("one")) == (6, 6)


async def _ask_once(channel: Any, name: str, timeout_s: float) -> float:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    answer = await stub.ModelInfer(request(name), timeout=timeout_s)
    [value] = struct.unpack("<f", answer.raw_output_contents[0])
    return float(value)


async def test_client_that_goes_away_leaves_nothing_inside(running: Pod, channel: Any) -> None:
    talk = Talk(channel)
    assert await talk.ask("many") == 6
    await talk.say("many")
    await talk.say("many")
    talk.call.cancel()
    eventually(lambda: _in_flight(running, "many") == 0, 6)


def _in_flight(running: Pod, name: str) -> float:
    return gauge(running, f'remora_model_in_flight_requests{{model="{name}",source="counted"}}')


# --- HTTP


@pytest.fixture
def line(running: Pod) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(running.door_http, timeout=ANSWER_S)
    yield connection
    connection.close()


BODY = json.dumps(
    {"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [3.0]}]}
).encode()


def test_compressed_bodies_pass_both_ways_untouched(line: http.client.HTTPConnection) -> None:
    headers = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    line.request("POST", "/v2/models/a/infer", gzip.compress(BODY), headers)
    answer = line.getresponse()
    content = answer.read()
    assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip")
    assert json.loads(gzip.decompress(content))["outputs"][0]["data"] == [6.0]


def test_answer_is_compressed_only_for_who_asks(line: http.client.HTTPConnection) -> None:
    line.putrequest("POST", "/v2/models/a/infer", skip_accept_encoding=True)
    line.putheader("Content-Length", str(len(BODY)))
    line.endheaders(BODY)
    answer = line.getresponse()
    assert answer.headers["Content-Encoding"] is None
    assert json.loads(answer.read())["outputs"][0]["data"] == [6.0]


def test_events_arrive_as_they_are_made(line: http.client.HTTPConnection) -> None:
    line.request("POST", "/v2/models/many/generate_stream", json.dumps({"X": 1.0}))
    answer = line.getresponse()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    came = []
    while event := answer.readline():
        if event.startswith(b"data:"):
            came.append((json.loads(event.removeprefix(b"data:"))["Y"], time.monotonic()))
    values, at_s = zip(*came, strict=True)
    assert values == (2.0, 4.0, 6.0)
    assert at_s[0] + 0.4 < at_s[-1], "each takes 0.3 s"


@pytest.mark.parametrize("name", ["wide", "cold"])
def test_large_body_is_sent_when_it_is_called_for(running: Pod, name: str) -> None:
    """``cold`` refuses so large a batch, and its answer must come all the same."""
    tensor = np.arange(4 * MIB, dtype=np.float32)
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "X",
                    "shape": [tensor.size, 1],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": tensor.nbytes},
                }
            ],
            "outputs": [{"name": "Y", "parameters": {"binary_data": True}}],
        }
    ).encode()
    connection = http.client.HTTPConnection(running.door_http, timeout=ANSWER_S)
    connection.putrequest("POST", f"/v2/models/{name}/infer")
    connection.putheader("Content-Length", str(len(header) + tensor.nbytes))
    connection.putheader(JSON_LENGTH_HEADER, str(len(header)))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    assert connection.sock.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sending = threading.Thread(target=connection.send, args=(header + tensor.tobytes(),))
    sending.start()
    answer = connection.getresponse()
    content = answer.read()
    sending.join()
    connection.close()
    if name == "cold":
        assert answer.status == 400
        assert b"batch" in content
        return
    assert answer.status == 200
    got = np.frombuffer(content[int(answer.headers[JSON_LENGTH_HEADER]) :], np.float32)
    assert np.array_equal(got, 2 * tensor)


@pytest.mark.parametrize("method", ["OPTIONS", "GET", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/models/a", "/v2/models/a/infer", "/x"])
def test_other_methods_get_tritons_own_answer(
    running: Pod, line: http.client.HTTPConnection, method: str, path: str
) -> None:
    line.request("GET", "/v2/models/a")
    line.getresponse().read()
    direct = http.client.HTTPConnection(running.triton.http_url, timeout=ANSWER_S)
    with closing(direct):
        assert answered(direct, method, path) == answered(line, method, path)
    assert answered(line, "GET", "/v2/health/live")[0] == 200


def answered(connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, bytes]:
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/models/a", "/x"])
def test_head_is_refused_as_by_triton_and_spoils_no_connection(
    line: http.client.HTTPConnection, path: str
) -> None:
    assert answered(line, "HEAD", path) == (405, b"")
    assert answered(line, "GET", "/v2/health/live")[0] == 200


def test_one_connection_carries_many_requests(line: http.client.HTTPConnection) -> None:
    line.connect()
    opened = line.sock
    for value in range(20):
        body = INFER_HEADER + struct.pack("<f", value)
        headers = {JSON_LENGTH_HEADER: str(len(INFER_HEADER))}
        line.request("POST", "/v2/models/a/infer", body, headers)
        answer = line.getresponse()
        content = answer.read()
        head = int(answer.headers[JSON_LENGTH_HEADER])
        assert struct.unpack("<f", content[head:]) == (2.0 * value,)
        assert line.sock is opened


def test_sidecar_has_nothing_to_complain_of(running: Pod) -> None:
    assert running.sidecar is not None
    assert running.sidecar.poll() is None
    for words in ("Traceback", "never retrieved", "tick failed"):
        assert words not in running.log
