"""What Triton's answers mean, asked of a real one wherever it can be."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import InferInput, service_pb2
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig
from tritonclient.utils import InferenceServerException

from daemon.triton import (
    DeadlineExceeded,
    LoadRefused,
    Served,
    Triton,
    TritonError,
    Unreachable,
    classify,
    shortened,
    synthetic_inputs,
    tells_own_death,
)
from policies.snapshot import ErrorClass, ModelState
from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.tritonserver import Installation, TritonServer, free_ports

READY, UNLOADED = ModelState.READY, ModelState.UNLOADED
REFUSED = "StatusCode.INVALID_ARGUMENT"


async def served(triton: Triton, name: str) -> Served:
    return (await triton.observe(5))[name]


async def becomes(triton: Triton, name: str, state: ModelState, within_s: float = 5.0) -> Served:
    async with asyncio.timeout(within_s):
        while True:
            found = await served(triton, name)
            if found.state is state:
                return found
            await asyncio.sleep(0.02)


async def counted(triton: Triton, name: str, requests: int) -> Served:
    """The model once so many requests are counted; Triton answers before it counts."""
    async with asyncio.timeout(5):
        while True:
            row = await served(triton, name)
            if row.success_count + row.fail_count >= requests:
                return row
            await asyncio.sleep(0.02)


async def ask(server: TritonServer, model: str) -> float:
    """One real request; raises what Triton answers."""
    tensor = InferInput("X", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    async with InferenceServerClient(server.grpc_url) as client:
        return float((await client.infer(model, [tensor])).as_numpy("Y").item())


# --- listing -------------------------------------------------------------------------------


async def test_a_model_never_asked_for_is_unloaded_and_unknown_to_triton(triton: Triton) -> None:
    assert await served(triton, "unbatched") == Served("unbatched", UNLOADED, known=False)


async def test_a_loaded_model_is_ready_and_then_unloads_without_a_reason(triton: Triton) -> None:
    await triton.load("plain", 10)
    assert await served(triton, "plain") == Served("plain", READY, versions=("1",))
    await triton.unload("plain", 5)
    assert await becomes(triton, "plain", UNLOADED) == Served("plain", UNLOADED)


async def test_a_model_whose_folder_is_gone_still_shows_while_it_serves(
    server: TritonServer, triton: Triton, repository_root: Path, tmp_path: Path
) -> None:
    await triton.load("plain", 10)
    shutil.move(repository_root / "plain", tmp_path / "plain")
    try:
        expected = Served("plain", READY, in_repository=False, versions=("1",))
        assert await served(triton, "plain") == expected
        assert await ask(server, "plain") == 2.0
    finally:
        shutil.move(tmp_path / "plain", repository_root / "plain")
    back = await counted(triton, "plain", 1)
    assert (back.state, back.in_repository, back.success_count) == (READY, True, 1)


async def test_folders_that_are_no_models_do_not_show(
    triton: Triton, repository_root: Path
) -> None:
    folders = {each.name for each in os.scandir(repository_root) if each.is_dir()}
    assert folders - set(await triton.observe(5)) == {".git", "lost+found"}


async def test_all_versions_of_a_model_are_one_row(
    server: TritonServer, triton: Triton, repository_root: Path
) -> None:
    write_repository(repository_root, [ModelSpec("twice", 20, load_s=0.2, compute_ms=1)])
    shutil.copytree(repository_root / "twice" / "1", repository_root / "twice" / "2")
    with (repository_root / "twice" / "config.pbtxt").open("a") as config:
        config.write("version_policy { all { } }\n")
    try:
        await triton.load("twice", 10)
        assert len(server.stub_pids()["twice"]) == 2
        assert await served(triton, "twice") == Served("twice", READY, versions=("1", "2"))
    finally:
        shutil.rmtree(repository_root / "twice")


async def test_an_ensemble_brings_its_steps(triton: Triton) -> None:
    await triton.load("chain", 10)
    rows = await triton.observe(5)
    assert {name for name, row in rows.items() if row.state is READY} == {
        "chain",
        "plain",
        "unbatched",
    }


async def test_a_loaded_model_tells_the_configuration_it_runs_with(triton: Triton) -> None:
    await triton.load("plain", 10)
    config = await triton.config("plain")
    assert (config.max_batch_size, config.instance_group[0].name) == (8, "plain_0")


async def test_versions_are_one_model_whatever_state_each_is_in() -> None:
    index = """
        models { name: "a" version: "1" state: "UNAVAILABLE" reason: "Internal: no" }
        models { name: "a" version: "2" state: "READY" }
        models { name: "b" version: "1" state: "UNLOADING" }
        models { name: "b" version: "2" state: "LOADING" }
        models { name: "c" version: "1" state: "UNAVAILABLE" reason: "unloaded" }
        models { name: "c" version: "2" state: "UNLOADING" }
        models { name: "d" version: "1" state: "UNAVAILABLE" reason: "unloaded" }
        models { name: "e" }
    """
    statistics = """
        model_stats { name: "a" version: "1" inference_stats { success { count: 3 } }
          batch_stats { batch_size: 1 compute_input { ns: 1000000000 } }
          batch_stats { batch_size: 8 compute_infer { ns: 5000000000 }
            compute_output { ns: 2000000000 } }
          memory_usage { type: "GPU" id: 1 byte_size: 10 }
          memory_usage { type: "CPU" id: 0 byte_size: 5 } }
        model_stats { name: "a" version: "2" inference_stats { fail { count: 2 } }
          memory_usage { type: "GPU" id: 1 byte_size: 20 } }
    """
    async with answering(index, statistics) as url:
        triton = Triton(url)
        rows = await triton.observe(5)
        await triton.close()
    assert rows == {
        "a": Served(
            "a",
            READY,
            True,
            "Internal: no",
            {("GPU", 1): 30, ("CPU", 0): 5},
            8,
            3,
            2,
            versions=("2",),
        ),
        "b": Served("b", ModelState.LOADING, more_come=True, more_leave=True),
        "c": Served("c", ModelState.UNLOADING, more_leave=True),
        "d": Served("d", UNLOADED),
        "e": Served("e", UNLOADED, known=False),
    }


async def test_an_answer_may_be_larger_than_grpc_allows_by_itself() -> None:
    names = [f"{number:06}-{'x' * 200}" for number in range(30_000)]
    index = "".join(f'models {{ name: "{name}" }}\n' for name in names)
    async with answering(index, "") as url:
        triton = Triton(url)
        assert list(await triton.observe(10)) == names
        await triton.close()


async def test_a_proxy_for_the_world_outside_is_not_asked_for_a_neighbour(
    server: TritonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_ports(1)[0]}")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    triton = Triton(server.grpc_url)
    assert "plain" in await triton.observe(5)
    await triton.close()


# --- loading -------------------------------------------------------------------------------


async def test_a_deadline_does_not_cancel_a_load(triton: Triton) -> None:
    with pytest.raises(DeadlineExceeded):
        await triton.load("slow", 0.1)
    assert (await served(triton, "slow")).state is ModelState.LOADING
    await becomes(triton, "slow", READY)


async def test_a_failing_initialisation_is_told_by_class_and_in_the_index(triton: Triton) -> None:
    with pytest.raises(LoadRefused, match="told to fail at initialisation") as refused:
        await triton.load("failing", 10)
    assert refused.value.error_class is ErrorClass.INITIALISATION
    assert "\n" not in refused.value.message
    row = await served(triton, "failing")
    assert (row.state, row.known) == (UNLOADED, True)
    assert "told to fail at initialisation" in row.reason


@pytest.mark.parametrize("name", ["unparsable", "absent"])
async def test_a_configuration_that_cannot_be_had_is_a_configuration_error(
    triton: Triton, name: str
) -> None:
    with pytest.raises(LoadRefused, match="failed to poll") as refused:
        await triton.load(name, 10)
    assert refused.value.error_class is ErrorClass.CONFIG


async def test_unloading_what_is_not_there_is_no_error(triton: Triton) -> None:
    await triton.unload("plain", 5)
    await triton.unload("absent", 5)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "TensorRT: Error Code 2: OutOfMemory (no further information)",
        "onnx runtime error 6: Failed to allocate memory for requested buffer of size 4096",
        "cudaErrorMemoryAllocation: out of resources",
        "OOM when allocating tensor with shape[4096,4096]",
        "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 9.3 GiB for an array",
        "std::bad_alloc",
        "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)",
        "memory limit set for GPU 0 has exceeded, model loading is rejected.",
    ],
)
def test_a_lack_of_memory_is_known_by_its_words(message: str) -> None:
    told = f"load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: {message}"
    assert classify(REFUSED, told) is ErrorClass.MEMORY


@pytest.mark.parametrize("name", ["my-config", "bad_alloc", "cudamalloc-bench"])
def test_the_name_of_a_model_says_nothing_of_its_error(name: str) -> None:
    told = f"load failed for model '{name}': version 1 is at UNAVAILABLE state: Internal: no"
    assert classify(REFUSED, told) is ErrorClass.INITIALISATION


@pytest.mark.parametrize(
    ("message", "error_class"),
    [
        ("failed to load 'm', failed to poll from model repository", ErrorClass.CONFIG),
        (
            "load failed for model 'm': version 1 is at UNAVAILABLE state: Invalid argument:"
            " unable to find backend library for backend 'foo', try specifying runtime",
            ErrorClass.CONFIG,
        ),
        (
            "load failed for model 'm': at least one version must be available under the version"
            " policy of model 'm'",
            ErrorClass.CONFIG,
        ),
        (
            "load failed for model 'm': ensemble m contains models that are not available or"
            " ambiguous: ghost",
            ErrorClass.CONFIG,
        ),
        (
            "load failed for model 'm': ensemble 'm' depends on 'bad' which has no loaded version."
            " Model 'bad' loading failed with error: version 1 is at UNAVAILABLE state: Internal:"
            " RuntimeError: no",
            ErrorClass.INITIALISATION,
        ),
        # As the index tells a reason.
        ("Internal: RuntimeError: no", ErrorClass.INITIALISATION),
        ("Internal: MemoryError: <EMPTY MESSAGE>", ErrorClass.MEMORY),
        ("Internal: Stub process 'm_0_0' is not healthy.", ErrorClass.UNHEALTHY),
    ],
)
def test_recorded_refusals_are_told_apart(message: str, error_class: ErrorClass) -> None:
    assert classify("", message) is error_class


def test_silence_is_no_fault_of_the_model() -> None:
    gone = classify("StatusCode.UNAVAILABLE", "Stream removed (Socket closed)")
    late = classify("StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded")
    assert (gone, late) == (ErrorClass.UNAVAILABLE, ErrorClass.UNKNOWN)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: RuntimeError:"
            " \n  first\nsecond\n\n\nAt:\n  /models/m/1/model.py(4): initialize\n;\n",
            "load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: RuntimeError:"
            " first second",
        ),
        (
            'Internal: Traceback (most recent call last):\n  File "model.py", line 4, in load\n'
            "    weights()\nValueError: no weights\n",
            "Internal: ValueError: no weights",
        ),
        (
            "Internal: Traceback (most recent call last):\n",
            "Internal: Traceback (most recent call last):",
        ),
        ("x" * 1000, "x" * 300),
        ("", ""),
    ],
)
def test_a_message_keeps_the_error_and_drops_the_frames(message: str, words: str) -> None:
    assert shortened(message) == words


async def test_a_process_that_dies_while_loading_is_told_apart(
    server: TritonServer, triton: Triton
) -> None:
    load = asyncio.create_task(triton.load("slow", 20))
    async with asyncio.timeout(5):
        while not (stubs := server.stub_pids().get("slow")):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)
    os.kill(stubs[0], signal.SIGKILL)
    with pytest.raises(LoadRefused, match="is not healthy") as refused:
        await load
    assert refused.value.error_class is ErrorClass.UNHEALTHY


async def test_a_triton_in_another_control_mode_is_there_and_says_so(
    installation: Installation, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    http_port, grpc_port, metrics_port = free_ports(3)
    with TritonServer.start(
        installation,
        tmp_path / "models",
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        log_path=tmp_path / "triton.log",
        extra_args=["--model-control-mode=none"],
    ) as server:
        server.wait_live()
        triton = Triton(server.grpc_url)
        with pytest.raises(LoadRefused, match="is not allowed") as refused:
            await triton.load("any", 5)
        await triton.close()
    assert refused.value.error_class is ErrorClass.CONFIG


def test_words_that_nobody_knows_are_an_unknown_error() -> None:
    assert classify(REFUSED, "the moon is full") is ErrorClass.UNKNOWN


# --- probing -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "unbatched"])
async def test_a_healthy_model_is_not_sick(triton: Triton, name: str) -> None:
    await triton.load(name, 10)
    assert not await triton.probe(name, 5)
    # It was asked, and the request was a valid one.
    row = await counted(triton, name, 1)
    assert (row.success_count, row.fail_count) == (1, 0)


async def test_a_caller_whose_callee_is_absent_fails_but_is_not_sick(
    server: TritonServer, triton: Triton
) -> None:
    await triton.load("caller", 10)
    with pytest.raises(InferenceServerException, match="plain"):
        await ask(server, "caller")
    assert not await triton.probe("caller", 5)


async def test_an_ensemble_is_not_asked(server: TritonServer, triton: Triton) -> None:
    await triton.load("chain", 10)
    assert not await triton.probe("chain", 5)
    async with InferenceServerClient(server.grpc_url) as client:
        [row] = (await client.get_inference_statistics("chain")).model_stats
    assert row.inference_stats.success.count == 0


async def test_a_model_that_is_not_loaded_cannot_be_probed(triton: Triton) -> None:
    with pytest.raises(TritonError, match="absent"):
        await triton.probe("absent", 5)


async def test_a_caller_does_not_pay_for_the_death_of_its_callee(
    server: TritonServer, triton: Triton
) -> None:
    await triton.load("plain", 10)
    await triton.load("caller", 10)
    [stub] = server.stub_pids()["plain"]
    os.kill(stub, signal.SIGKILL)
    with pytest.raises(InferenceServerException, match="Stub process 'plain_0_0' is not healthy"):
        await ask(server, "caller")
    assert not await triton.probe("caller", 5)
    assert await triton.probe("plain", 5)
    assert (await counted(triton, "plain", 3)).fail_count == 3


@pytest.mark.parametrize(
    ("message", "own"),
    [
        ("Stub process 'm_0_0' is not healthy.", True),
        ("Stub process 'fast_11' is not healthy.", True),
        ("the model is not healthy", True),
        ("Stub process 'm_0_x_0_0' is not healthy.", False),
        ("in ensemble 'chain', Stub process 'other_0_0' is not healthy.", False),
        ("unexpected shape for input 'X'", False),
        ("Deadline Exceeded", False),
    ],
)
def test_only_the_death_of_its_own_process_makes_a_model_sick(message: str, own: bool) -> None:
    config = configured('instance_group [ { name: "m_0" }, { name: "fast" } ]')
    assert tells_own_death(message, config) is own


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        ("", {}),
        ('input [ { name: "A" data_type: TYPE_FP32 dims: [ 3, -1 ] } ]', {"A": [3, 1]}),
        (
            'max_batch_size: 4 input [ { name: "A" data_type: TYPE_INT64 dims: [ -1 ] } ]',
            {"A": [1, 1]},
        ),
        ('max_batch_size: 4 input [ { name: "A" data_type: TYPE_BOOL } ]', {"A": [1]}),
        (
            'input [ { name: "A" data_type: TYPE_BF16 dims: 2 },'
            ' { name: "B" data_type: TYPE_STRING dims: 2 },'
            ' { name: "C" data_type: TYPE_FP32 dims: 2 optional: true } ]',
            {"A": [2], "B": [2]},
        ),
        ("sequence_batching { }", None),
        ("ensemble_scheduling { }", None),
        ("model_transaction_policy { decoupled: true }", None),
        ('input [ { name: "A" data_type: TYPE_INVALID dims: 1 } ]', None),
        ('input [ { name: "A" data_type: TYPE_INT32 dims: 1 is_shape_tensor: true } ]', None),
        # 4 TB of zeros would be a heavy question.
        ('input [ { name: "A" data_type: TYPE_FP32 dims: [ 1000000, 1000000 ] } ]', None),
    ],
)
def test_a_probe_is_the_smallest_valid_request(
    config: str, shapes: dict[str, list[int]] | None
) -> None:
    inputs = synthetic_inputs(configured(config))
    found = None if inputs is None else {each.name(): each.shape() for each in inputs}
    assert found == shapes


@pytest.mark.parametrize("datatype", sorted(set(DataType.keys()) - {"TYPE_INVALID"}))
def test_every_type_of_input_can_be_made_up(datatype: str) -> None:
    config = f'input [ {{ name: "A" data_type: {datatype} dims: [ 2, 3 ] }} ]'
    inputs = synthetic_inputs(configured(config))
    assert inputs is not None
    element_bytes = len(inputs[0]._get_content()) / 6
    # A string of no characters is the four bytes of its length.
    assert element_bytes == {"8": 1, "16": 2, "32": 4, "64": 8}.get(
        "".join(filter(str.isdigit, datatype)), 1 if datatype == "TYPE_BOOL" else 4
    )


# --- servers that die, hang and come back --------------------------------------------------


async def test_a_model_whose_process_died_is_sick_until_loaded_again(
    server: TritonServer, triton: Triton
) -> None:
    await triton.load("plain", 10)
    [stub] = server.stub_pids()["plain"]
    os.kill(stub, signal.SIGKILL)
    with pytest.raises(InferenceServerException, match="is not healthy"):
        await ask(server, "plain")

    assert (await served(triton, "plain")).state is READY
    assert await triton.probe("plain", 5)


async def test_a_restarted_server_is_reached_by_the_same_client_and_knows_nothing(
    server: TritonServer, triton: Triton
) -> None:
    await triton.load("plain", 10)
    assert (await served(triton, "plain")).known
    server.kill()
    with pytest.raises(Unreachable):
        await triton.observe(1)

    server.restart()
    server.wait_live()
    async with asyncio.timeout(1.5):
        rows = await patiently(lambda: triton.observe(1))
    assert rows["plain"] == Served("plain", UNLOADED, known=False)


async def test_a_server_slow_to_shake_hands_is_reached(server: TritonServer) -> None:
    async with slow_door(server.grpc_url, delay_s=0.8) as url:
        client = Triton(url)
        async with asyncio.timeout(5):
            rows = await patiently(lambda: client.observe(3))
        await client.close()
    assert "plain" in rows


async def test_nobody_there_is_unreachable_at_once() -> None:
    client = Triton(f"127.0.0.1:{free_ports(1)[0]}")
    async with asyncio.timeout(1):
        with pytest.raises(Unreachable):
            await client.observe(5)
    await client.close()


async def test_a_server_that_accepts_and_never_answers_is_not_waited_for() -> None:
    async with slow_door("127.0.0.1:9", delay_s=60) as url:
        client = Triton(url)
        async with asyncio.timeout(2):
            with pytest.raises((DeadlineExceeded, Unreachable)):
                await client.observe(0.3)
        await client.close()


async def patiently(
    call: Callable[[], Awaitable[dict[str, Served]]],
) -> dict[str, Served]:
    while True:
        try:
            return await call()
        except Unreachable:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def slow_door(url: str, delay_s: float) -> AsyncIterator[str]:
    """A port that passes bytes on to ``url``, and takes its time before the first of them."""
    host, _, port = url.rpartition(":")

    guests: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)

    async def admit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with closing(writer):
            await asyncio.sleep(delay_s)
            inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
            async with closing(inner_writer):
                await asyncio.wait(
                    [
                        asyncio.create_task(pump(reader, inner_writer)),
                        asyncio.create_task(pump(inner_reader, writer)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )

    def knock(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guests.add(asyncio.create_task(admit(reader, writer)))

    server = await asyncio.start_server(knock, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for guest in guests:
            guest.cancel()
        await asyncio.gather(*guests, return_exceptions=True)


@asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def configured(text: str) -> Any:
    return text_format.Parse(text, ModelConfig())


@asynccontextmanager
async def answering(index: str, statistics: str) -> AsyncIterator[str]:
    """A server that gives these two answers, as text, for what the real one cannot show here."""
    answers = {
        "RepositoryIndex": text_format.Parse(index, service_pb2.RepositoryIndexResponse()),
        "ModelStatistics": text_format.Parse(statistics, service_pb2.ModelStatisticsResponse()),
    }

    def handler(answer: Any) -> Any:
        async def give(_request: bytes, _context: object) -> bytes:
            return bytes(answer.SerializeToString())

        return grpc.unary_unary_rpc_method_handler(give)

    server = grpc.aio.server()
    handlers = {name: handler(answer) for name, answer in answers.items()}
    service = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
