"""Sets the stage of the demo, plays it, and clears it.

Owns the processes and the clock of the demo. What is shown is `simulations.demo.view`'s
matter, what it came to `simulations.demo.summary`'s.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from simulations.demo.summary import Facts, summary
from simulations.demo.view import Screen
from simulations.testbed.installation import InstallationError, find
from simulations.testbed.repository import ModelSpec, demo_models, write_repository
from simulations.testbed.traffic import Arrival, Driver, Tally, shifting_hot_set
from simulations.testbed.tritonserver import ServerError, TritonServer, free_ports

BUDGET_MIB = 800
RATE_PER_S = 25.0
SHIFT_EVERY_S = 10.0
HOT_COUNT = 2
HOT_SHARE = 0.98
DEADLINE_S = 30.0
LOOK_EVERY_S = 0.25
METRICS_INTERVAL_S = 0.2

# A minute shows what takes hours in production, so everything slow is made quick.
POLICY = f"""\
# The demo's policy: a third of what the models would need together.
preset: latency-first
budget: {BUDGET_MIB}MiB
tick: 500ms
horizon: 30s
demand: {{fast: 10s, slow: 60s}}
residency: {{minimum: 3s, cooldown: 1s, hysteresis: 0.25}}
loads: {{concurrent: 2}}
footprints: {{file_factor: 1.1}}
models:
  fraud: {{pin: true}}
"""


class DemoError(RuntimeError):
    """The demo cannot be played here."""


@dataclass(slots=True)
class Stage:
    """The running demo: where it lives, its two servers, and what has been seen of them."""

    directory: Path
    specs: tuple[ModelSpec, ...]
    triton: TritonServer
    sidecar: subprocess.Popen[bytes]
    url: str
    state: dict[str, Any] = field(default_factory=dict)
    peak_reserved_bytes: int = 0
    peak_measured_bytes: int = 0

    def look(self, state: dict[str, Any]) -> None:
        self.state = state
        reserved = [device["reserved"] for device in state["devices"].values()]
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, *reserved, 0)


async def run_demo(
    seconds: float, directory: Path | None, seed: int, *, plain: bool, keep: Path | None = None
) -> None:
    """Plays the demo for ``seconds`` of traffic and prints what it came to.

    The journal, the logs and the policy stay in ``directory``, by default ./remora-demo.
    """
    directory = directory or Path("remora-demo")
    specs = demo_models()
    names = [spec.name for spec in specs]
    arrivals = list(
        shifting_hot_set(
            names,
            duration_s=seconds,
            rate_per_s=RATE_PER_S,
            hot_count=HOT_COUNT,
            hot_share=HOT_SHARE,
            shift_every_s=SHIFT_EVERY_S,
            seed=seed,
        )
    )
    async with _stage(directory, specs) as stage:
        facts = await _play(stage, arrivals, Screen(plain=plain, keep=keep))
    print(summary(facts))


async def _play(stage: Stage, arrivals: list[Arrival], screen: Screen) -> Facts:
    async with aiohttp.ClientSession(stage.url) as session:
        reporter = _Reporter(session)
        driver = Driver(stage.triton.grpc_url, reporter, deadline_s=DEADLINE_S)
        reporter.tallies = driver.tallies
        with screen:
            showing = asyncio.create_task(_show(stage, session, driver, screen))
            weighing = asyncio.create_task(_weigh(stage))
            try:
                outcomes = await driver.run(arrivals)
            finally:
                for task in (showing, weighing):
                    task.cancel()
                await asyncio.gather(showing, weighing, return_exceptions=True)
        async with session.get("/metrics") as answer:
            metrics = await answer.text()
    sizes = {spec.name: spec.memory_mb * 2**20 for spec in stage.specs}
    return Facts(
        outcomes=tuple(outcomes),
        size_bytes=sizes,
        budget_bytes=BUDGET_MIB * 2**20,
        peak_reserved_bytes=stage.peak_reserved_bytes,
        peak_measured_bytes=stage.peak_measured_bytes,
        metrics=metrics,
        directory=stage.directory,
    )


class _Reporter:
    """Tells the sidecar of misses, as a gateway would."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.tallies: Mapping[str, Tally] = {}

    async def __call__(self, model: str, new_requests: int) -> None:
        waiting = self.tallies[model].waiting
        report = {"model": model, "count": new_requests, "waiting": waiting}
        async with self._session.post("/v1/demand", json=report) as answer:
            if answer.status != 202:
                raise OSError(await answer.text())


