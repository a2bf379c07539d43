"""The load that a sidecar publishes, beside a real Triton that is really asked."""

import asyncio
import time
from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from simulations.testbed.installation import Installation
from simulations.testbed.repository import ModelSpec
from tests.daemon.pod import Pod, eventually, pod

POLICY = """\
tick: 200ms
budget: 400MiB
scaling: {window: 2s}
"""
COMPUTE_S = 0.05
MODELS = (
    ModelSpec("plain", 20, load_s=0.2, compute_ms=50, instances=2, max_batch_size=0),
    ModelSpec("batching", 20, load_s=0.2, compute_ms=50, max_batch_size=8),
)


@pytest.fixture(scope="module")
def running(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    with pod(installation, tmp_path_factory.mktemp("load"), MODELS, POLICY) as running:
        running.demand("plain", "batching")
        eventually(lambda: running.ready() == {"plain", "batching"}, 20)
        eventually(lambda: running.get("/v1/signals")["load"] == 0, 30)
        yield running


async def ask(running: Pod, model: str, rate: float, seconds: float) -> list[float]:
    """Requests at regular times whatever becomes of them; the loads that were published in the
    second half of that time."""
    tensor = InferInput("X", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    loads: list[float] = []
    asked: set[asyncio.Task[None]] = set()

    async def one(client: InferenceServerClient) -> None:
        try:
            await client.infer(model, [tensor], client_timeout=60)
        except InferenceServerException:
            return

    async with InferenceServerClient(running.triton.grpc_url) as client:
        began_s = time.monotonic()
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, began_s + number / rate - time.monotonic()))
            asked.add(asyncio.create_task(one(client)))
            if number > rate * seconds / 2 and number % max(1, round(rate / 2)) == 0:
                signals = await asyncio.to_thread(running.get, "/v1/signals")
                loads.append(signals["load"])
        await asyncio.gather(*asked)
    return loads


async def test_load_is_what_is_offered_over_what_the_instances_can_do(running: Pod) -> None:
    loads = await ask(running, "plain", 16, 12)
    assert np.mean(loads) == pytest.approx(16 * COMPUTE_S / 2, rel=0.15)


async def test_load_says_by_how_much_arrivals_outrun_service(running: Pod) -> None:
    loads = await ask(running, "plain", 100, 6)
    assert np.mean(loads) == pytest.approx(100 * COMPUTE_S / 2, rel=0.2)


async def test_a_batch_counts_once(running: Pod) -> None:
    loads = await ask(running, "batching", 60, 10)
    assert np.mean(loads) < 60 * COMPUTE_S / 2


async def test_a_triton_that_is_gone_makes_the_load_unknown_and_not_zero(running: Pod) -> None:
    running.kill_triton()
    eventually(lambda: running.get("/v1/signals")["load"] is None, 10)
    assert "\nremora_load " not in running.get("/metrics")
