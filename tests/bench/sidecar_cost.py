"""What the sidecar itself costs at a hundred models and a tick a second.

Its memory and CPU stand beside those of the same interpreter that only imports what a
sidecar cannot do without. ``python -m tests.bench.sidecar_cost``; Triton's own model
processes need about two gigabytes.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from simulations.testbed.installation import find
from simulations.testbed.repository import ModelSpec
from tests.daemon.pod import Pod, eventually, pod

MODELS = 100
SECONDS = int(os.environ.get("SECONDS", "60"))
REQUESTS_PER_S = 20

POLICY = """\
preset: latency-first
tick: 1s
budget: 20GiB
loads: {concurrent: 2}
models:
  "m*": {pin: true}
"""

BARE = """
import grpc, numpy, aiohttp.web, prometheus_client, pydantic, yaml, tritonclient.grpc.aio
input()
"""


def main() -> None:
    bare_mib = _bare_imports_mib()
    specs = [ModelSpec(f"m{n:03}", 1, load_s=0, compute_ms=0.1, hint=True) for n in range(MODELS)]
    with (
        tempfile.TemporaryDirectory() as folder,
        pod(find(), Path(folder), specs, POLICY) as running,
    ):
        eventually(lambda: len(running.ready()) == MODELS, 300)
        time.sleep(5)
        cpu_share, rss_mib, ticks = _watch(running)
    print(f"{MODELS} models resident, a tick a second, {REQUESTS_PER_S} requests/s, {SECONDS} s")
    print(f"  sidecar       {rss_mib:6.1f} MiB resident, {100 * cpu_share:.2f} % of a core")
    print(f"  bare imports  {bare_mib:6.1f} MiB resident")
    print(f"  ratio         {rss_mib / bare_mib:6.2f}")
    print(f"  ticks         {ticks}")


def _bare_imports_mib() -> float:
    with subprocess.Popen([sys.executable, "-c", BARE], stdin=subprocess.PIPE) as process:
        time.sleep(3)
        memory = _resident_mib(process.pid)
        process.communicate(b"\n")
    return memory


def _watch(running: Pod) -> tuple[float, float, int]:
    """CPU seconds per second, MiB resident and ticks of the sidecar while requests flow."""
    assert running.sidecar is not None
    pid = running.sidecar.pid
    before_s, began_s = _cpu_s(pid), time.monotonic()
    first = running.get("/v1/state")["ticks"]
    number = 0
    while time.monotonic() - began_s < SECONDS:
        running.infer(f"m{number % MODELS:03}")
        number += 1
        time.sleep(max(0.0, began_s + number / REQUESTS_PER_S - time.monotonic()))
    share = (_cpu_s(pid) - before_s) / (time.monotonic() - began_s)
    return share, _resident_mib(pid), running.get("/v1/state")["ticks"] - first


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
