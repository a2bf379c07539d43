"""From a real registry to a real Triton, which serves what was pulled and nothing else."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from tritonclient.grpc import InferenceServerClient, InferInput

from daemon.pulling.bringing import Bringing
from daemon.pulling.folders import Folder
from daemon.pulling.placing import STAGING, repository
from daemon.repository import Repository
from daemon.triton import Triton
from simulations.testbed.installation import Installation
from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.tritonserver import TritonServer
from tests.daemon.pod import QUICK, eventually, pod
from tests.daemon.pulling.servers import MLflow
from tests.daemon.pulling.test_registered import Registry

MODEL = ModelSpec("pulled", 20, load_s=0.2, compute_ms=1)


def answer(server: TritonServer, version: str = "") -> float:
    tensor = InferInput("X", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    with InferenceServerClient(server.grpc_url) as client:
        said = client.infer(MODEL.name, [tensor], model_version=version, client_timeout=10)
    return float(said.as_numpy("Y")[0, 0])


def index(server: TritonServer) -> set[str]:
    with InferenceServerClient(server.grpc_url) as client:
        return {row.name for row in client.get_model_repository_index(client_timeout=5).models}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A model of the python backend as somebody logs it: its configuration beside its code."""
    write_repository(tmp_path, [MODEL])
    folder = tmp_path / MODEL.name
    shutil.move(folder / "config.pbtxt", folder / "1" / "config.pbtxt")
    return folder / "1"


@pytest.fixture
def registry(mlflow: MLflow, artifact: Path) -> Registry:
    return Registry(mlflow, artifact)


@pytest.fixture
def filled(repository_root: Path) -> Iterator[Path]:
    yield repository_root
    shutil.rmtree(repository_root / MODEL.name, ignore_errors=True)


def pull(registry: Registry, mlflow: MLflow, root: Path, directory: Path) -> str:
    file = directory / "registry.yaml"
    entry = {"model": MODEL.name, "from": f"models:/{registry.name}@champion"}
    file.write_text(yaml.safe_dump({"registry": [entry]}))
    ended = subprocess.run(
        [sys.executable, "-m", "daemon.cli", "pull", file, "--model-repository", root],
        env={**os.environ, "MLFLOW_TRACKING_URI": mlflow.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


async def test_what_was_pulled_is_served_and_a_pull_without_news_makes_triton_load_nothing(
    server: TritonServer,
    triton: Triton,
    registry: Registry,
    mlflow: MLflow,
    filled: Path,
    tmp_path: Path,
) -> None:
    registry.alias("champion", registry.publish({}))
    assert "pulled: version 1 brought, 20.01 MiB, from " in pull(registry, mlflow, filled, tmp_path)
    await triton.load(MODEL.name, 10)
    assert answer(server) == 2
    # The first load wrote bytecode beside the code, so this one is a full one.
    await triton.load(MODEL.name, 10)
    eventually(lambda: len(server.stub_pids()[MODEL.name]) == 1, 10)
    stubs, revision = (
        server.stub_pids()[MODEL.name],
        Repository(filled).survey()[MODEL.name].revision,
    )

    assert pull(registry, mlflow, filled, tmp_path) == "pulled: unchanged, with version 1\n"
    await triton.load(MODEL.name, 10)
    assert server.stub_pids()[MODEL.name] == stubs
    assert Repository(filled).survey()[MODEL.name].revision == revision

    registry.alias("champion", registry.publish({}))
    assert "pulled: version 2 brought" in pull(registry, mlflow, filled, tmp_path)
    assert answer(server) == 2
    await triton.load(MODEL.name, 10)
    assert answer(server) == 3
    assert STAGING not in index(server)

    registry.alias("champion", "1")
    assert "pulled: version 2 removed" in pull(registry, mlflow, filled, tmp_path)
    await triton.load(MODEL.name, 10)
    assert answer(server) == 2


async def test_while_a_pull_is_at_work_triton_loads_what_is_there(
    server: TritonServer, triton: Triton, filled: Path
) -> None:
    with repository(filled, print) as place:
        (place.scratch() / "half").mkdir()
        assert STAGING in index(server)
        assert STAGING not in await triton.observe(5)
        assert STAGING not in Repository(filled).survey()
        await triton.load("plain", 10)
        await triton.unload("plain", 10)
    assert STAGING not in index(server)


def test_under_the_sidecar_a_version_that_was_pulled_comes_in_and_goes_back_by_itself(
    installation: Installation, tmp_path: Path
) -> None:
    write_repository(tmp_path / "source", [MODEL])
    source, models = tmp_path / "source" / MODEL.name, tmp_path / "pod" / "repository"
    models.mkdir(parents=True)

    def pulled() -> None:
        with repository(models, print) as place:
            Bringing(MODEL.name, Folder(str(source), 2), 2, place, print).bring()

    pulled()
    policy = QUICK.format(budget=400) + "versions: {settle: 0s}\n"
    with pod(installation, tmp_path / "pod", (), policy) as running:
        running.demand(MODEL.name)
        eventually(lambda: running.ready() == {MODEL.name}, 20)
        assert answer(running.triton) == 2
        shutil.copytree(source / "1", source / "2")
        pulled()
        eventually(lambda: answer(running.triton) == 3, 20)
        shutil.rmtree(source / "2")
        pulled()
        eventually(lambda: answer(running.triton) == 2, 20)
