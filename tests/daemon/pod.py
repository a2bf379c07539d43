"""A pod as it runs in production: a real Triton, and the real sidecar as its own process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from daemon.journal import open_journal
from policies.journal import Tick, read
from simulations.testbed.envoy import EnvoyServer, find_envoy, written_bootstrap
from simulations.testbed.installation import Installation
from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.tritonserver import TritonServer, free_ports

QUICK = """\
preset: latency-first
tick: 200ms
budget: {budget}MiB
residency: {{minimum: 0s, cooldown: 0s}}
demand: {{fast: 5s, slow: 30s}}
"""


@dataclass
class Pod:
    """One Triton with its sidecar, and Envoy where asked for; all can be killed and started again.

    door_http, door_grpc: where clients go, host:port: Envoy, or without one the sidecar itself.
    """

    directory: Path
    triton: TritonServer
    port: int
    metrics_port: int
    activator: tuple[int, int]
    door_http: str = ""
    door_grpc: str = ""
    envoy: EnvoyServer | None = None
    sidecar: subprocess.Popen[bytes] | None = None
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def policy(self) -> Path:
        return self.directory / "policy.yaml"

    @property
    def log(self) -> str:
        return (self.directory / "remora.log").read_text()

    @property
    def triton_log(self) -> str:
        return (self.directory / "triton.log").read_text()

    def start_sidecar(self) -> None:
        """Starts it and waits until it has seen Triton."""
        self.launch_sidecar()
        eventually(lambda: self.get("/readyz") == "ok\n", 60)

    def launch_sidecar(self) -> None:
        environment = os.environ | {
            "REMORA_TRITON_GRPC": self.triton.grpc_url,
            "REMORA_TRITON_METRICS": f"http://127.0.0.1:{self.metrics_port}/metrics",
            "REMORA_METRICS_INTERVAL": "200ms",
            "REMORA_MODEL_REPOSITORY": str(self.directory / "repository"),
            "REMORA_POLICY": str(self.policy),
            "REMORA_STATE_DIRECTORY": str(self.directory / "state"),
            "REMORA_HTTP_PORT": str(self.port),
            "REMORA_TRITON_HTTP": self.triton.http_url,
            "REMORA_FRONT_DOOR_HTTP_PORT": str(self.activator[0]),
            "REMORA_FRONT_DOOR_GRPC_PORT": str(self.activator[1]),
            **self.settings,
        }
        with (self.directory / "remora.log").open("ab") as log:
            command = [sys.executable, "-m", "daemon.cli", "run"]
            self.sidecar = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def stop_sidecar(self, number: int = signal.SIGTERM) -> int:
        assert self.sidecar is not None
        self.sidecar.send_signal(number)
        return self.sidecar.wait(15)

    def kill_triton(self) -> None:
        kill_triton(self.triton, self.envoy)

    def get(self, path: str) -> Any:
        """The page, or None while nobody answers."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                body = answer.read().decode()
        except OSError:
            return None
        return json.loads(body) if body.startswith(("{", "[")) else body

    def post(self, body: Any, **headers: str) -> int:
        """Reports demand; the HTTP status."""
        given = {"Content-Type": "application/json"} | headers
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{self.port}/v1/demand", data, given)
        try:
            with urlopen(request, timeout=5) as answer:
                return int(answer.status)
        except HTTPError as error:
            with error:
                return error.code

    def demand(self, *models: str) -> None:
        for model in models:
            assert self.post({"model": model}) == 202

    def states(self) -> dict[str, str]:
        """Each model's state as Triton itself says; empty while it is away."""
        with InferenceServerClient(self.triton.grpc_url) as client:
            try:
                index = client.get_model_repository_index(client_timeout=5).models
            except InferenceServerException:
                return {}
        return {row.name: row.state or "UNLOADED" for row in index}

    def ready(self) -> set[str]:
        return {name for name, state in self.states().items() if state == "READY"}

    def unload_by_hand(self, model: str) -> None:
        """Somebody else's hand."""
        with InferenceServerClient(self.triton.grpc_url) as client:
            client.unload_model(model)

    def infer(self, model: str) -> str:
        """ "" when it answers, else what went wrong."""
        tensor = InferInput("X", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
        with InferenceServerClient(self.triton.grpc_url) as client:
            try:
                client.infer(model, [tensor], client_timeout=5)
            except InferenceServerException as error:
                return str(error)
        return ""

    def ticks(self) -> list[Tick]:
        return list(read(open_journal(self.directory / "state" / "journal")))

    def times_loaded(self, model: str) -> int:
        """How often Triton itself began to load ``model``."""
        return self.triton_log.count(f'"loading: {model}:')


@contextmanager
def pod(
    installation: Installation,
    directory: Path,
    specs: Sequence[ModelSpec],
    policy: str,
    *,
    envoy: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Pod]:
    """A running pod; ``settings`` are more of the sidecar's environment."""
    write_repository(directory / "repository", specs)
    (directory / "policy.yaml").write_text(policy)
    http, grpc, metrics, own, *activator = free_ports(6)
    triton = TritonServer.start(
        installation,
        directory / "repository",
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        log_path=directory / "triton.log",
        metrics_interval_ms=200,
    )
    with triton, ExitStack() as stack:
        triton.wait_live()
        running = Pod(directory, triton, own, metrics, (activator[0], activator[1]))
        running.settings = dict(settings or {})
        running.door_http, running.door_grpc = (f"127.0.0.1:{port}" for port in activator)
        try:
            running.start_sidecar()
            if envoy:
                stack.enter_context(_envoy(running))
            yield running
        finally:
            if running.sidecar and running.sidecar.poll() is None:
                running.sidecar.kill()
                running.sidecar.wait()
            # Asked politely, a Triton with a stuck unload would take half a minute to go.
            triton.kill()


@contextmanager
def _envoy(running: Pod) -> Iterator[None]:
    """The real Envoy in front, with the bootstrap that Remora writes for it."""
    http, grpc, admin = free_ports(3)
    bootstrap = written_bootstrap(
        host="127.0.0.1",
        http_port=http,
        grpc_port=grpc,
        admin_port=admin,
        triton_http=running.triton.http_url,
        triton_grpc=running.triton.grpc_url,
        door_http=running.door_http,
        door_grpc=running.door_grpc,
    )
    running.envoy = EnvoyServer.start(
        find_envoy(), bootstrap, log_path=running.directory / "envoy.log"
    )
    with running.envoy:
        running.envoy.wait_live()
        running.door_http, running.door_grpc = f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"
        yield


def kill_triton(triton: TritonServer, envoy: EnvoyServer | None) -> None:
    """SIGKILL; returns when Envoy has noticed, for what it sends over a connection that it still
    believes open counts as being executed."""
    triton.kill()
    if envoy is not None:
        eventually(lambda: not envoy.connections("triton_http"), 5)
        eventually(lambda: not envoy.connections("triton_grpc"), 5)


def eventually(holds: Callable[[], bool], within_s: float) -> None:
    """Waits until ``holds``; fails when that takes longer than ``within_s``."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s, f"not so within {within_s:g} s"
        time.sleep(0.05)
