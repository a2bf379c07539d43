"""The example repository under a real Triton and the sidecar, and the commands its page shows."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import InferenceServerClient, InferInput, model_config_pb2
from tritonclient.utils import InferenceServerException

from daemon.repository import Repository
from simulations.testbed.installation import Installation
from simulations.testbed.tritonserver import TritonServer, free_ports
from tests.daemon.pod import QUICK, Pod, eventually, pod

EXAMPLE = Path(__file__).parents[2] / "deploy" / "example-repository"
MIB = 2**20
SERVED = {
    "fraud_detector": (1, 3),
    "image_classifier": (3,),
    "sentiment_analysis": (1, 2, 3),
}
FRAUD, HONEST = [900, 3, 400, 6, 10, 1], [12, 14, 2, 0, 1500, 0]


def stripes() -> Any:
    """Black and white, four pixels each, one above the other."""
    return np.broadcast_to((np.arange(32) // 4 % 2)[:, None], (1, 3, 32, 32)).astype(np.float32)


INPUTS: dict[str, tuple[str, str, Any]] = {
    "fraud_detector": ("FEATURES", "FP32", np.array([FRAUD, HONEST], np.float32)),
    "image_classifier": ("IMAGE", "FP32", stripes()),
    "sentiment_analysis": (
        "TEXT",
        "BYTES",
        np.array([[b"What a lovely film!"], [b"The film was not good."]], np.object_),
    ),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("example") / "repository"
    command = [sys.executable, str(EXAMPLE / "write.py"), str(root)]
    subprocess.run(command, check=True, capture_output=True)
    return root


@pytest.fixture(scope="module")
def running(installation: Installation, written: Path) -> Iterator[Pod]:
    with pod(installation, written.parent, (), QUICK.format(budget=400)) as running:
        yield running


def over_http(address: str, path: str, body: Any = None) -> tuple[int, Any]:
    """The status, and what came; a GET without a body."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(f"http://{address}{path}", data), timeout=30) as answer:
            said = answer.read()
            return answer.status, json.loads(said) if said else None
    except HTTPError as error:
        with error:
            said = error.read()
            return error.code, json.loads(said) if said.startswith(b"{") else said.decode()


def infer_http(address: str, model: str, version: int) -> tuple[int, Any]:
    name, datatype, values = INPUTS[model]
    data = [each.decode() if isinstance(each, bytes) else float(each) for each in values.flat]
    tensor = {"name": name, "datatype": datatype, "shape": list(values.shape), "data": data}
    path = f"/v2/models/{model}/versions/{version}/infer"
    status, said = over_http(address, path, {"inputs": [tensor]})
    if status == 200:
        said = {output["name"]: output["data"] for output in said["outputs"]}
    return status, said


def infer_grpc(address: str, model: str, version: int) -> dict[str, Any]:
    name, datatype, values = INPUTS[model]
    tensor = InferInput(name, values.shape, datatype)
    tensor.set_data_from_numpy(values)
    with InferenceServerClient(address) as client:
        said = client.infer(model, [tensor], model_version=str(version), client_timeout=30)
        return {
            output.name: said.as_numpy(output.name).ravel().tolist()
            for output in said.get_response().outputs
        }


@pytest.mark.parametrize(
    ("model", "version"), [(model, v) for model, served in SERVED.items() for v in served]
)
def test_every_served_version_answers_alike_over_http_and_grpc(
    model: str, version: int, running: Pod
) -> None:
    """By the sidecar's door, where a request for an absent model has it loaded."""
    status, said = infer_http(running.door_http, model, version)
    assert status == 200, said
    also = infer_grpc(running.door_grpc, model, version)
    assert said.keys() == also.keys()
    for name, values in said.items():
        if isinstance(values[0], str):
            assert [value.encode() for value in values] == also[name]
        else:
            assert values == pytest.approx(also[name])
    assert model in running.ready()


def test_the_newest_versions_know_what_they_are_for(running: Pod) -> None:
    fraud, honest = infer_grpc(running.door_grpc, "fraud_detector", 3)["PROBABILITY"]
    assert fraud > 0.9
    assert honest < 0.1
    labels = [
        infer_grpc(running.door_grpc, "sentiment_analysis", version)["LABEL"] for version in (1, 3)
    ]
    # Version 1 knows words alone, and takes "not good" for good.
    assert labels == [[b"positive", b"positive"], [b"positive", b"negative"]]
    kinds = (EXAMPLE / "image_classifier" / "labels.txt").read_text().split()
    scores = infer_grpc(running.door_grpc, "image_classifier", 3)["SCORES"]
    assert kinds[int(np.argmax(scores))] == "stripes_across"


@pytest.mark.parametrize(
    ("model", "version"),
    [("fraud_detector", 2), ("image_classifier", 1), ("image_classifier", 2)],
)
def test_a_version_that_the_policy_leaves_out_is_not_served(
    model: str, version: int, running: Pod
) -> None:
    assert infer_http(running.door_http, model, max(SERVED[model]))[0] == 200
    assert infer_http(running.triton.http_url, model, version)[0] == 404


def test_idle_models_are_unloaded_and_come_back(running: Pod) -> None:
    for model, versions in SERVED.items():
        assert infer_http(running.door_http, model, versions[-1])[0] == 200
    assert running.ready() == set(SERVED)
    running.policy.write_text(running.policy.read_text() + "models: {'*': {idle_unload: 1s}}\n")
    try:
        eventually(lambda: not running.ready(), 30)
    finally:
        running.policy.write_text(QUICK.format(budget=400))
    assert infer_http(running.door_http, "fraud_detector", 3)[0] == 200
    assert "fraud_detector" in running.ready()


