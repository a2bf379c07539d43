"""What the written models cost a real Triton, and what they answer."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from simulations.testbed.repository import ModelSpec, demo_models, write_repository
from simulations.testbed.tritonserver import TritonServer

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
        await _double(client, "small", 1.0)
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
    await _double(client, "large", 1.0)
    assert 0.040 <= time.monotonic() - started_s < 0.2


async def test_models_double_their_input(client: InferenceServerClient) -> None:
    await client.load_model("small")
    await client.load_model("single")
    assert await _double(client, "small", 1.5) == 3.0
    assert await _double(client, "single", 1.5) == 3.0


async def test_a_caller_asks_every_model_that_it_calls(client: InferenceServerClient) -> None:
    for model in ("small", "pair", "caller"):
        await client.load_model(model)
    assert await _double(client, "caller", 1.0) == 8.0


async def test_a_caller_whose_callee_is_absent_fails(client: InferenceServerClient) -> None:
    await client.load_model("caller")
    with pytest.raises(InferenceServerException, match="small"):
        await _double(client, "caller", 1.0)


async def test_an_ensemble_runs_its_steps_in_a_row(client: InferenceServerClient) -> None:
    await client.load_model("chain")
    assert await _double(client, "chain", 1.0) == 8.0


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
        declared = f'key: "memory_mb" value {{ string_value: "{spec.memory_mb}" }}'
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
    assert sum(model.memory_mb for model in models) == 2400
    assert sum(model.hint for model in models) == 6
    assert all(50 <= model.memory_mb <= 400 for model in models)


def test_an_ensemble_with_memory_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="chain: an ensemble has no memory"):
        ModelSpec("chain", 10, load_s=0, compute_ms=0, steps=("a", "b"))


async def _double(client: InferenceServerClient, model: str, value: float) -> float:
    tensor = InferInput("X", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.array([[value]], np.float32))
    result = await client.infer(model, [tensor])
    return float(result.as_numpy("Y").item())
