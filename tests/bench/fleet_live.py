"""What routing by model, Remora's ranking and gossip each do for a fleet of real pods.

``python -m tests.bench.fleet_live``. Three pods, each with room for some of the models and together
for all; the same requests in each case, drawn once: most go to a hot set that moves on. After a
third of the time a fourth pod comes, and then the first leaves. Loads are those of all pods; a cold
request is one that a pod's Envoy had to send twice. WINDOW_S sets how long the traffic lasts (90).
"""

import asyncio
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from simulations.testbed.installation import find
from simulations.testbed.repository import ModelSpec
from simulations.testbed.traffic import Arrival, Driver, Outcome, shifting_hot_set
from tests.daemon.gateway.fleet import Fleet, fleet
from tests.daemon.gossip.mosquitto import Mosquitto

WINDOW_S = float(os.environ.get("WINDOW_S", "90"))
RATE_PER_S = 6.0
SPECS = [ModelSpec(f"m{at:02}", 20, load_s=0.8, compute_ms=3, hint=True) for at in range(30)]
ROOM = 12
"""Models that a pod holds."""

POLICY = f"""\
tick: 200ms
budget: {ROOM * 20 + 10}MiB
headroom: 0MiB
loads: {{peak_factor: 1}}
residency: {{minimum: 1s, cooldown: 0s}}
churn: {{evictions: 6000}}
"""
LRU = POLICY + "ranking: lru\nprewarm: false\n"
BY_MODEL = "scaling: {routing: by-model}\n"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    policy: str
    by_model: bool
    gossips: bool = False


CASES = (
    Case("any pod, LRU", LRU, by_model=False),
    Case("any pod, Remora's ranking", POLICY, by_model=False),
    Case("by model, LRU", LRU + BY_MODEL, by_model=True),
    Case("by model, Remora's ranking", POLICY + BY_MODEL, by_model=True),
    Case("by model, Remora's ranking, gossip", POLICY + BY_MODEL, by_model=True, gossips=True),
)


def main() -> None:
    print(f"{len(SPECS)} models on 3 pods with room for {ROOM} each, {WINDOW_S:g} s of the same")
    print(f"requests, {RATE_PER_S:g} a second; load 0.8 s and 3 ms of work each\n")
    print("| | requests | failed | loads | cold requests | their seconds | p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    errors: list[tuple[str, Outcome]] = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder, _running(case, Path(folder)) as running:
            outcomes = asyncio.run(_play(running))
            print(_row(case, running, outcomes), flush=True)
            errors.extend((case.name, outcome) for outcome in outcomes if not outcome.served)
    for name, outcome in errors:
        print(f"{name}, {outcome.latency_s:.1f} s after it was due: {str(outcome.error)[:100]}")


@contextmanager
def _running(case: Case, folder: Path) -> Iterator[Fleet]:
    with _settings(case, folder) as settings:
        started = fleet(
            find(), folder, SPECS, policy=case.policy, settings=settings, by_model=case.by_model
        )
        with started as running:
            yield running


@contextmanager
def _settings(case: Case, folder: Path) -> Iterator[Mapping[str, str]]:
    if not case.gossips:
        yield {}
        return
    with Mosquitto.start(folder) as broker:
        yield {"REMORA_GOSSIP": broker.url}


async def _play(running: Fleet) -> list[Outcome]:
    driver = Driver(SPECS, http_url=running.http, grpc_url=running.grpc)
    playing = asyncio.create_task(driver.run(_arrivals()))
    await asyncio.sleep(WINDOW_S / 3)
    await asyncio.to_thread(_change_pods, running)
    return await playing


def _change_pods(running: Fleet) -> None:
    running.start()
    running.tell(running.staying())
    running.remove(running.members[0])


def _arrivals() -> list[Arrival]:
    moving = shifting_hot_set(
        [spec.name for spec in SPECS],
        duration_s=WINDOW_S,
        rate_per_s=RATE_PER_S,
        hot_count=9,
        shift_every_s=WINDOW_S / 3,
        hot_share=0.85,
        seed=1,
    )
    return [
        replace(arrival, protocol="http" if number % 2 else "grpc")
        for number, arrival in enumerate(moving)
    ]


def _row(case: Case, running: Fleet, outcomes: Sequence[Outcome]) -> str:
    cold = [outcome for outcome in outcomes if outcome.cold]
    failed = sum(not outcome.served for outcome in outcomes)
    p50_ms, p99_ms = np.percentile([o.latency_s * 1e3 for o in outcomes if o.served], (50, 99))
    loads = sum(running.loads(spec.name) for spec in SPECS)
    cells = (
        case.name,
        f"{len(outcomes):,}",
        f"{failed}",
        f"{loads}",
        f"{len(cold)}",
        f"{sum(outcome.latency_s for outcome in cold):.0f}",
        f"{p50_ms:.0f}",
        f"{p99_ms:,.0f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
