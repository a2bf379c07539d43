"""What the written models cost a real Triton, and what they answer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from simulations.testbed.repository import ModelSpec, demo_models, write_repository
from simulations.testbed.tritonserver import Installation, TritonServer
from tests.testbed.started import started

MIB = 2**20


async def test_a_loaded_model_holds_the_memory_it_declares(
    server: TritonServer, client: InferenceServerClient
) -> None:
    await client.load_model("small")
    await client.load_model("large")
    resident = server.resident_bytes()
    assert resident["small"] == pytest.approx(60 * MIB, rel=0.25)
    assert resident["large"] == pytest.approx(250 * MIB, rel=0.25)


async def test_memory_does_not_grow_with_requests(
    server: TritonServer, client: InferenceServerClient
) -> None:
    await client.load_model("small")
    for _ in range(50):
        await _ask(client, "small", 1.0)
    assert server.resident_bytes()["small"] == pytest.approx(60 * MIB, rel=0.25)


async def test_every_instance_has_memory_of_its_own(
    server: TritonServer, client: InferenceServerClient
) -> None:
    await client.load_model("pair")
    assert len(server.stub_pids()["pair"]) == 2
    assert server.resident_bytes()["pair"] == pytest.approx(2 * 60 * MIB, rel=0.25)


async def test_a_load_takes_its_time(client: InferenceServerClient) -> None:
    started_s = time.monotonic()
    await client.load_model("large")
    assert time.monotonic() - started_s == pytest.approx(1.5, abs=0.5)


async def test_an_answer_takes_its_time(client: InferenceServerClient) -> None:
    await client.load_model("large")
    started_s = time.monotonic()
    await _ask(client, "large", 1.0)
    assert 0.040 <= time.monotonic() - started_s < 0.2


async def test_models_double_their_input(client: InferenceServerClient) -> None:
    await client.load_model("small")
    await client.load_model("single")
    assert await _ask(client, "small", 1.5) == 3.0
    assert await _ask(client, "single", 1.5) == 3.0


async def test_a_caller_asks_every_model_that_it_calls(client: InferenceServerClient) -> None:
    for model in ("small", "pair", "caller"):
        await client.load_model(model)
    assert await _ask(client, "caller", 1.0) == 8.0


async def test_a_caller_whose_callee_is_absent_fails(client: InferenceServerClient) -> None:
    await client.load_model("caller")
    with pytest.raises(InferenceServerException, match="small"):
        await _ask(client, "caller", 1.0)


async def test_an_ensemble_runs_its_steps_in_a_row(client: InferenceServerClient) -> None:
    await client.load_model("chain")
    assert await _ask(client, "chain", 1.0) == 8.0


async def test_a_model_that_fails_at_initialisation_leaves_no_stub(
    server: TritonServer, client: InferenceServerClient
) -> None:
    with pytest.raises(InferenceServerException, match="told to fail at initialisation"):
        await client.load_model("broken")
    assert "broken" not in server.stub_pids()


async def test_a_configuration_that_fails_cannot_be_loaded(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="failed to poll from model repository"):
        await client.load_model("unparsable")


def test_only_a_hinted_model_declares_its_memory(tmp_path: Path) -> None:
    write_repository(tmp_path, demo_models())
    for spec in demo_models():
        written = (tmp_path / spec.name / "config.pbtxt").read_text()
        declared = f'key: "memory_mb" value {{ string_value: "{spec.total_mb}" }}'
        assert (declared in written) == spec.hint
        assert ("memory_mb" in written) == spec.hint


def test_the_weights_have_the_size_of_the_model_and_take_no_disk(tmp_path: Path) -> None:
    write_repository(tmp_path, [ModelSpec("m", 300, load_s=1, compute_ms=1)])
    weights = (tmp_path / "m" / "1" / "weights.bin").stat()
    assert weights.st_size == 300 * MIB
    assert weights.st_blocks * 512 < MIB


def test_the_demonstration_is_a_dozen_models_of_2400_mib() -> None:
    models = demo_models()
    assert len({model.name for model in models}) == 12
    assert sum(model.total_mb for model in models) == 2400
    assert sum(model.hint for model in models) == 6
    assert all(50 <= model.total_mb <= 340 for model in models)
    assert sum(len(model.versions) == 2 for model in models) == 3
    assert sum(model.decoupled for model in models) == 1


def test_an_ensemble_with_memory_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="chain: an ensemble has no memory"):
        ModelSpec("chain", 10, load_s=0, compute_ms=0, steps=("a", "b"))


@pytest.mark.parametrize("also", [{"decoupled": True}, {"sequence": True}, {"versions": (1, 2)}])
def test_an_ensemble_is_one_version_and_answers_once(also: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="chain: an ensemble is one version"):
        ModelSpec("chain", 0, load_s=0, compute_ms=0, steps=("a", "b"), **also)


def test_what_each_kind_of_model_answers() -> None:
    quick = partial(ModelSpec, memory_mb=0, load_s=0, compute_ms=0)
    assert quick("plain").answers(1.5) == [3.0]
    assert quick("newest", versions=(1, 4)).answers(1.0) == [5.0]
    assert quick("pinned", versions=(1, 4)).answers(1.0, version=1) == [2.0]
    assert quick("caller", calls=("a", "b")).answers(1.0) == [8.0]
    assert quick("chain", steps=("a", "b", "a")).answers(1.0) == [8.0]
    assert quick("stream", decoupled=True).answers(1.0) == [2.0, 4.0, 6.0]


# --- a second server, for models that answer in ways of their own -------------------------------

WAYS = (
    ModelSpec("versions", 40, load_s=0.4, compute_ms=1, versions=(1, 3)),
    ModelSpec("stream", 30, load_s=0.4, compute_ms=30, decoupled=True),
    ModelSpec("sums", 30, load_s=0.4, compute_ms=1, sequence=True),
)


@pytest.fixture(scope="module")
def ways(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """A server that serves every model of WAYS."""
    folder = tmp_path_factory.mktemp("ways")
    loaded = [spec.name for spec in WAYS]
    with started(installation, folder, WAYS, loaded) as server:
        server.wait_live()
        yield server


@pytest.fixture
async def asker(ways: TritonServer) -> AsyncIterator[InferenceServerClient]:
    async with InferenceServerClient(ways.grpc_url) as client:
        yield client


async def test_a_version_tells_by_its_answer(asker: InferenceServerClient) -> None:
    assert await _ask(asker, "versions", 1.0) == 4.0
    assert await _ask(asker, "versions", 1.0, model_version="1") == 2.0
    assert await _ask(asker, "versions", 1.0, model_version="3") == 4.0


def test_every_version_has_memory_of_its_own(ways: TritonServer) -> None:
    assert len(ways.stub_pids()["versions"]) == 2
    assert ways.resident_bytes()["versions"] == pytest.approx(WAYS[0].total_mb * MIB, rel=0.25)


async def test_a_decoupled_model_answers_a_stream_in_its_time(
    asker: InferenceServerClient,
) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "stream", "inputs": [_tensor(1.5)]}

    began_s = time.monotonic()
    values = [
        float(result.as_numpy("Y").item())
        async for result, error in asker.stream_infer(requests())
        if error is None
    ]
    assert values == [3.0, 6.0, 9.0]
    assert 0.090 <= time.monotonic() - began_s < 0.5


async def test_sequences_are_summed_apart(asker: InferenceServerClient) -> None:
    async def ask(sequence: int, value: float, **ends: bool) -> float:
        return await _ask(asker, "sums", value, sequence_id=sequence, **ends)

    assert await ask(7, 1.0, sequence_start=True) == 2.0
    assert await ask(8, 10.0, sequence_start=True) == 20.0
    assert await ask(7, 2.0) == 6.0
    assert await ask(8, 10.0, sequence_end=True) == 40.0
    assert await ask(7, 3.0, sequence_end=True) == 12.0
    assert await ask(7, 5.0, sequence_start=True, sequence_end=True) == 10.0


async def test_a_sequence_that_never_began_is_refused(asker: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        await _ask(asker, "sums", 1.0, sequence_id=9)


def _tensor(value: float) -> InferInput:
    tensor = InferInput("X", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.array([[value]], np.float32))
    return tensor


async def _ask(client: InferenceServerClient, model: str, value: float, **options: Any) -> float:
    result = await client.infer(model, [_tensor(value)], **options)
    return float(result.as_numpy("Y").item())
