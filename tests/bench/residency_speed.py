"""How fast residency is replayed, beside a plain LRU in Python and libCacheSim: million a second.

Run: python -m tests.bench.residency_speed

The trace is that of the 500 Azure functions, call by call, where ../shared/traces has it; else two
million arrivals over a thousand models by Zipf's law. Sizes and loads are drawn, in whole MiB. All
get the same arrays in memory, but libCacheSim's own reader, which takes its trace from a file that
is written before the clock starts. All LRUs must have the same misses, or this stops.

Then the whole of `remora compare`, from its start to its table, on a drawn day of a thousand
models: six policies and the bound.
"""

import os
import struct
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import libcachesim  # type: ignore[import-untyped]
import numpy as np

from simulations.residency.named import make
from simulations.residency.replay import replay
from simulations.workloads import azure
from simulations.workloads.arrivals import Arrivals, Workload, joined
from simulations.workloads.catalogue import Catalogue, Profile, drawn

REPO = Path(__file__).resolve().parents[2]
TRACE = REPO.parent / "shared/traces/azure500/invocations.csv.gz"
DAY = REPO / "simulations/scenarios/thousand_models.yaml"
COMPARED = "remora,lru-seldon,lru-modelmesh,lfu,gdsf,faascache"
MIB = 2**20
SHARES = (0.1, 0.25, 0.5)
ROUNDS = 2


def traffic() -> tuple[str, Workload]:
    """In one run, so that nobody is charged for reading or drawing it."""
    if TRACE.exists():
        read, _ = azure.load([TRACE])
        every = joined(list(read.runs()))
        return "azure500", Workload(read.names, read.duration_s, lambda: iter([every]))
    random, models, arrivals = np.random.default_rng(0), 1_000, 2_000_000
    share = 1 / np.arange(1, models + 1) ** 0.9
    model = random.choice(models, arrivals, p=share / share.sum()).astype(np.int32)
    time_s = np.cumsum(random.exponential(0.02, arrivals))
    run = Arrivals(time_s, model, np.ones(arrivals))
    names = tuple(f"model-{place:04d}" for place in range(models))
    return "zipf", Workload(names, float(time_s[-1]), lambda: iter([run]))


def in_mib(catalogue: Catalogue) -> dict[str, Profile]:
    """Whole MiB, since libCacheSim's files hold sizes of 32 bits."""
    return {
        name: Profile(-(-each.size_bytes // MIB) * MIB, each.load_s)
        for name, each in catalogue.items()
    }


def ordered_dict(models: list[int], size: list[int], budget: int) -> int:
    """LRU as one writes it in Python; returns its misses."""
    held: OrderedDict[int, None] = OrderedDict()
    free, misses = budget, 0
    for model in models:
        if model in held:
            held.move_to_end(model)
            continue
        misses += 1
        while free < size[model]:
            free += size[held.popitem(last=False)[0]]
        held[model] = None
        free -= size[model]
    return misses


def one_by_one(models: list[int], size: list[int], budget: int) -> int:
    """libCacheSim's LRU, each request handed over from Python; returns its misses."""
    cache, request, misses = libcachesim.LRU(budget, hashpower=12), libcachesim.Request(), 0
    for model in models:
        request.obj_id, request.obj_size = model, size[model]
        misses += not cache.get(request)
    return misses


def written(path: Path, every: Arrivals, size: list[int]) -> None:
    """The trace in libCacheSim's own binary format: time, object, size, next request."""
    record = struct.Struct("<IQIq")
    path.write_bytes(
        b"".join(
            record.pack(int(time_s), model + 1, size[model], -1)
            for time_s, model in zip(every.time_s.tolist(), every.model.tolist(), strict=True)
        )
    )


def own_reader(path: Path, budget: int) -> float:
    """libCacheSim's LRU over its own reader, all of it in C; returns its share of misses."""
    reader = libcachesim.TraceReader(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    missed, _ = libcachesim.LRU(budget, hashpower=12).process_trace(reader)
    return float(missed)


def fastest(run: Callable[[], float]) -> tuple[float, float]:
    """Seconds of one core that the fastest of some rounds took, and what it returned."""
    took, result = [], 0.0
    for _ in range(ROUNDS):
        begun = process_time()
        result = run()
        took.append(process_time() - begun)
    return min(took), result


def races(
    workload: Workload, catalogue: Catalogue, share: float, trace: Path
) -> dict[str, Callable[[], float]]:
    """What runs, by its label; each returns its misses. All have the same budget."""
    every = joined(list(workload.runs()))
    models = every.model.tolist()
    size = [catalogue[each].size_bytes // MIB for each in workload.names]
    budget = int(share * sum(size))

    def ours(policy: str) -> float:
        made = make(policy, catalogue, workload, budget * MIB)
        return replay(workload, catalogue, budget * MIB, made).cold_starts

    return {
        "remora": lambda: ours("remora"),
        "remora-no-prewarm": lambda: ours("remora-no-prewarm"),
        "LRU, our replay": lambda: ours("lru-seldon"),
        "LRU, OrderedDict": lambda: ordered_dict(models, size, budget),
        "LRU, libCacheSim from Python": lambda: one_by_one(models, size, budget),
        "LRU, libCacheSim's own reader": lambda: round(own_reader(trace, budget) * len(models)),
    }


def race(workload: Workload, catalogue: Catalogue, share: float, trace: Path) -> None:
    """Runs them all on one budget, and prints how fast each was."""
    arrivals = sum(len(run) for run in workload.runs())
    runs = races(workload, catalogue, share, trace)
    found = {label: fastest(run) for label, run in runs.items()}
    plain_s, _ = found["LRU, OrderedDict"]
    print(f"\n{share:.0%} of their size fit")
    for label, (took_s, misses) in found.items():
        speed, ratio = arrivals / took_s / 1e6, plain_s / took_s
        print(f"{label:30} {speed:7.2f} M/s {ratio:6.2f} × OrderedDict {misses:10,.0f} misses")
    missed = {misses for label, (_, misses) in found.items() if label.startswith("LRU")}
    if len(missed) > 1:
        raise SystemExit(f"the LRUs differ: {sorted(missed)} misses")


def a_day() -> None:
    """Compares policies on a day of a thousand models, once, and prints how long all of it took."""
    asked = ["compare", str(DAY), "--policies", COMPARED, "--budgets", "25"]
    before, begun = os.times(), perf_counter()
    command = [sys.executable, "-m", "daemon.cli", *asked]
    subprocess.run(command, cwd=REPO, check=True, stdout=subprocess.DEVNULL)
    took_s, after = perf_counter() - begun, os.times()
    cpu_s = sum(after[2:4]) - sum(before[2:4])
    cores = len(os.sched_getaffinity(0))
    print(f"\nremora compare {DAY.stem}, six policies and the bound, a quarter fits")
    print(f"{took_s:.0f} s on {cores} cores, {cpu_s:.0f} s of one core")


def main() -> None:
    name, workload = traffic()
    catalogue = in_mib(drawn(workload.names))
    every = joined(list(workload.runs()))
    print(f"{name}: {len(every):,} arrivals, {len(workload.names)} models")
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.oracleGeneral"
        written(trace, every, [catalogue[each].size_bytes // MIB for each in workload.names])
        for share in SHARES:
            race(workload, catalogue, share, trace)
    a_day()


if __name__ == "__main__":
    main()
