"""What the fleet service costs at a thousand pods of a hundred models.

``python -m tests.bench.fleet_speed``. The service is the real process, over a fake API server and
sidecars that one process of ours plays, each on an address of its own. The HPA's queries come
over TLS with the front proxy's certificate, each a moment after the one before. Latencies hang on
what else the machine does; the CPU time of a query, on the service's own side, hardly.
"""

import asyncio
import os
import ssl
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import aiohttp
from yarl import URL

from simulations.testbed.tritonserver import free_ports
from tests.controlplane.authority import Authority
from tests.daemon.fleet.apiserver import FakeApiServer, pod
from tests.daemon.fleet.kubeconfig import write_kubeconfig

PODS = int(os.environ.get("PODS", "1000"))
MODELS = int(os.environ.get("MODELS", "100"))
SECONDS = float(os.environ.get("SECONDS", "15"))
DEPLOYMENTS = 20
PAUSE_S = 0.05
SETTLE_S = 12.0
AIMS = "aims: p99 of a query below 50 ms, memory below 200 MiB"

NAME = "remora-fleet.remora.svc"
PROXY = "front-proxy-client"
CONFIGMAP = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
BASE = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/%2A"
QUERIES = {
    f"load, {PODS} pods": "remora_load?labelSelector=" + quote("fleet=all"),
    f"load, {PODS // DEPLOYMENTS} pods": "remora_load?labelSelector=" + quote("app=triton-07"),
    f"one model, {PODS} pods": "remora_model_load?labelSelector="
    + quote("fleet=all")
    + "&metricLabelSelector="
    + quote("model=resnet-050-int8"),
    f"all models, {PODS} pods": "remora_model_load?labelSelector=" + quote("fleet=all"),
}
FLEET = "import typer; from daemon.fleet.command import fleet; typer.run(fleet)"


def main() -> None:
    print(f"{PODS} pods of {MODELS} models; load of the machine {os.getloadavg()[0]:.2f}")
    print(AIMS, flush=True)
    for is_guarded in (False, True):
        print("\nsidecars ask for a client certificate" if is_guarded else "\nsidecars are open")
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(_measure(Path(folder), is_guarded))


async def _measure(folder: Path, is_guarded: bool) -> None:
    sidecars_port, api_port, http_port = free_ports(3)
    authority = Authority.create(folder, "front-proxy")
    serving = authority.issue("fleet", hosts=[NAME])
    async with FakeApiServer() as server:
        _describe(server, authority, sidecars_port)
        flags: dict[str, object] = {
            "kubeconfig": write_kubeconfig(folder, server.url),
            "own-namespace": "remora",
            "host": "127.0.0.1",
            "api-port": api_port,
            "http-port": http_port,
            "certificate": serving.certificate,
            "key": serving.key,
        }
        played = [sys.executable, "-m", "tests.bench.fleet_speed", "--sidecars", str(sidecars_port)]
        if is_guarded:
            flags |= _shown(authority)
            played += [str(serving.certificate), str(serving.key), str(authority.certificate)]
        command = [sys.executable, "-c", FLEET, *(f"--{k}={v}" for k, v in flags.items())]
        with (folder / "fleet.log").open("w") as log:
            sidecars = await asyncio.create_subprocess_exec(*played)
            fleet = await asyncio.create_subprocess_exec(*command, stderr=log)
            try:
                await _ready(http_port)
                await asyncio.sleep(SETTLE_S)
                await _report(fleet.pid, api_port, authority)
            finally:
                for process in (fleet, sidecars):
                    process.terminate()
                    await process.wait()


def _shown(authority: Authority) -> dict[str, object]:
    """How the service shows itself to sidecars."""
    mine = authority.issue("fleet-client")
    return {
        "sidecar-ca": authority.certificate,
        "sidecar-name": NAME,
        "sidecar-certificate": mine.certificate,
        "sidecar-key": mine.key,
    }


def _describe(server: FakeApiServer, authority: Authority, port: int) -> None:
    """All pods, and the front proxy, as the API server tells of them."""
    for number in range(PODS):
        name = f"triton-{number % DEPLOYMENTS:02}"
        labels = {"app": name, "fleet": "all"}
        address = _address(number)
        whole = pod(
            f"{name}-5d9f7b8c6-{number:05}", deployment=name, ip=address, port=port, labels=labels
        )
        # A real pod is full of what we do not read.
        whole["metadata"]["annotations"]["note"] = "x" * 8000
        server.put(whole)
    server.history.clear()
    data = {
        "requestheader-client-ca-file": authority.certificate.read_text(),
        "requestheader-allowed-names": f'["{PROXY}"]',
        "requestheader-username-headers": '["X-Remote-User"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
    }
    server.objects[CONFIGMAP] = {"metadata": {"name": CONFIGMAP}, "data": data}


