"""One real Triton for the tests of the daemon's edges; each finds it with nothing loaded."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from daemon.triton import Triton
from simulations.testbed.installation import Installation, find
from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.tritonserver import TritonServer, free_ports
from tests.daemon.pod import eventually

MODELS = (
    ModelSpec("plain", 20, load_s=0.2, compute_ms=2),
    ModelSpec("unbatched", 20, load_s=0.2, compute_ms=2, max_batch_size=0),
    ModelSpec("slow", 20, load_s=1.5, compute_ms=2),
    ModelSpec("failing", 20, load_s=0.2, compute_ms=2, fails="initialize"),
    ModelSpec("unparsable", 20, load_s=0.2, compute_ms=2, fails="config"),
    ModelSpec("caller", 20, load_s=0.2, compute_ms=2, calls=("plain",)),
    ModelSpec("chain", 0, load_s=0, compute_ms=0, steps=("plain", "unbatched")),
)


@pytest.fixture(scope="session")
def installation() -> Installation:
    return find()


@pytest.fixture(scope="session")
def ports() -> tuple[int, int, int]:
    """For HTTP, gRPC and metrics."""
    http_port, grpc_port, metrics_port = free_ports(3)
    return http_port, grpc_port, metrics_port


@pytest.fixture(scope="session")
def repository_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    write_repository(root, MODELS)
    for junk in (".git", "lost+found"):
        (root / junk).mkdir()
    return root


@pytest.fixture(scope="session")
def session_server(
    installation: Installation,
    ports: tuple[int, int, int],
    repository_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TritonServer]:
    """Use `server` instead: what one test leaves behind must not meet the next."""
    http_port, grpc_port, metrics_port = ports
    with TritonServer.start(
        installation,
        repository_root,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        log_path=tmp_path_factory.mktemp("log") / "triton.log",
        metrics_interval_ms=200,
    ) as server:
        server.wait_live()
        yield server


@pytest.fixture
def server(session_server: TritonServer) -> Iterator[TritonServer]:
    """The shared server, with nothing loaded; tests may load, kill and restart as they like."""
    _unload_everything(session_server)
    yield session_server
    _unload_everything(session_server)


@pytest.fixture
def metrics_url(ports: tuple[int, int, int]) -> str:
    return f"http://127.0.0.1:{ports[2]}/metrics"


@pytest.fixture
async def triton(server: TritonServer) -> AsyncIterator[Triton]:
    client = Triton(server.grpc_url)
    yield client
    await client.close()


def _unload_everything(server: TritonServer) -> None:
    if not server.is_running or _has_dead_stub(server):
        # An unload of a model whose stub has died may never end, so neither would a SIGTERM.
        server.kill()
        server.restart()
        server.wait_live()
        return
    with InferenceServerClient(server.grpc_url) as client:
        eventually(lambda: not _moving(client), 10)
        # The statistics know of those too whose folder a test has removed.
        for row in client.get_inference_statistics(client_timeout=5).model_stats:
            client.unload_model(row.name, client_timeout=5)
        eventually(lambda: not _moving(client) and not server.stub_pids(), 10)


def _has_dead_stub(server: TritonServer) -> bool:
    with InferenceServerClient(server.grpc_url) as client:
        loaded = client.get_inference_statistics(client_timeout=5).model_stats
    # Every model here but the ensemble has a stub.
    return not {row.name for row in loaded} - {"chain"} <= set(server.stub_pids())


def _moving(client: InferenceServerClient) -> bool:
    index = client.get_model_repository_index(client_timeout=5)
    return any(row.state in ("LOADING", "UNLOADING") for row in index.models)
