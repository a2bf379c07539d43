"""Envoy's surroundings for its tests: Triton and a stand-in activator behind it, clients before.

Owns how they are started, killed and asked. Refuses to know what ought to come of it.
"""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import Message
from tritonclient.grpc import InferenceServerClient, service_pb2

from simulations.testbed.envoy import EnvoyServer, find_envoy, written_bootstrap
from simulations.testbed.tritonserver import TritonServer, free_ports
from tests.daemon.pod import eventually

ROOT = Path(__file__).resolve().parents[3]
SERVICE = "/inference.GRPCInferenceService/"


@dataclass(frozen=True)
class Answer:
    """`status` is the HTTP status, or the name of the gRPC code."""

    status: int | str
    attempts: int
    body: bytes
    headers: dict[str, str] = field(repr=False)


class Front:
    """Envoy with a Triton and a stand-in activator behind it, and a client of both protocols."""

    def __init__(self, folder: Path, triton: TritonServer, ports: list[int]) -> None:
        self.folder = folder
        self.triton = triton
        self.http_port, self.grpc_port, self.admin_port, self.door_http, self.door_grpc = ports
        self.door: subprocess.Popen[bytes] | None = None
        self.envoy: EnvoyServer
        self.session: aiohttp.ClientSession
        self.channel: grpc.aio.Channel

    def bootstrap(self, *words: str) -> str:
        """For our ports; `words` come last, and so override."""
        return written_bootstrap(
            *words,
            host="127.0.0.1",
            http_port=self.http_port,
            grpc_port=self.grpc_port,
            admin_port=self.admin_port,
            triton_http=self.triton.http_url,
            triton_grpc=self.triton.grpc_url,
            door_http=f"127.0.0.1:{self.door_http}",
            door_grpc=f"127.0.0.1:{self.door_grpc}",
        )

    def start_door(self) -> None:
        module = "tests.daemon.frontdoor.activator_double"
        ports = (str(self.door_http), str(self.door_grpc))
        command = [sys.executable, "-m", module, str(self.folder), *ports, self.triton.grpc_url]
        with (self.folder / "door.log").open("ab") as log:
            self.door = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        eventually(lambda: _listens(self.door_http) and _listens(self.door_grpc), 15)

    def kill_door(self) -> None:
        assert self.door is not None
        self.door.kill()
        self.door.wait()

    @contextmanager
    def sign(self, name: str) -> Iterator[None]:
        """Tells the stand-in to `hold` or to be `eager`."""
        (self.folder / name).touch()
        try:
            yield
        finally:
            (self.folder / name).unlink()

    def seen(self, protocol: str, model: str = "") -> list[dict[str, str]]:
        """The headers of what the stand-in was asked; `model` counts for HTTP only."""
        journal = self.folder / "seen.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        asked = [json.loads(line) for line in lines]
        return [
            {key.lower(): value for key, value in each["headers"].items()}
            for each in asked
            if each["protocol"] == protocol and f"/{model}" in each["path"]
        ]

    async def http(
        self,
        path: str,
        body: bytes | str = "{}",
        *,
        headers: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> Answer:
        url = f"http://127.0.0.1:{port or self.http_port}{path}"
        # aiohttp warns of large bodies that are not files.
        data = io.BytesIO(body.encode() if isinstance(body, str) else body)
        async with self.session.post(url, data=data, headers=headers) as answer:
            back = {name.lower(): value for name, value in answer.headers.items()}
            attempts = int(back.get("x-envoy-attempt-count", 0))
            return Answer(answer.status, attempts, await answer.read(), back)

    async def infer_http(
        self, model: str, rows: int = 1, headers: Mapping[str, str] | None = None
    ) -> Answer:
        return await self.http(f"/v2/models/{model}/infer", tensor(rows), headers=headers)

    async def grpc(
        self, method: str, request: Message, metadata: Mapping[str, str] | None = None
    ) -> Answer:
        call = self.channel.unary_unary(
            SERVICE + method, request_serializer=None, response_deserializer=None
        )(request.SerializeToString(), metadata=grpc.aio.Metadata(*(metadata or {}).items()))
        try:
            body = bytes(await call)
        except grpc.aio.AioRpcError:
            body = str(await call.details()).encode()
        told = [*(await call.initial_metadata() or ()), *(await call.trailing_metadata() or ())]
        headers = {str(key): str(value) for key, value in told}
        attempts = int(headers.get("x-envoy-attempt-count", 0))
        return Answer((await call.code()).name, attempts, body, headers)

    async def infer_grpc(
        self,
        model: str,
        rows: int = 1,
        *,
        version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Answer:
        request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
        request.inputs.add(name="X", datatype="FP32", shape=[rows, 1])
        request.raw_input_contents.append(np.ones(rows, np.float32).tobytes())
        return await self.grpc("ModelInfer", request, metadata)

    def load_by_hand(self, model: str) -> None:
        with InferenceServerClient(self.triton.grpc_url) as client:
            client.load_model(model)

    def unload_by_hand(self, model: str) -> None:
        """Somebody else's hand; returns when it is gone."""
        with InferenceServerClient(self.triton.grpc_url) as client:
            client.unload_model(model)
            eventually(lambda: not client.is_model_ready(model), 10)
            eventually(lambda: model not in self.triton.stub_pids(), 10)

    def times_loaded(self, model: str) -> int:
        return (self.folder / "triton.log").read_text().count(f'"loading: {model}:')


def tensor(rows: int) -> str:
    data = {"name": "X", "shape": [rows, 1], "datatype": "FP32", "data": [2.0] * rows}
    return json.dumps({"inputs": [data]})


def _listens(port: int) -> bool:
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def envoy(front: Front, name: str, *words: str) -> Iterator[EnvoyServer]:
    text = front.bootstrap(*words)
    with EnvoyServer.start(find_envoy(), text, log_path=front.folder / f"{name}.log") as server:
        server.wait_live()
        yield server


@contextmanager
def second_envoy(
    front: Front, name: str, *words: str, retries: int = 200
) -> Iterator[tuple[int, EnvoyServer]]:
    """Another Envoy before the same Triton, and its HTTP port."""
    http_port, grpc_port, admin_port = free_ports(3)
    ports = ("--http-port", str(http_port), "--grpc-port", str(grpc_port))
    text = front.bootstrap(*ports, "--admin-port", str(admin_port), *words)
    text = text.replace("num_retries: 200", f"num_retries: {retries}")
    with EnvoyServer.start(find_envoy(), text, log_path=front.folder / f"{name}.log") as server:
        server.wait_live()
        yield http_port, server


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key, both of this moment."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(
        [
            *words,
            *("-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key
