"""Pods that only say who they are: what reaches them is counted, and nothing is executed.

One grpc server or HTTP server each, for a Python server speaks one of the two. The gateway's own
Envoy is real.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import yaml

from simulations.testbed.envoy import EnvoyServer, find_envoy
from simulations.testbed.tritonserver import free_ports
from tests.daemon.gateway.names import NAME, Names, names
from tests.daemon.gateway.written import written_gateway
from tests.daemon.pod import eventually

SERVICE = "/inference.GRPCInferenceService/"


@dataclass
class Door:
    """What a double does with a request, and what has come.

    released: cleared, it keeps HTTP requests waiting.
    conduct: "answer"; "elsewhere": says that it has executed nothing and will not; "break": reads
        the request and breaks the connection, as a server that dies while it executes.
    """

    conduct: str = "answer"
    seen: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.released.set()


@dataclass
class Front:
    """A gateway before doubles. places: what it knows each of them by."""

    gateway: EnvoyServer
    address: str
    doors: list[Door]
    places: list[str]
    protocol: str
    names: Names | None = None

    def tell(self, pods: Sequence[int]) -> None:
        """Changes which pods the gateway finds by their name; returns when it has."""
        assert self.names is not None, "these pods have no name in common"
        self.names.addresses = [self.places[at].rpartition(":")[0] for at in pods]
        total = "cluster.pods.membership_total"
        eventually(lambda: self.gateway.counters(total).get(total, 0) == len(pods), 10)

    def http(self, path: str, body: bytes = b"{}", **headers: str) -> tuple[int, str, bytes]:
        """Status, the pod that answered, and what it said."""
        connection = HTTPConnection(self.address, timeout=20)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("x-pod") or "", answer.read()
        finally:
            connection.close()

    def grpc(self, method: str, message: bytes, **metadata: str) -> str:
        """The pod that answered."""
        options = [("grpc.max_send_message_length", -1)]
        given = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
        with grpc.insecure_channel(self.address, options) as channel:
            call = channel.unary_unary(SERVICE + method, None, None)
            return bytes(call(message, timeout=20, metadata=given)).decode()

    def stream(self, *messages: bytes) -> str:
        with grpc.insecure_channel(self.address) as channel:
            call = channel.stream_stream(f"{SERVICE}ModelStreamInfer", None, None)
            (answer,) = set(call(iter(messages), timeout=20))
            return bytes(answer).decode()


@contextmanager
def http_front(folder: Path, pods: int, *words: str, dead: int = 0) -> Iterator[Front]:
    """dead: so many more pods refuse connections; the gateway puts none of them out for it."""
    with ExitStack() as stack:
        doors = [Door() for _ in range(pods)]
        ports = [stack.enter_context(_http(at, door)) for at, door in enumerate(doors)]
        ports += free_ports(dead)
        yield stack.enter_context(_front(folder, doors, ports, words, "http"))


@contextmanager
def grpc_front(folder: Path, pods: int, *words: str) -> Iterator[Front]:
    with ExitStack() as stack:
        doors = [Door() for _ in range(pods)]
        ports = [stack.enter_context(_grpc(at, door)) for at, door in enumerate(doors)]
        yield stack.enter_context(_front(folder, doors, ports, words, "grpc"))


@contextmanager
def found_front(folder: Path, pods: int, protocol: str, *words: str) -> Iterator[Front]:
    """Pods that the gateway finds by one name, as those of a headless Service."""
    (port,) = free_ports(1)
    serve = _http if protocol == "http" else _grpc
    with ExitStack() as stack:
        doors = [Door() for _ in range(pods)]
        hosts = [f"127.0.0.{21 + at}" for at in range(pods)]
        for at, (host, door) in enumerate(zip(hosts, doors, strict=True)):
            stack.enter_context(serve(at, door, host, port))
        served = stack.enter_context(names())
        config = _config(protocol, f"--pod={NAME}:{port}", *words)
        config.cluster["cluster_type"]["typed_config"]["typed_dns_resolver_config"] = (
            served.resolver()
        )
        gateway = stack.enter_context(config.started(folder))
        places = [f"{host}:{port}" for host in hosts]
        front = Front(gateway, config.address, doors, places, protocol, served)
        front.tell(range(pods))
        yield front


@contextmanager
def _front(
    folder: Path, doors: list[Door], ports: list[int], words: tuple[str, ...], protocol: str
) -> Iterator[Front]:
    config = _config(protocol, *(f"--pod=127.0.0.1:{port}" for port in ports), *words)
    # Pods are told apart by where they stand in the list, so that another run hashes alike.
    places = [f"pod-{at}" for at in range(len(ports))]
    endpoints = config.cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    for place, each in zip(places, endpoints, strict=True):
        each["metadata"] = {"filter_metadata": {"envoy.lb": {"hash_key": place}}}
    if len(ports) > len(doors):
        del config.cluster["outlier_detection"]
    with config.started(folder) as gateway:
        yield Front(gateway, config.address, doors, places, protocol)


@dataclass
class _Config:
    """A gateway's bootstrap. address: where it takes requests of the one protocol."""

    address: str
    found: dict[str, Any]

    @property
    def cluster(self) -> dict[str, Any]:
        (cluster,) = self.found["static_resources"]["clusters"]
        assert isinstance(cluster, dict)
        return cluster

    @contextmanager
    def started(self, folder: Path) -> Iterator[EnvoyServer]:
        text = yaml.safe_dump(self.found)
        with EnvoyServer.start(find_envoy(), text, log_path=folder / "gateway.log") as gateway:
            gateway.wait_live()
            yield gateway


def _config(protocol: str, *words: str) -> _Config:
    http, rpc, admin = free_ports(3)
    text = written_gateway(
        *("--host=127.0.0.1", f"--http-port={http}", f"--grpc-port={rpc}"),
        *(f"--admin-port={admin}", *words),
    )
    config = _Config(f"127.0.0.1:{http if protocol == 'http' else rpc}", yaml.safe_load(text))
    # A double has no Triton whose health could be asked.
    del config.cluster["health_checks"]
    return config


@contextmanager
def _http(at: int, door: Door, host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            door.seen.append(self.path)
            door.released.wait()
            if door.conduct == "break":
                self.close_connection = True
                return
            moves = door.conduct == "elsewhere"
            self.send_response(503 if moves else 200)
            self.send_header("x-pod", str(at))
            if moves:
                self.send_header("x-remora-elsewhere", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer((host, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg] # not at run time
    def __init__(self, at: int, door: Door) -> None:
        self._at, self._door = at, door

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        if details.method.endswith("ModelStreamInfer"):
            return grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.unary_unary_rpc_method_handler(self._unary)

    def _unary(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        self._door.seen.append("unary")
        if self._door.conduct == "elsewhere":
            context.set_trailing_metadata((("x-remora-elsewhere", "1"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "leaving")
        return str(self._at).encode()

    def _stream(self, messages: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        for _message in messages:
            yield str(self._at).encode()


@contextmanager
def _grpc(at: int, door: Door, host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=[("grpc.max_receive_message_length", -1)])
        server.add_generic_rpc_handlers((_Handlers(at, door),))
        bound = server.add_insecure_port(f"{host}:{port}")
        server.start()
        try:
            yield bound
        finally:
            server.stop(None).wait()
