"""What ten thousand requests for models that are not loaded take of the sidecar's memory.

``python -m tests.bench.door_memory [CASE ...]``, where a case is a row's name, as ``alone-http``.
In each, a crowd in a process of its own opens its connections, asks for two cold models at once
and counts what it is told, under the policy's default bounds. The memory is what the process has
resident; what the kernel keeps for its sockets comes on top in a pod, and is not seen here.
"""

import asyncio
import json
import os
import re
import resource
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import yaml
from tritonclient.grpc import service_pb2

from policies.policy import FrontDoor
from simulations.testbed.installation import find
from simulations.testbed.repository import ModelSpec
from tests.daemon.pod import QUICK, Pod, pod

REQUESTS = int(os.environ.get("REQUESTS", "10000"))
LOAD_S = 15.0
MODELS = ("slow-a", "slow-b")
CHANNELS = 40
CONNECTING_AT_ONCE = 256
# Triton 2.51 itself loses answers over HTTP when hundreds of large requests come at once.
PATIENCE_S = 45.0
PATCH = Path(__file__).parents[2] / "deploy" / "components" / "sidecar" / "patch.yaml"
INFER = "/inference.GRPCInferenceService/ModelInfer"
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Case:
    """One crowd. values: FP32 numbers in each request, four bytes each."""

    protocol: str
    envoy: bool
    requests: int
    values: int = 1

    @property
    def name(self) -> str:
        size = f"-{self.values * 4 // 1024}KiB" if self.values > 1 else ""
        return f"{'envoy' if self.envoy else 'alone'}-{self.protocol}{size}"