def _address(number: int) -> str:
    return f"127.{1 + number // 250 // 250}.{number // 250 % 250}.{1 + number % 250}"


async def _ready(port: int) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            try:
                async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)
    raise AssertionError("the fleet service is not ready within a minute")


async def _report(pid: int, port: int, authority: Authority) -> None:
    began_s, before_s = time.monotonic(), _cpu_s(pid)
    await asyncio.sleep(SECONDS)
    rest = (_cpu_s(pid) - before_s) / (time.monotonic() - began_s)
    print(f"  at rest {100 * rest:.1f} % of a core, {_memory(pid)}", flush=True)
    context = authority.issue(PROXY).client_context(authority.certificate)
    connector = aiohttp.TCPConnector(ssl=context)
    headers = {"X-Remote-User": "system:hpa", "X-Remote-Group": "system:masters"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        for name, query in QUERIES.items():
            # The path as the API server sends it, whose escapes yarl would undo.
            url = URL(f"https://127.0.0.1:{port}{BASE}/{query}", encoded=True)
            await _query(session, url, name, pid, rest)
    print(f"  afterwards {_memory(pid)}", flush=True)


async def _query(
    session: aiohttp.ClientSession, url: URL, name: str, pid: int, rest: float
) -> None:
    took_ms: list[float] = []
    size = 0
    began_s, before_s = time.monotonic(), _cpu_s(pid)
    while time.monotonic() - began_s < SECONDS:
        now_s = time.perf_counter()
        async with session.get(url, server_hostname=NAME) as answer:
            assert answer.status == 200, await answer.text()
            size = len(await answer.read())
        took_ms.append(1000 * (time.perf_counter() - now_s))
        await asyncio.sleep(PAUSE_S)
    spent_s = _cpu_s(pid) - before_s - rest * (time.monotonic() - began_s)
    p = statistics.quantiles(took_ms, n=100, method="inclusive")
    print(
        f"  {name:24} p50 {p[49]:6.1f} ms  p99 {p[98]:6.1f} ms  of {len(took_ms)};"
        f" {1000 * spent_s / len(took_ms):5.1f} ms of CPU; {size / 1024:.0f} KiB",
        flush=True,
    )


def _cpu_s(pid: int) -> float:
    times = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> str:
    rows = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    mib = {row[0]: int(row[1]) / 1024 for row in rows if row and row[0] in ("VmRSS:", "VmHWM:")}
    return f"{mib['VmRSS:']:.1f} MiB resident, {mib['VmHWM:']:.1f} MiB at most"


# The sidecars.


class _Sidecar(asyncio.Protocol):
    """Answers every request on its connection, with loads that hang on its own address."""

    def __init__(self, models: bytes) -> None:
        self._models = models

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._load = int(transport.get_extra_info("sockname")[0].rsplit(".", 1)[1]) / 250

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            body = _body(self._load, self._models)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
            self._transport.write(head.encode() + body)


def _body(load: float, models: bytes) -> bytes:
    return (
        f'{{"version":1,"at_s":{time.time()},"reachable":true,"load":{load},"compute":{load},'
        '"device":0.5,"memory":null,"queue_boost":1.0,"advice":"enough",'
        '"budget_bytes":8000000000,"pinned_bytes":0,"pins_fit":true,"models":'
    ).encode() + models


def _models() -> bytes:
    rows = (
        f'"resnet-{number:03}-int8":{{"resident":{"true" if number % 3 else "false"},'
        f'"load":{0.0042 + number / 12345},"absence_s":{3.25 + number / 777}}}'
        for number in range(MODELS)
    )
    return b"{" + ",".join(rows).encode() + b"}}"


async def _play(port: int, *files: str) -> None:
    """files: certificate, key, and the authority of those who may ask; plain without."""
    models = _models()
    context = None
    if files:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files[2])
        context.load_cert_chain(files[0], files[1])
        context.verify_mode = ssl.CERT_REQUIRED
    loop = asyncio.get_running_loop()
    # One socket hears every address of loopback.
    server = await loop.create_server(
        lambda: _Sidecar(models), "0.0.0.0", port, backlog=2048, ssl=context
    )
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--sidecars"]:
        asyncio.run(_play(int(sys.argv[2]), *sys.argv[3:]))
    else:
        main()
