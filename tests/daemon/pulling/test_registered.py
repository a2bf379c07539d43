"""Models that come from an MLflow registry, from a real server and from one that means harm."""

import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from daemon.pulling.bringing import Bringing, WithConfig
from daemon.pulling.offers import PullError, Refused, Unreachable
from daemon.pulling.placing import repository
from daemon.pulling.registered import Registered
from tests.daemon.pulling.folders import CONFIG, contents, stamps, write
from tests.daemon.pulling.servers import Bucket, MLflow
from tests.daemon.pulling.test_bucket import put

# As mlflow.onnx.log_model lays it out, the model itself apart.
ONNX = {
    "MLmodel": "flavors:\n  onnx:\n    data: model.onnx\n    onnx_version: 1.23.2\n",
    "conda.yaml": "name: mlflow-env\n",
    "model.onnx": "the graph",
    "python_env.yaml": "python: 3.11.7\n",
    "requirements.txt": "onnx==1.23.2\n",
}
PYTHON = {"config.pbtxt": CONFIG, "model.py": "class TritonPythonModel: ...", "parts/weights": "w"}


class Registry:
    """One registered model of the server, under a name of its own."""

    def __init__(self, server: MLflow, directory: Path) -> None:
        from mlflow import MlflowClient

        self.name = f"fraud {uuid.uuid4().hex}"
        self._directory = directory
        self._client = MlflowClient(server.url, server.url)
        self._client.create_registered_model(self.name)

    def publish(self, files: Mapping[str, str], source: str = "") -> str:
        """The number of a new version with these files, or with what is at ``source``."""
        run = self._client.create_run("0")
        folder = write(self._directory / run.info.run_id, files) if files else self._directory
        if not source:
            self._client.log_artifacts(run.info.run_id, str(folder), "model")
            source = f"{run.info.artifact_uri}/model"
        version = self._client.create_model_version(self.name, source, run.info.run_id)
        return str(version.version)

    def alias(self, alias: str, version: str) -> None:
        self._client.set_registered_model_alias(self.name, alias, version)

    def stage(self, stage: str, version: str) -> None:
        with pytest.warns(FutureWarning):
            self._client.transition_model_version_stage(self.name, version, stage)


@pytest.fixture
def registry(mlflow: MLflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
    return Registry(mlflow, tmp_path / "published")


def pull(uri: str, root: Path, *, keep: int = 2, config: Path | None = None) -> list[str]:
    said: list[str] = []
    source = Registered(uri) if config is None else WithConfig(Registered(uri), config)
    with repository(root, said.append) as place:
        Bringing("fraud", source, keep, place, said.append).bring()
    return said


def test_a_version_becomes_the_folder_of_its_number(registry: Registry, root: Path) -> None:
    registry.publish(ONNX)
    version = registry.publish(PYTHON)
    registry.alias("champion", version)
    pull(f"models:/{registry.name}@champion", root)
    brought = {f"fraud/2/{path}": text for path, text in PYTHON.items()}
    assert contents(root) == {"fraud/config.pbtxt": CONFIG} | brought
    before = stamps(root)
    assert pull(f"models:/{registry.name}@champion", root) == ["fraud: unchanged, with version 2"]
    assert stamps(root) == before


def test_an_alias_that_moves_brings_the_next_version_and_one_that_goes_back_removes_it(
    registry: Registry, root: Path
) -> None:
    uri = f"models:/{registry.name}@champion"
    held = []
    for number in ("1", "2", "3"):
        version = registry.publish({"model.py": number, "config.pbtxt": CONFIG + f"# {number}\n"})
        registry.alias("champion", version)
        pull(uri, root)
        held.append({path.name for path in (root / "fraud").iterdir() if path.is_dir()})
    assert held == [{"1"}, {"1", "2"}, {"2", "3"}]
    registry.alias("champion", "2")
    pull(uri, root)
    assert contents(root)["fraud/config.pbtxt"] == CONFIG + "# 2\n"
    assert {path.name for path in (root / "fraud").iterdir() if path.is_dir()} == {"2"}


def test_stages_and_numbers_name_versions_too(registry: Registry, root: Path) -> None:
    for number in ("1", "2"):
        registry.publish({"model.py": number})
    registry.stage("Production", "1")
    pull(f"models:/{registry.name}/Production", root)
    assert contents(root) == {"fraud/1/model.py": "1"}
    pull(f"models:/{registry.name}/2", root)
    assert contents(root) == {"fraud/1/model.py": "1", "fraud/2/model.py": "2"}


def test_an_onnx_model_as_mlflow_logs_it_is_a_version_for_triton(
    registry: Registry, root: Path, tmp_path: Path
) -> None:
    write(tmp_path, {"onnx.pbtxt": 'backend: "onnxruntime"\n'})
    registry.publish(ONNX)
    pull(f"models:/{registry.name}/1", root, config=tmp_path / "onnx.pbtxt")
    brought = {f"fraud/1/{path}": text for path, text in ONNX.items()}
    assert contents(root) == {"fraud/config.pbtxt": 'backend: "onnxruntime"\n'} | brought


def test_artifacts_in_a_bucket_are_read_there(
    registry: Registry, bucket: Bucket, root: Path
) -> None:
    name = put({f"artifacts/7/{path}": text for path, text in PYTHON.items()})
    registry.publish({}, f"s3://{name}/artifacts/7")
    pull(f"models:/{registry.name}/1", root)
    brought = {f"fraud/1/{path}": text for path, text in PYTHON.items()}
    assert contents(root) == {"fraud/config.pbtxt": CONFIG} | brought


def test_artifacts_that_triton_has_no_use_for_are_refused(registry: Registry, root: Path) -> None:
    registry.publish({"MLmodel": "flavors: {sklearn: {}}", "model.pkl": "pickled"})
    with pytest.raises(Refused, match=r"holds MLmodel, model\.pkl; allowed: one of model\.py, "):
        pull(f"models:/{registry.name}/1", root)
    assert contents(root) == {}


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("@nobody", "alias nobody not found"),
        ("/5", "version=5"),
        ("/Staging", "no version has the stage Staging"),
    ],
)
def test_what_the_registry_does_not_have_is_told(
    which: str, message: str, registry: Registry, root: Path
) -> None:
    registry.publish(PYTHON)
    with pytest.raises(Unreachable, match=message):
        pull(f"models:/{registry.name}{which}", root)


