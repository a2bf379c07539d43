"""How long a decision takes for a thousand models: median and 95th percentile, in milliseconds.

Run: python -m tests.bench.plan_speed [ticks]

steady: 60 residents, nothing happens. busy: 100 models are asked for in each tick, so that
about 400 absent ones are wanted. crowded: requests wait for 200 absent models, and each
of them needs evictions.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from random import Random
from statistics import median, quantiles
from time import perf_counter

from policies.history import History
from policies.planner import plan
from policies.policy import Policy
from policies.snapshot import Device, Footprint, FootprintSource, Model, ModelState, Snapshot

GIB = 2**30
START_S = 1_764_028_800.0
MODELS, RESIDENTS, ASKED, WANTED = 1_000, 60, 100, 200
POLICY = Policy.model_validate(
    {
        "budget": "90%",
        "churn": {"evictions": 1_000_000},
        "models": {"model-000[0-4]": {"pin": True}, "*-9": {"weight": 2}},
    }
)

Change = Callable[[Snapshot, Random], Snapshot]


def repository(random: Random) -> Snapshot:
    """A GPU full of residents, and a repository behind it."""
    models = {}
    for position in range(MODELS):
        name = f"model-{position:04d}"
        state = ModelState.READY if position < RESIDENTS else ModelState.UNLOADED
        size = Footprint({"GPU-0": random.randrange(GIB, 2 * GIB)}, FootprintSource.MEASURED)
        models[name] = Model(name, state, size, load_s=random.uniform(1, 9), revision="1")
    used = sum(
        m.footprint.total_bytes
        for m in models.values()
        if m.state is ModelState.READY and m.footprint
    )
    devices = {"GPU-0": Device("GPU-0", int(used / 0.9) + GIB // 2, used)}
    return Snapshot(START_S, devices=devices, models=models)


def nothing(snapshot: Snapshot, random: Random) -> Snapshot:
    return snapshot


def arrivals(snapshot: Snapshot, random: Random) -> Snapshot:
    """The most popular are asked for most, as in the traces."""
    asked = {f"model-{int(random.paretovariate(0.7)) % MODELS:04d}" for _ in range(5 * ASKED)}
    fresh = {
        name: replace(snapshot.models[name], arrivals=float(random.randint(1, 20)))
        for name in sorted(asked)[:ASKED]
    }
    return replace(snapshot, models={**snapshot.models, **fresh})


def crowd(snapshot: Snapshot, random: Random) -> Snapshot:
    """The longer they wait the more they are worth, so that some swaps pay and most do not."""
    absent = [name for name, m in snapshot.models.items() if m.state is ModelState.UNLOADED]
    waiting = {
        name: replace(
            snapshot.models[name], arrivals=1.0, waiting=1, oldest_wait_s=random.uniform(0, 9)
        )
        for name in absent[:WANTED]
    }
    return replace(snapshot, models={**snapshot.models, **waiting})


def measure(change: Change, ticks: int) -> list[float]:
    random = Random(7)
    base, history = repository(random), History()
    took_ms = []
    for tick in range(ticks):
        snapshot = replace(change(base, random), now_s=START_S + tick)
        begun = perf_counter()
        history = plan(POLICY, snapshot, history).history
        took_ms.append((perf_counter() - begun) * 1000)
    return took_ms[ticks // 10 :]


def main() -> None:
    ticks = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for name, change in (("steady", nothing), ("busy", arrivals), ("crowded", crowd)):
        took_ms = measure(change, ticks)
        p95_ms = quantiles(took_ms, n=20)[-1]
        print(f"{name:8} median {median(took_ms):6.2f} ms   p95 {p95_ms:6.2f} ms")


if __name__ == "__main__":
    main()
