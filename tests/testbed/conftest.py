"""A real Triton for this folder: installed once, and one server that most tests share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from tritonclient.grpc.aio import InferenceServerClient

from simulations.testbed.repository import ModelSpec
from simulations.testbed.tritonserver import Installation, TritonServer, find
from tests.testbed.started import started

MODELS = (
    ModelSpec("small", 60, load_s=0.5, compute_ms=2, hint=True),
    ModelSpec("large", 250, load_s=1.5, compute_ms=40),
    ModelSpec("pair", 60, load_s=0.5, compute_ms=2, instances=2),
    ModelSpec("single", 30, load_s=0.4, compute_ms=1, max_batch_size=0),
    ModelSpec("broken", 30, load_s=0.4, compute_ms=1, fails="initialize"),
    ModelSpec("unparsable", 30, load_s=0.4, compute_ms=1, fails="config"),
    ModelSpec("caller", 30, load_s=0.4, compute_ms=1, calls=("small", "pair")),
    ModelSpec("chain", 0, load_s=0, compute_ms=0, steps=("small", "pair", "small")),
)


@pytest.fixture(scope="session")
def installation() -> Installation:
    return find()


@pytest.fixture(scope="session")
def server(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    with started(installation, tmp_path_factory.mktemp("triton"), MODELS) as server:
        server.wait_live()
        yield server


@pytest.fixture
async def client(server: TritonServer) -> AsyncIterator[InferenceServerClient]:
    """A client of the shared server, which is left as it was found: with nothing loaded."""
    async with InferenceServerClient(server.grpc_url) as client:
        yield client
        for loaded in (await client.get_model_repository_index()).models:
            if loaded.state == "READY":
                await client.unload_model(loaded.name)
        # An unload returns at once. A load that comes before its end starts a second copy beside
        # the first, and then the next test would see a model of twice its size.
        await asyncio.to_thread(_wait_until_nothing_is_left, server)


def _wait_until_nothing_is_left(server: TritonServer, timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while left := server.stub_pids():
        assert time.monotonic() < deadline_s, f"still there after {timeout_s:g} s: {left}"
        time.sleep(0.02)