async def _show(
    stage: Stage, session: aiohttp.ClientSession, driver: Driver, screen: Screen
) -> None:
    while True:
        with contextlib.suppress(OSError, aiohttp.ClientError):
            async with session.get("/v1/state") as answer:
                stage.look(await answer.json())
        if stage.state:
            screen.show(stage.state, driver.tallies, driver.total)
        await asyncio.sleep(LOOK_EVERY_S)


async def _weigh(stage: Stage) -> None:
    """Weighs Triton's model processes, so that the summary rests on more than our own word."""
    while True:
        weights = await asyncio.to_thread(stage.triton.resident_bytes)
        stage.peak_measured_bytes = max(stage.peak_measured_bytes, sum(weights.values()))
        await asyncio.sleep(LOOK_EVERY_S)


@contextlib.asynccontextmanager
async def _stage(directory: Path, specs: tuple[ModelSpec, ...]) -> AsyncIterator[Stage]:
    repository = directory / "repository"
    shutil.rmtree(repository, ignore_errors=True)
    shutil.rmtree(directory / "state", ignore_errors=True)
    write_repository(repository, specs)
    (directory / "policy.yaml").write_text(POLICY)
    try:
        installation = await asyncio.to_thread(find)
        http, grpc, metrics, own = free_ports(4)
        triton = TritonServer.start(
            installation,
            repository,
            http_port=http,
            grpc_port=grpc,
            metrics_port=metrics,
            log_path=directory / "triton.log",
            metrics_interval_ms=round(1000 * METRICS_INTERVAL_S),
        )
    except (InstallationError, ServerError) as error:
        raise DemoError(str(error)) from None
    with triton:
        await asyncio.to_thread(triton.wait_live)
        sidecar = _start_sidecar(directory, repository, grpc, metrics, own)
        url = f"http://127.0.0.1:{own}"
        try:
            await _wait_ready(sidecar, url, directory)
            yield Stage(directory, specs, triton, sidecar, url)
        finally:
            sidecar.send_signal(signal.SIGTERM)
            await asyncio.to_thread(sidecar.wait, 20)


def _start_sidecar(
    directory: Path, repository: Path, grpc: int, metrics: int, own: int
) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "REMORA_TRITON_GRPC": f"127.0.0.1:{grpc}",
        "REMORA_TRITON_METRICS": f"http://127.0.0.1:{metrics}/metrics",
        "REMORA_MODEL_REPOSITORY": str(repository),
        "REMORA_POLICY": str(directory / "policy.yaml"),
        "REMORA_STATE_DIRECTORY": str(directory / "state"),
        "REMORA_METRICS_INTERVAL": f"{METRICS_INTERVAL_S}s",
        "REMORA_HTTP_HOST": "127.0.0.1",
        "REMORA_HTTP_PORT": str(own),
    }
    with (directory / "remora.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "daemon.cli", "run"], env=environment, stdout=log, stderr=log
        )


async def _wait_ready(sidecar: subprocess.Popen[bytes], url: str, directory: Path) -> None:
    async with aiohttp.ClientSession(url) as session:
        for _ in range(100):
            with contextlib.suppress(OSError, aiohttp.ClientError):
                async with session.get("/readyz") as answer:
                    if answer.status == 200:
                        return
            if sidecar.poll() is not None:
                break
            await asyncio.sleep(0.1)
    tail = (directory / "remora.log").read_text()[-2000:]
    raise DemoError(f"the sidecar did not become ready:\n{tail}")
