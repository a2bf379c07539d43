"""Plays a setting on the real Triton, with the real sidecar and Envoy before it.

Owns the course of that and the reading of what the sidecar left in its journal. Knows nothing of
the simulator.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from policies.journal import Tick, read
from policies.snapshot import ModelState
from simulations.demo.stage import Stage, staged
from simulations.fidelity.metrics import samples
from simulations.fidelity.record import Record, cold_starts, events
from simulations.fidelity.setting import Setting
from simulations.testbed.traffic import Driver, Outcome

WEIGH_EVERY_S = 1.0


async def play(directory: Path, setting: Setting, policy: str) -> Record:
    """Sends the setting's arrivals at their times. Raises DemoError."""
    measured: list[tuple[float, int]] = []
    async with staged(directory, setting.models, policy) as stage:
        driver = Driver(setting.models, http_url=stage.http_url, grpc_url=stage.grpc_url)
        weighing = asyncio.create_task(_weigh(stage, driver, measured))
        began_s = time.time()
        await driver.run(setting.arrivals)
        weighing.cancel()
        await asyncio.gather(weighing, return_exceptions=True)
        [load_s] = await samples(stage.sidecar.url, ["remora_load_seconds_sum"])
    return _record(directory, driver.outcomes, measured, began_s, load_s)


async def _weigh(stage: Stage, driver: Driver, measured: list[tuple[float, int]]) -> None:
    while True:
        weights = await asyncio.to_thread(stage.triton.resident_bytes)
        measured.append((driver.now_s(), sum(weights.values())))
        await asyncio.sleep(WEIGH_EVERY_S)


def _record(
    directory: Path,
    outcomes: Sequence[Outcome],
    measured: Sequence[tuple[float, int]],
    began_s: float,
    load_s: float,
) -> Record:
    ticks = list(_ticks(directory))
    due = sorted(outcomes, key=lambda each: each.arrival.at_s)
    served = [each for each in due if each.served]
    return Record(
        requests=len(due),
        failed=len(due) - len(served),
        latency_s=np.array([each.latency_s for each in served]),
        cold=np.array([bool(each.cold) for each in served], np.bool_),
        cold_starts=cold_starts(due),
        load_s=load_s,
        events=tuple(events((tick.snapshot.now_s - began_s, tick.actions) for tick in ticks)),
        memory_s=np.array([tick.snapshot.now_s - began_s for tick in ticks]),
        memory_bytes=np.array([_promised_bytes(tick) for tick in ticks], np.float64),
        measured_s=np.array([at_s for at_s, _ in measured]),
        measured_bytes=np.array([amount for _, amount in measured], np.float64),
    )


def _ticks(directory: Path) -> Iterator[Tick]:
    with (directory / "state" / "journal" / "journal.jsonl").open(encoding="utf-8") as lines:
        yield from read(lines)


def _promised_bytes(tick: Tick) -> int:
    """What residents, loads and unloads under way take by their footprints."""
    return sum(
        sum(model.footprint.by_device.values())
        for model in tick.snapshot.models.values()
        if model.state is not ModelState.UNLOADED and model.footprint is not None
    )