# --- a registry that means harm ------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "version": "1",
    "place": "mlflow-artifacts:/0/run/artifacts/model",
    "files": [{"path": "model.py", "is_dir": False, "file_size": 3}],
    "body": "one",
}


@contextmanager
def hostile(answers: Mapping[str, Any]) -> Iterator[str]:
    """The address of a server that says what ``answers`` say, and what GOOD says otherwise."""
    says = {**GOOD, **answers}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            entry = {"name": "m", "version": says["version"], "status": "READY"}
            path = self.path.partition("?")[0]
            if path.endswith(("/alias", "/model-versions/get")):
                body = json.dumps({"model_version": entry})
            elif path.endswith("/registered-models/get"):
                body = json.dumps({"registered_model": {"name": "m"}})
            elif path.endswith("/get-download-uri"):
                body = json.dumps({"artifact_uri": says["place"]})
            elif path.endswith("/mlflow-artifacts/artifacts"):
                # Below a file there is nothing, as MLflow's client asks before it downloads.
                below = "model.py" in self.path
                body = json.dumps({"files": [] if below else says["files"]})
            else:
                body = says["body"]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def offering(*paths: str, is_dir: bool = False) -> dict[str, Any]:
    evil = [{"path": path, "is_dir": is_dir, "file_size": 3} for path in paths]
    return {"files": [*GOOD["files"], *evil]}


NO_WAY = "allowed: a path downwards, of plain names"
NO_PLACE = "allowed: mlflow-artifacts:/PATH or s3://BUCKET"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"version": "../../etc"}, "allowed: a number above 0"),
        ({"version": "01"}, "allowed: a number above 0"),
        ({"version": "-1"}, "allowed: a number above 0"),
        ({"place": "file:///etc"}, NO_PLACE),
        ({"place": "/etc"}, NO_PLACE),
        ({"place": "http://169.254.169.254/latest"}, NO_PLACE),
        ({"place": "mlflow-artifacts://elsewhere:80/0"}, NO_PLACE),
        ({"place": "dbfs:/0"}, NO_PLACE),
        # These MLflow's own client refuses before we do.
        (offering("../evil"), "Invalid"),
        (offering("/etc/evil"), "Invalid"),
        (offering("a/../../evil"), "Invalid"),
        (offering(".remora.json"), NO_WAY),
        (offering("for-ever", is_dir=True), "folders deep; allowed: up to 32"),
        (offering("/".join("evil" for _ in range(40))), "folders deep; allowed: up to 32"),
        ({"body": "on"}, "2 bytes came, of 3"),
        ({"body": "more than one"}, "13 bytes came, of 3"),
    ],
)
def test_a_registry_that_means_harm_writes_nothing(
    answers: Mapping[str, Any],
    message: str,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with hostile(answers) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(PullError, match=message):
            pull("models:/m@champion", root)
    assert contents(tmp_path) == {}


def test_the_same_server_with_nothing_wrong_is_believed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hostile({}) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        pull("models:/m@champion", root)
    assert contents(root) == {"fraud/1/model.py": "one"}
