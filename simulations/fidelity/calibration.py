"""Measures each model alone on the real Triton, before anything is compared.

Owns what the simulator is told of the models: size, load time, unload time and the time of one
execution, as the sidecar learns them live or an operator would measure them with a stopwatch; and
what a request takes on its way. Nothing of it is taken from the run that is compared.

The sidecar is there and only observes, so that requests take the way that they take later.
"""

import asyncio
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from simulations.demo.stage import DemoError, Stage, staged
from simulations.fidelity.metrics import samples
from simulations.fidelity.setting import PROTOCOLS
from simulations.testbed.protocols import Asker, Question, Unanswered
from simulations.testbed.repository import ModelSpec
from simulations.workloads.catalogue import Profile

ROUNDS = 3
TICKS = ("remora_tick_seconds_sum", "remora_tick_seconds_count")
OBSERVE = "mode: observe\nbudget: 1GiB\n"
ASKS = 20
# Requests that follow one upon another find every process on the way awake; traffic does not.
ASK_EVERY_S = 0.05
POLL_S = 0.01
LONGEST_UNLOAD_S = 30.0
ANSWER_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured.

    profiles: by model. request_s: what a request takes beside its execution, by Envoy.
    look_s: what a tick of the sidecar takes. unload_jitter: how much unloads differ among each
        other, as the standard deviation of their logarithm.
    """

    profiles: dict[str, Profile]
    request_s: float
    look_s: float
    unload_jitter: float

    @property
    def size_bytes(self) -> dict[str, int]:
        return {name: profile.size_bytes for name, profile in self.profiles.items()}


@dataclass(frozen=True, slots=True)
class _Trial:
    load_s: float
    unload_s: float
    size_bytes: int
    service_s: float
    way_s: float


async def calibrate(
    directory: Path, specs: Sequence[ModelSpec], *, rounds: int = ROUNDS
) -> Calibration:
    """Loads, asks and unloads each of ``specs`` alone, ``rounds`` times. Raises DemoError."""
    trials: dict[str, list[_Trial]] = {spec.name: [] for spec in specs}
    async with (
        staged(directory, specs, OBSERVE) as stage,
        aiohttp.ClientSession(f"http://{stage.triton.http_url}") as triton,
        Asker(http_url=stage.http_url, grpc_url=stage.grpc_url) as asker,
    ):
        for _ in range(rounds):
            for spec in specs:
                trials[spec.name].append(await _trial(stage, triton, asker, spec.name))
        ticks_s, ticks = await samples(stage.sidecar.url, TICKS)
    every = [each for done in trials.values() for each in done]
    # How long an unload takes hangs on Triton's own rounds and on no model: all together tell
    # more of it than a few of each.
    unloads_s = [each.unload_s for each in every]
    return Calibration(
        {
            spec.name: _profile(spec, trials[spec.name], statistics.fmean(unloads_s))
            for spec in specs
        },
        statistics.median(each.way_s for each in every),
        ticks_s / ticks,
        statistics.pstdev(math.log(each_s) for each_s in unloads_s),
    )


def _profile(spec: ModelSpec, done: Sequence[_Trial], unload_s: float) -> Profile:
    """Medians, since whatever else the machine does makes a trial only longer."""
    return Profile(
        size_bytes=round(statistics.median(each.size_bytes for each in done)),
        load_s=statistics.median(each.load_s for each in done),
        unload_s=unload_s,
        service_s=statistics.median(each.service_s for each in done),
        instances=spec.instances,
        # As the model's configuration says; a batch of it takes as long as one request.
        max_batch=max(1, spec.max_batch_size),
        batch_share=0.0,
    )


async def _trial(stage: Stage, triton: aiohttp.ClientSession, asker: Asker, name: str) -> _Trial:
    began_s = time.monotonic()
    await _post(triton, f"/v2/repository/models/{name}/load")
    load_s = time.monotonic() - began_s
    service_s, way_s = await _asked(triton, asker, name)
    weights = await asyncio.to_thread(stage.triton.resident_bytes)
    began_s = time.monotonic()
    await _post(triton, f"/v2/repository/models/{name}/unload")
    while not await _is_gone(triton, name):
        if time.monotonic() - began_s > LONGEST_UNLOAD_S:
            raise DemoError(f"{name} did not unload within {LONGEST_UNLOAD_S:g} s")
        await asyncio.sleep(POLL_S)
    return _Trial(load_s, time.monotonic() - began_s, weights[name], service_s, way_s)


async def _asked(triton: aiohttp.ClientSession, asker: Asker, name: str) -> tuple[float, float]:
    """Seconds of one execution by Triton's own count, and of the way there and back."""
    # The first request by each protocol opens a connection.
    await _ask(asker, name, len(PROTOCOLS))
    before_s, before = await _executed(triton, name)
    took_s = await _ask(asker, name, ASKS)
    after_s, after = await _executed(triton, name)
    service_s = (after_s - before_s) / (after - before)
    return service_s, max(0.0, statistics.median(took_s) - service_s)


async def _ask(asker: Asker, name: str, times: int) -> list[float]:
    took_s = []
    for number in range(times):
        began_s = time.monotonic()
        question = Question(name, 1.0, PROTOCOLS[number % len(PROTOCOLS)])
        try:
            await asker.ask(question, ANSWER_WITHIN_S)
        except Unanswered as unanswered:
            raise DemoError(f"{name} is loaded and did not answer: {unanswered}") from None
        took_s.append(time.monotonic() - began_s)
        await asyncio.sleep(ASK_EVERY_S)
    return took_s


async def _executed(triton: aiohttp.ClientSession, name: str) -> tuple[float, int]:
    """Seconds and number of executions of all versions since the model was loaded."""
    async with triton.get(f"/v2/models/{name}/stats") as answer:
        versions = (await answer.json())["model_stats"]
    parts = ("compute_input", "compute_infer", "compute_output")
    spent_ns = sum(each["inference_stats"][part]["ns"] for each in versions for part in parts)
    return spent_ns / 1e9, sum(each["execution_count"] for each in versions)


async def _is_gone(triton: aiohttp.ClientSession, name: str) -> bool:
    index = await _post(triton, "/v2/repository/index")
    states = {entry.get("state") for entry in index if entry["name"] == name}
    return not states & {"READY", "LOADING", "UNLOADING"}


async def _post(triton: aiohttp.ClientSession, path: str) -> list[dict[str, str]]:
    async with triton.post(path, json={}) as answer:
        text = await answer.text()
        if answer.status != 200:
            raise DemoError(f"Triton refused {path}: {text}")
        return list(await answer.json()) if text else []
