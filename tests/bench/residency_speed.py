"""How fast residency is replayed, beside a plain LRU in Python and libCacheSim: million a second.

Run: python -m tests.bench.residency_speed [share of the models' size that fits]

The trace is that of the 500 Azure functions, call by call, where ../shared/traces has it; else two
million arrivals over a thousand models by Zipf's law. Sizes and loads are drawn, in whole MiB. All
get the same arrays in memory, but libCacheSim's own reader, which takes its trace from a file that
is written before the clock starts. All LRUs must have the same misses, or this stops.
"""

import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import libcachesim  # type: ignore[import-untyped]
import numpy as np

from simulations.residency.named import make
from simulations.residency.replay import replay
from simulations.workloads import azure
from simulations.workloads.arrivals import Arrivals, Workload, joined
from simulations.workloads.catalogue import Catalogue, Profile, drawn

TRACE = Path(__file__).resolve().parents[3] / "shared/traces/azure500/invocations.csv.gz"
MIB = 2**20
ROUNDS = 3


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


def main() -> None:
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 0.25
    name, workload = traffic()
    catalogue = in_mib(drawn(workload.names))
    budget_bytes = int(share * sum(each.size_bytes for each in catalogue.values()))
    every = joined(list(workload.runs()))
    models, budget = every.model.tolist(), budget_bytes // MIB
    size = [catalogue[each].size_bytes // MIB for each in workload.names]

    def ours(policy: str) -> float:
        made = make(policy, catalogue, workload, budget * MIB)
        return replay(workload, catalogue, budget * MIB, made).cold_starts

    with TemporaryDirectory() as folder:
        path = Path(folder) / "trace.oracleGeneral"
        written(path, every, size)
        runs: dict[str, Callable[[], float]] = {
            "remora's ranking, our replay": lambda: ours("remora"),
            "LRU, our replay": lambda: ours("lru-seldon"),
            "LRU, OrderedDict": lambda: ordered_dict(models, size, budget),
            "LRU, libCacheSim from Python": lambda: one_by_one(models, size, budget),
            "LRU, libCacheSim's own reader": lambda: round(own_reader(path, budget) * len(models)),
        }
        found = {label: fastest(run) for label, run in runs.items()}
    slowest_s, _ = found["LRU, OrderedDict"]
    print(f"{name}: {len(models):,} arrivals, {len(size)} models, {share:.0%} of their size fit")
    for label, (took_s, misses) in found.items():
        speed, ratio = len(models) / took_s / 1e6, slowest_s / took_s
        print(f"{label:30} {speed:7.2f} M/s {ratio:6.2f} × OrderedDict {misses:10,.0f} misses")
    missed = {misses for label, (_, misses) in found.items() if label.startswith("LRU")}
    if len(missed) > 1:
        raise SystemExit(f"the LRUs differ: {sorted(missed)} misses")


if __name__ == "__main__":
    main()
