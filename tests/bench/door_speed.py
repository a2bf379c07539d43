"""What the front door costs a request whose model is loaded.

``python -m tests.bench.door_speed``. The same Triton is asked directly, through Envoy, and through
the activator as the only proxy, one after the other and in rounds that change direction, so that
what disturbs a busy machine disturbs them alike. Each ratio is taken within a round, and told as
the median over the rounds with the least and the greatest. The driver is NVIDIA's perf_analyzer
where it can be had, else a closed loop of our own in a process of its own.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc

from simulations.testbed.installation import find
from simulations.testbed.repository import ModelSpec
from tests.bench import perf_analyzer
from tests.bench.door_memory import INFER, grpc_request, http_request
from tests.bench.perf_analyzer import Measured, PerfAnalyzerError
from tests.daemon.pod import Pod, eventually, pod

ROUNDS = int(os.environ.get("ROUNDS", "5"))
WINDOW_MS = int(os.environ.get("WINDOW_MS", "500"))
PROTOCOLS = ("http", "grpc")
WAYS = ("direct", "envoy", "alone")
LATENCY, THROUGHPUT = 1, 8

POLICY = """\
budget: 1GiB
models: {"*": {pin: true, footprint: 50MiB}}
"""

AIMS = """\
aims: Envoy p50 at most +0.25 ms and throughput at least 0.85 × direct;
      activator alone, throughput at least 0.8 × (HTTP) and 0.6 × (gRPC) of direct"""


@dataclass(frozen=True, slots=True)
class Case:
    """values: FP32 numbers in each request, and in each answer."""

    model: str
    compute_ms: float
    values: int
    concurrency: int


CASES = (
    Case("cheap", 0, 1, LATENCY),
    Case("cheap", 0, 1, THROUGHPUT),
    Case("one-ms", 1, 1, LATENCY),
    Case("one-ms", 1, 1, THROUGHPUT),
    Case("large", 0, 2**16, LATENCY),
    Case("large", 0, 2**16, THROUGHPUT),
)

Measure = Callable[[str, str, Case], Measured]
"""Of a host:port, a protocol and a case."""


def main() -> None:
    name, measure = _driver()
    print(f"driver: {name}; {ROUNDS} rounds; load of the machine {os.getloadavg()[0]:.2f}")
    print(AIMS, flush=True)
    specs = {
        case.model: ModelSpec(case.model, 20, 0, case.compute_ms, max_batch_size=0)
        for case in CASES
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        pod(find(), Path(folder), list(specs.values()), POLICY, envoy=True) as running,
    ):
        eventually(lambda: running.ready() == specs.keys(), 60)
        time.sleep(2)
        for protocol in PROTOCOLS:
            for case in CASES:
                _report(protocol, case, _rounds(running, measure, protocol, case))


def _driver() -> tuple[str, Measure]:
    try:
        analyzer = perf_analyzer.find()
    except PerfAnalyzerError as error:
        return f"our own closed loop ({error})", _own_loop

    def measure(address: str, protocol: str, case: Case) -> Measured:
        return analyzer.measure(
            url=address,
            protocol=protocol,
            model=case.model,
            values=case.values,
            concurrency=case.concurrency,
            interval_ms=WINDOW_MS,
        )

    return f"perf_analyzer {perf_analyzer.TRITONCLIENT_VERSION}", measure


def _rounds(
    running: Pod, measure: Measure, protocol: str, case: Case
) -> list[Mapping[str, Measured]]:
    http, own = protocol == "http", running.activator
    addresses = {
        "direct": running.triton.http_url if http else running.triton.grpc_url,
        "envoy": running.door_http if http else running.door_grpc,
        "alone": f"127.0.0.1:{own[0] if http else own[1]}",
    }
    found: list[Mapping[str, Measured]] = []
    for number in range(ROUNDS):
        order = WAYS if number % 2 == 0 else WAYS[::-1]
        found.append({way: measure(addresses[way], protocol, case) for way in order})
    return found


def _report(protocol: str, case: Case, rounds: Sequence[Mapping[str, Measured]]) -> None:
    size = f", {case.values * 4 // 1024} KiB" if case.values > 1 else ""
    print(f"\n{protocol} {case.model}{size}, concurrency {case.concurrency}")
    for way in WAYS:
        seen = [found[way] for found in rounds]
        print(
            f"  {way:6}  p50 {_median(one.p50_ms for one in seen):7.3f} ms"
            f"  p99 {_median(one.p99_ms for one in seen):7.3f} ms"
            f"  {_median(one.requests_per_s for one in seen):7.0f} requests/s"
        )
    for way in WAYS[1:]:
        pairs = [(found[way], found["direct"]) for found in rounds]
        p50_ms = [one.p50_ms - direct.p50_ms for one, direct in pairs]
        p99 = [one.p99_ms / direct.p99_ms for one, direct in pairs]
        throughput = [one.requests_per_s / direct.requests_per_s for one, direct in pairs]
        print(
            f"  {way:6}  p50 {_spread(p50_ms, '+.3f')} ms, p99 × {_spread(p99, '.2f')},"
            f" throughput × {_spread(throughput, '.2f')}"
        )
    print(end="", flush=True)


def _spread(values: Sequence[float], form: str) -> str:
    return f"{_median(values):{form}} ({min(values):{form}} .. {max(values):{form}})"


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


# Our own driver.


def _own_loop(address: str, protocol: str, case: Case) -> Measured:
    given = [protocol, address, case.model, str(case.values), str(case.concurrency)]
    command = [sys.executable, "-m", "tests.bench.door_speed", "--loop", *given]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return Measured(**json.loads(told))


async def _loop(protocol: str, address: str, model: str, values: str, concurrency: str) -> Measured:
    """As many clients as ``concurrency``, each with one request under way at any time."""
    for_s = 3 * WINDOW_MS / 1000
    client = _http_client if protocol == "http" else _grpc_client
    clients = (client(address, model, int(values), for_s) for _ in range(int(concurrency)))
    took_ms = sorted(took for each in await asyncio.gather(*clients) for took in each)
    percentiles = statistics.quantiles(took_ms, n=100, method="inclusive")
    return Measured(percentiles[49], percentiles[98], len(took_ms) / for_s)


async def _http_client(address: str, model: str, values: int, for_s: float) -> list[float]:
    host, _, port = address.rpartition(":")
    request = http_request(model, values)
    reader, writer = await asyncio.open_connection(host, int(port))

    async def ask() -> None:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        assert b" 200 " in head[:20]

    took_ms = await _ask_again(ask, for_s)
    writer.close()
    await writer.wait_closed()
    return took_ms


async def _grpc_client(address: str, model: str, values: int, for_s: float) -> list[float]:
    request = grpc_request(model, values)
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(INFER, None, None)

        async def ask() -> None:
            await call(request)

        return await _ask_again(ask, for_s)


async def _ask_again(ask: Callable[[], Awaitable[None]], for_s: float) -> list[float]:
    """How long each took, in milliseconds."""
    took_ms = []
    ends_s = time.perf_counter() + for_s
    while (began_s := time.perf_counter()) < ends_s:
        await ask()
        took_ms.append(1000 * (time.perf_counter() - began_s))
    return took_ms


if __name__ == "__main__":
    if sys.argv[1:2] == ["--loop"]:
        print(json.dumps(asdict(asyncio.run(_loop(*sys.argv[2:])))))
    else:
        main()
