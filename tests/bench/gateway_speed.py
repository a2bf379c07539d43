"""What the gateway costs a request whose model is loaded, and what naming it for Envoy costs.

``python -m tests.bench.gateway_speed``. The same Triton is asked directly, through its pod's Envoy,
through the gateway before it, and through an Envoy that stands for both (one tier). For gRPC also
with the model named in the metadata, which spares the gateway reading the message. One client in a
closed loop; the ways take turns in rounds that change direction, and each difference is taken
within a round. Then the memory of each Envoy after many large messages at once.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import grpc

from simulations.testbed.envoy import EnvoyServer, find_envoy
from simulations.testbed.installation import find
from simulations.testbed.repository import ModelSpec
from simulations.testbed.tritonserver import free_ports
from tests.bench.door_memory import INFER, grpc_request, http_request
from tests.bench.one_tier import Addresses, one_tier
from tests.daemon.gateway.fleet import Fleet, fleet
from tests.daemon.pod import eventually

ROUNDS = int(os.environ.get("ROUNDS", "5"))
WINDOW_S = float(os.environ.get("WINDOW_S", "0.6"))
MODEL = "cheap"
NAMED = (("remora-model", MODEL),)
VALUES = (1, 2**18, 2**22)
CROWD, CROWD_VALUES = 16, 2**21
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]

POLICY = """\
budget: 1GiB
models: {"*": {pin: true, footprint: 50MiB}}
"""

Ask = Callable[[], None]


def main() -> None:
    spec = ModelSpec(MODEL, 20, 0, 0, max_batch_size=0)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        whole = stack.enter_context(fleet(find(), Path(folder), [spec], pods=1, policy=POLICY))
        one, one_http, one_grpc = _one_tier(stack, whole, Path(folder))
        (member,) = whole.members
        triton = member.pod.triton
        eventually(lambda: MODEL in member.pod.ready(), 60)
        http = {
            "direct": triton.http_url,
            "pod": member.address,
            "gateway": whole.http,
            "one tier": one_http,
        }
        rpc = {
            "direct": triton.grpc_url,
            "pod": member.address,
            "gateway": whole.grpc,
            "one tier": one_grpc,
        }
        envoys = {"gateway": whole.gateway, "pod": member.envoy, "one tier": one}
        idle = {name: _resident_mb(envoy.pid) for name, envoy in envoys.items()}
        for values in VALUES:
            _compare("http", values, {w: _by_http(a, values) for w, a in http.items()})
            asks = {way: _by_grpc(address, values) for way, address in rpc.items()}
            asks["gateway, named"] = _by_grpc(whole.grpc, values, NAMED)
            _compare("grpc", values, asks)
        print(f"\n{CROWD} messages of {CROWD_VALUES * 4 // 2**20} MiB at once, gRPC; resident MiB")
        for way, envoy, address in (
            ("gateway", whole.gateway, whole.grpc),
            ("one tier", one, one_grpc),
        ):
            most = _crowd(envoy, address)
            print(f"  {way:10} idle {idle[way]}, most {most}")
        print(f"  {'pod':10} idle {idle['pod']}")


def _one_tier(stack: ExitStack, whole: Fleet, folder: Path) -> tuple[EnvoyServer, str, str]:
    http, rpc, admin = free_ports(3)
    addresses = [
        Addresses(
            member.pod.triton.http_url,
            member.pod.triton.grpc_url,
            member.pod.door_http,
            member.pod.door_grpc,
        )
        for member in whole.members
    ]
    text = one_tier(addresses, http_port=http, grpc_port=rpc, admin_port=admin, balance=200)
    one = stack.enter_context(EnvoyServer.start(find_envoy(), text, log_path=folder / "one.log"))
    one.wait_live()
    return one, f"127.0.0.1:{http}", f"127.0.0.1:{rpc}"


def _by_http(address: str, values: int) -> Ask:
    connection = HTTPConnection(address, timeout=60)
    head, _, body = http_request(MODEL, values).partition(b"\r\n\r\n")
    lines = (line.partition(": ") for line in head.decode().splitlines()[1:])
    headers = {name: value for name, _, value in lines}

    def ask() -> None:
        connection.request("POST", f"/v2/models/{MODEL}/infer", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{address}: {answer.status} {text[:200]!r}")

    return ask


def _by_grpc(address: str, values: int, metadata: tuple[tuple[str, str], ...] = ()) -> Ask:
    channel = grpc.insecure_channel(address, UNLIMITED)
    infer = channel.unary_unary(INFER, None, None)
    message = grpc_request(MODEL, values)

    def ask() -> None:
        infer(message, timeout=60, metadata=metadata)

    return ask


def _compare(protocol: str, values: int, asks: dict[str, Ask]) -> None:
    rounds = []
    for number in range(ROUNDS):
        order = list(asks) if number % 2 == 0 else list(asks)[::-1]
        rounds.append({way: _p50_ms(asks[way]) for way in order})
    size = values * 4
    print(f"\n{protocol}, {size // 1024} KiB" if size >= 1024 else f"\n{protocol}, {size} B")
    for way in asks:
        more = [found[way] - found["direct"] for found in rounds]
        print(
            f"  {way:15} p50 {statistics.median(found[way] for found in rounds):7.3f} ms"
            f"  {statistics.median(more):+.3f} ({min(more):+.3f} .. {max(more):+.3f})",
            flush=True,
        )


def _p50_ms(ask: Ask) -> float:
    ask()
    took_ms: list[float] = []
    until_s = time.monotonic() + WINDOW_S
    while time.monotonic() < until_s or len(took_ms) < 5:
        began_s = time.perf_counter()
        ask()
        took_ms.append((time.perf_counter() - began_s) * 1e3)
    return statistics.median(took_ms)


def _crowd(envoy: EnvoyServer, address: str) -> int:
    """The most that `envoy` held while CROWD large messages were on their way, in MiB."""
    asks = [_by_grpc(address, CROWD_VALUES) for _ in range(CROWD)]
    most = 0
    with ThreadPoolExecutor(CROWD) as pool:
        asked = [pool.submit(ask) for ask in asks]
        while not all(one.done() for one in asked):
            most = max(most, _resident_mb(envoy.pid))
            time.sleep(0.01)
        for one in asked:
            one.result()
    return most


def _resident_mb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    raise SystemExit(f"process {pid} has gone")


if __name__ == "__main__":
    main()