def test_the_hints_are_what_the_models_take(running: Pod, written: Path) -> None:
    for model, versions in SERVED.items():
        assert infer_http(running.door_http, model, versions[-1])[0] == 200
    hints = {name: found.hint_bytes for name, found in Repository(written).survey().items()}
    taken = running.triton.resident_bytes()
    for model in SERVED:
        hint_bytes = hints[model]
        assert hint_bytes is not None
        assert 0.5 * hint_bytes < taken[model] < 1.2 * hint_bytes


# --- the page's commands, straight at Triton -----------------------------------------------------


@pytest.fixture(scope="module")
def limited(installation: Installation, written: Path) -> Iterator[TritonServer]:
    """Without a sidecar, and with the rate limiter at work."""
    http, grpc, metrics = free_ports(3)
    with TritonServer.start(
        installation,
        written,
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        log_path=written.parent / "limited.log",
        extra_args=("--rate-limit=execution_count",),
    ) as server:
        server.wait_live()
        yield server


def test_paths_that_triton_does_not_have(limited: TritonServer) -> None:
    assert over_http(limited.http_url, "/v2/models")[0] == 404
    assert over_http(limited.http_url, "/v2/repository/models/fraud_detector")[0] == 404


def test_the_paths_it_has_instead(limited: TritonServer) -> None:
    def at(path: str, body: Any = None) -> tuple[int, Any]:
        return over_http(limited.http_url, path, body)

    assert at("/v2/repository/index", {}) == (200, [{"name": name} for name in SERVED])
    assert at("/v2/repository/models/fraud_detector/load", {}) == (200, None)
    status, ready = at("/v2/repository/index", {"ready": True})
    assert status == 200
    assert [(row["version"], row["state"]) for row in ready] == [("1", "READY"), ("3", "READY")]
    assert at("/v2/models/fraud_detector/ready")[0] == 200
    assert at("/v2/models/fraud_detector/versions/3/ready")[0] == 200
    config = at("/v2/models/fraud_detector/config")[1]
    assert config["version_policy"]["specific"]["versions"] == [1, 3]
    assert at("/v2/models/fraud_detector")[1]["versions"] == ["1", "3"]
    assert infer_http(limited.http_url, "fraud_detector", 1)[0] == 200
    stats = at("/v2/models/fraud_detector/versions/1/stats")[1]["model_stats"]
    assert [row["inference_count"] for row in stats] == [2]
    assert at("/v2/repository/models/fraud_detector/unload", {}) == (200, None)
    eventually(lambda: at("/v2/models/fraud_detector/ready")[0] == 400, 10)


def test_a_client_may_not_load_by_the_door(running: Pod) -> None:
    path = "/v2/repository/models/fraud_detector/load"
    assert over_http(running.door_http, path, {})[0] == 403


@pytest.fixture
def another(written: Path) -> Iterator[Path]:
    """One more model, the fraud detector's first version by another name."""
    folder = written / "another"
    folder.mkdir()
    shutil.copytree(written / "fraud_detector" / "1", folder / "1")
    config = (written / "fraud_detector" / "config.pbtxt").read_text()
    config = config.replace("fraud_detector", folder.name).replace("[ 1, 3 ]", "[ 1 ]")
    (folder / "config.pbtxt").write_text(config)
    yield folder
    shutil.rmtree(folder)


def test_a_rate_limiter_is_legal_in_a_group_alone(limited: TritonServer, another: Path) -> None:
    with InferenceServerClient(limited.grpc_url) as client:
        client.load_model(another.name)
        client.unload_model(another.name)
        with (another / "config.pbtxt").open("a") as config:
            config.write("rate_limiter { priority: 1 }\n")
        with pytest.raises(InferenceServerException, match="failed to poll from model repository"):
            client.load_model(another.name)
    log = (another.parents[1] / "limited.log").read_text()
    assert 'no field named "rate_limiter"' in log


def parsed(file: Path) -> Any:
    """Triton's own reading: an unknown field is an error."""
    return text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())


@pytest.mark.parametrize("model", SERVED)
def test_the_gpu_variant_differs_in_where_instances_run_alone(model: str) -> None:
    cpu = parsed(EXAMPLE / model / "config.pbtxt")
    gpu = parsed(EXAMPLE / model / "configs" / "gpu.pbtxt")
    kinds = model_config_pb2.ModelInstanceGroup
    assert {group.kind for group in cpu.instance_group} == {kinds.KIND_CPU}
    assert {group.kind for group in gpu.instance_group} == {kinds.KIND_GPU}
    for config in (cpu, gpu):
        for group in config.instance_group:
            group.kind = kinds.KIND_AUTO
            for resource in group.rate_limiter.resources:
                resource.name = ""
    assert cpu == gpu


def test_triton_takes_the_gpu_variant_when_it_is_told_to(
    installation: Installation, written: Path
) -> None:
    http, grpc, metrics = free_ports(3)
    with (
        TritonServer.start(
            installation,
            written,
            http_port=http,
            grpc_port=grpc,
            metrics_port=metrics,
            log_path=written.parent / "gpu.log",
            extra_args=("--model-config-name=gpu",),
        ) as server,
        InferenceServerClient(server.grpc_url) as client,
    ):
        server.wait_live()
        try:
            client.load_model("fraud_detector")
        except InferenceServerException as error:
            said = str(error)
        else:
            said = str(client.get_model_config("fraud_detector"))
    # With no GPU in the machine that is why the load fails.
    assert "KIND_GPU" in said