CASES = (
    Case("http", envoy=False, requests=REQUESTS),
    Case("grpc", envoy=False, requests=REQUESTS),
    Case("http", envoy=True, requests=REQUESTS),
    Case("grpc", envoy=True, requests=REQUESTS),
    # More bodies than the bound on held bytes lets in.
    Case("http", envoy=False, requests=REQUESTS // 10, values=2**16),
    Case("grpc", envoy=False, requests=REQUESTS // 10, values=2**16),
)


def main(*names: str) -> None:
    """All cases, or those that are named."""
    bounds = FrontDoor()
    print(
        f"bounds: {bounds.waiters} waiters, {bounds.waiters_per_model} per model,"
        f" {bounds.held_bytes / MIB:g} MiB of bodies; limit of {PATCH.name}: {_limit_mib():g} MiB"
    )
    print(f"open files allowed: {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}")
    for case in CASES:
        if not names or case.name in names:
            _report(case)


def _report(case: Case) -> None:
    print(f"\n{case.name}: {case.requests} requests of {case.values * 4} bytes", flush=True)
    with _running(case) as running, _watched(running) as seen:
        told = _play(case, running, seen)
        time.sleep(3)
        after_mib = _memory_mib(running, "VmRSS")
        peak_mib = _memory_mib(running, "VmHWM")
        envoy_mib = _status_mib(running.envoy.pid, "VmHWM") if running.envoy else None
        loaded = {model: running.times_loaded(model) for model in MODELS}
    served = told["served"]
    print(f"  held at most       {seen.most_waiting:.0f}, served at last {served}, loads {loaded}")
    print(
        f"  refused            {case.requests - served}, the last after {told['refused_s']:.2f} s"
    )
    print(f"  all answered after {told['ended_s']:.2f} s; connected in {told['connected_s']:.2f} s")
    for text, count in sorted(told["texts"].items(), key=lambda item: -item[1])[:4]:
        print(f"    {count:6} × {text}")
    print(f"  start              {seen.start_mib:6.1f} MiB")
    print(f"  all connected      {seen.connected_mib:6.1f} MiB")
    print(f"  holding            {seen.holding_mib:6.1f} MiB")
    print(f"  peak               {peak_mib:6.1f} MiB, limit {_limit_mib():g} MiB")
    print(f"  after              {after_mib:6.1f} MiB")
    if envoy_mib is not None:
        print(f"  peak of Envoy      {envoy_mib:6.1f} MiB")
    print(f"  slowest /healthz   {seen.slowest_s * 1000:6.0f} ms of {seen.probes}", flush=True)


@contextmanager
def _running(case: Case) -> Iterator[Pod]:
    specs = [
        ModelSpec(name, 20, load_s=LOAD_S, compute_ms=0, hint=True, max_batch_size=0)
        for name in MODELS
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        pod(find(), Path(folder), specs, QUICK.format(budget=200), envoy=case.envoy) as running,
    ):
        time.sleep(2)
        yield running


@dataclass(slots=True)
class _Seen:
    start_mib: float
    connected_mib: float = 0.0
    holding_mib: float = 0.0
    most_waiting: float = 0.0
    slowest_s: float = 0.0
    probes: int = 0
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def _watched(running: Pod) -> Iterator[_Seen]:
    """Asks the sidecar for its health, and how many it holds, while the block runs."""
    seen = _Seen(_memory_mib(running, "VmRSS"))
    watching = threading.Thread(target=_watch, args=(running, seen))
    watching.start()
    try:
        yield seen
    finally:
        seen.over.set()
        watching.join()


def _watch(running: Pod, seen: _Seen) -> None:
    while not seen.over.wait(0.25):
        began_s = time.monotonic()
        running.get("/healthz")
        seen.slowest_s = max(seen.slowest_s, time.monotonic() - began_s)
        seen.probes += 1
        found = re.search(
            r"^remora_door_waiting_requests (\S+)", running.get("/metrics") or "", re.M
        )
        waiting = float(found[1]) if found else 0.0
        if waiting >= seen.most_waiting > 0:
            seen.holding_mib = _memory_mib(running, "VmRSS")
        seen.most_waiting = max(seen.most_waiting, waiting)


def _play(case: Case, running: Pod, seen: _Seen) -> Any:
    """What the crowd has counted."""
    address = running.door_http if case.protocol == "http" else running.door_grpc
    given = [case.protocol, address, str(case.requests), str(case.values)]
    command = [sys.executable, "-m", "tests.bench.door_memory", "--crowd", *given]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as crowd:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == "connected\n"
        time.sleep(0.5)
        seen.connected_mib = _memory_mib(running, "VmRSS")
        told, _ = crowd.communicate("\n", timeout=180)
    return json.loads(told)


def _memory_mib(running: Pod, key: str) -> float:
    assert running.sidecar is not None
    return _status_mib(running.sidecar.pid, key)


def _status_mib(pid: int, key: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{key}:")[1].split()[0]) / 1024


def _limit_mib() -> float:
    patch = yaml.safe_load(PATCH.read_text())
    (sidecar,) = patch["spec"]["template"]["spec"]["initContainers"]
    limit: str = sidecar["resources"]["limits"]["memory"]
    return float(limit.removesuffix("Mi"))


# The crowd, in its own process.


@dataclass(slots=True)
class _Told:
    """What the crowd hears, as (text or "served", seconds since the first request went out)."""

    began_s: float = 0.0
    heard: list[tuple[str, float]] = field(default_factory=list)

    def hear(self, text: str) -> None:
        self.heard.append((text, time.monotonic() - self.began_s))

    def summary(self, connected_s: float) -> str:
        refused = [at_s for text, at_s in self.heard if text != "served"]
        return json.dumps(
            {
                "connected_s": connected_s,
                "served": len(self.heard) - len(refused),
                "refused_s": max(refused, default=0.0),
                "ended_s": max((at_s for _, at_s in self.heard), default=0.0),
                "texts": Counter(text for text, _ in self.heard if text != "served"),
            }
        )


class _Client(asyncio.Protocol):
    """One keep-alive connection with one request."""

    def __init__(self, told: _Told) -> None:
        self.told = told
        self.transport: asyncio.Transport | None = None
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, request: bytes) -> None:
        assert self.transport is not None
        if self.transport.is_closing():
            self.hear("closed before the request")
        else:
            self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, blank, body = self.received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if blank and length and len(body) >= int(length[1]):
            status = head.split(b" ", 2)[1].decode()
            self.hear("served" if status == "200" else f"{status} {body.decode()}")

    def connection_lost(self, error: Exception | None) -> None:
        self.hear(f"closed: {error}")

    def hear(self, text: str) -> None:
        if not self.answered.done():
            self.answered.set_result(None)
            self.told.hear(text)


async def _http_crowd(address: str, requests: int, values: int) -> str:
    host, _, port = address.rpartition(":")
    told, loop = _Told(), asyncio.get_running_loop()
    began_s = time.monotonic()
    clients: list[_Client] = []
    # More at once would overflow the listener's queue, and be tried again a second later.
    for first in range(0, requests, CONNECTING_AT_ONCE):
        made = await asyncio.gather(
            *(
                loop.create_connection(lambda: _Client(told), host, int(port))
                for _ in range(min(CONNECTING_AT_ONCE, requests - first))
            )
        )
        clients += [client for _, client in made]
    connected_s = time.monotonic() - began_s
    await _go()
    told.began_s = time.monotonic()
    asked = [http_request(model, values) for model in MODELS]
    for number, client in enumerate(clients):
        client.ask(asked[number % len(asked)])
        if number % 100 == 99:
            await asyncio.sleep(0)
    await asyncio.wait([client.answered for client in clients], timeout=PATIENCE_S)
    for client in clients:
        client.hear(f"no answer after {PATIENCE_S:g} s")
    return told.summary(connected_s)


def http_request(model: str, values: int) -> bytes:
    """An inference over HTTP/1.1, whole: ``values`` numbers as a binary tensor."""
    binary = {"binary_data_size": 4 * values}
    header = json.dumps(
        {
            "inputs": [
                {"name": "X", "shape": [values, 1], "datatype": "FP32", "parameters": binary}
            ],
            "outputs": [{"name": "Y", "parameters": {"binary_data": True}}],
        }
    ).encode()
    body = header + struct.pack("<f", 3.0) * values
    return (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: door\r\n"
        f"Inference-Header-Content-Length: {len(header)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def _grpc_crowd(address: str, requests: int, values: int) -> str:
    told = _Told()
    began_s = time.monotonic()
    # Channels to one place share a connection unless they are told not to.
    own = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(address, options=own) for _ in range(CHANNELS)]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    connected_s = time.monotonic() - began_s
    await _go()
    told.began_s = time.monotonic()
    asked = [grpc_request(model, values) for model in MODELS]
    calls = [channel.unary_unary(INFER, None, None) for channel in channels]

    async def ask(number: int) -> None:
        try:
            await calls[number % CHANNELS](asked[number % len(asked)], timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            told.hear(f"{error.code().name} {error.details()}")
        else:
            told.hear("served")

    await asyncio.gather(*(ask(number) for number in range(requests)))
    await asyncio.gather(*(channel.close(None) for channel in channels))
    return told.summary(connected_s)


def grpc_request(model: str, values: int) -> bytes:
    """The same as a message of ModelInfer."""
    request = service_pb2.ModelInferRequest(
        model_name=model, raw_input_contents=[struct.pack("<f", 3.0) * values]
    )
    request.inputs.add(name="X", datatype="FP32", shape=[values, 1])
    written: bytes = request.SerializeToString()
    return written


async def _go() -> None:
    """Until the other process has looked at what connections alone take."""
    print("connected", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


def _crowd(protocol: str, address: str, requests: str, values: str) -> None:
    play = _http_crowd if protocol == "http" else _grpc_crowd
    print(asyncio.run(play(address, int(requests), int(values))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--crowd"]:
        _crowd(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
