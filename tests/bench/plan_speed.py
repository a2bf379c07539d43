"""How long a decision takes for a thousand models: median and 95th percentile, in milliseconds.

Run: python -m tests.bench.plan_speed [ticks]

steady: 60 residents, nothing happens. busy: 100 models are asked for in each tick, so that
about 400 absent ones are wanted. crowded: requests wait for 200 absent models, and each
of them needs evictions. of a fleet: the same with 1,000 peers of 30 residents each, and what it
costs to hear 30 of them in a tick and look up where each model stands; then what it costs when a
pod has come, without the orders, which are worked out beside the ticks.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from statistics import median, quantiles
from time import perf_counter

from policies.history import History
from policies.peers import Fleet, Peer, orders_of
from policies.planner import plan
from policies.policy import Policy, Routing, Scaling
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

BY_MODEL = POLICY.model_copy(update={"scaling": Scaling(routing=Routing.BY_MODEL)})
PEERS, HELD, HEARD = 1_000, 30, 30
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


def peer(number: int, sequence: int = 0) -> Peer:
    """A pod of HELD residents, of which each message swaps one."""
    numbers = [number * 37 + n * 11 + (sequence if n == 0 else 0) for n in range(HELD)]
    held = [f"model-{n % MODELS:04d}" for n in numbers]
    asked = {name: 1 << n % 12 for n, name in enumerate(held)}
    place = f"10.0.{number // 250}.{number % 250}:9482"
    return Peer(f"pod-{number}", place, frozenset(held), asked=asked)


def fleet() -> Fleet:
    found = Fleet("10.1.0.1:9482", waits=True)
    for number in range(PEERS):
        found.heard(peer(number))
    settle(found)
    return found


def settle(found: Fleet) -> None:
    upcoming = found.upcoming
    assert upcoming is not None
    found.settle(upcoming, orders_of(upcoming, [f"model-{n:04d}" for n in range(MODELS)]))


def among(found: Fleet, snapshot: Snapshot) -> Snapshot:
    copies = found.copies(snapshot.models)
    models = {n: replace(model, copies=copies[n]) for n, model in snapshot.models.items()}
    return replace(snapshot, models=models)


def hearing(ticks: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each tick's news, and of the first look after a pod has come."""
    found, names = fleet(), list(repository(Random(7)).models)
    found.copies(names)
    news_ms, come_ms = [], []
    for tick in range(ticks):
        said = [peer((tick * HEARD + n) % PEERS, tick + 1) for n in range(HEARD)]
        begun = perf_counter()
        for each in said:
            found.heard(each)
        found.copies(names)
        news_ms.append((perf_counter() - begun) * 1000)
    for number in range(PEERS, PEERS + 10):
        found.heard(peer(number))
        settle(found)
        begun = perf_counter()
        found.copies(names)
        come_ms.append((perf_counter() - begun) * 1000)
    return news_ms, come_ms


def measure(change: Change, ticks: int, peers: Fleet | None = None) -> list[float]:
    random = Random(7)
    base, history = repository(random), History()
    base = base if peers is None else among(peers, base)
    policy = POLICY if peers is None else BY_MODEL
    took_ms = []
    for tick in range(ticks):
        snapshot = replace(change(base, random), now_s=START_S + tick)
        begun = perf_counter()
        history = plan(policy, snapshot, history).history
        took_ms.append((perf_counter() - begun) * 1000)
    return took_ms[ticks // 10 :]


def main() -> None:
    ticks = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    peers = fleet()
    for name, change in (("steady", nothing), ("busy", arrivals), ("crowded", crowd)):
        show(name, measure(change, ticks))
        show(f"{name}, of a fleet", measure(change, ticks, peers))
    news_ms, come_ms = hearing(ticks)
    show(f"{HEARD} peers heard", news_ms)
    show("a pod has come", come_ms)


def show(name: str, took_ms: Sequence[float]) -> None:
    p95_ms = quantiles(took_ms, n=20)[-1]
    print(f"{name:18} median {median(took_ms):6.2f} ms   p95 {p95_ms:6.2f} ms", flush=True)


if __name__ == "__main__":
    main()
