"""How fast the faithful simulator goes: arrivals a second on one core, at several budgets.

Run: python -m tests.bench.pod_speed [seconds of traffic]

dense: 100 models, 40 of them asked for 20 to 300 times a second, the others about once a minute.
azure500: the busiest ten minutes of 500 functions, call by call, where ../shared/traces has them;
few calls in a second, and many models that are asked for now and then, so that what it takes is
what its plans take. Budgets are shares of the memory of all; the busiest models that fit are there
from the start. Beside it a plain LRU in Python that queues and loads too, and decides nothing else.
"""

import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import process_time
from unittest.mock import patch

import numpy as np

from policies.actions import Plan
from policies.history import History
from policies.planner import plan
from policies.policy import Policy
from policies.snapshot import Snapshot
from simulations.pod.run import Pod
from simulations.pod.spec import PodSpec
from simulations.workloads import azure
from simulations.workloads.arrivals import Arrivals, Workload, joined
from simulations.workloads.catalogue import Catalogue, drawn

TRACE = Path(__file__).resolve().parents[3] / "shared/traces/azure500/invocations.csv.gz"
BUSY, QUIET = 40, 60
RATES_PER_S = np.concatenate([np.geomspace(300.0, 20.0, BUSY), np.full(QUIET, 1 / 60)])
# Short enough that one instance keeps up with the busiest.
SERVICE_S = 0.002
SECONDS = 600.0


def dense(seconds: float, seed: int = 7) -> Workload:
    """Poisson, in runs of ten seconds."""

    def runs() -> Iterator[Arrivals]:
        random = np.random.default_rng(seed)
        for start_s in np.arange(0.0, seconds, 10.0):
            lasts_s = min(10.0, seconds - start_s)
            model = np.repeat(np.arange(len(RATES_PER_S)), random.poisson(RATES_PER_S * lasts_s))
            time_s = start_s + lasts_s * random.random(len(model))
            order = np.argsort(time_s, kind="stable")
            yield Arrivals(time_s[order], model[order].astype(np.int32), np.ones(len(model)))

    names = tuple(f"model-{number:03d}" for number in range(len(RATES_PER_S)))
    return Workload(names, seconds, runs)


def busiest(every: Workload, seconds: float) -> Workload:
    """The part of so many seconds with the most arrivals."""
    time_s = np.concatenate([run.time_s for run in every.runs()])
    starts_s = np.arange(0.0, max(every.duration_s - seconds, 1.0), 60.0)
    counts = np.diff(np.searchsorted(time_s, [starts_s, starts_s + seconds]), axis=0)[0]
    start_s = float(starts_s[counts.argmax()])
    return every.part(start_s, start_s + seconds)


def residents(workload: Workload, catalogue: Catalogue, budget_bytes: int) -> tuple[str, ...]:
    """The busiest models that fit."""
    every = joined(list(workload.runs()))
    counts = np.bincount(every.model, minlength=len(workload.names))
    found = []
    for model in np.argsort(-counts, kind="stable").tolist():
        name = workload.names[model]
        if counts[model] and catalogue[name].size_bytes <= budget_bytes:
            budget_bytes -= catalogue[name].size_bytes
            found.append(name)
    return tuple(found)


def plain_lru(
    workload: Workload, catalogue: Catalogue, budget_bytes: int, resident: tuple[str, ...]
) -> int:
    """LRU as one writes it in Python, with a queue and a load for each model; its cold arrivals."""
    profiles = [catalogue[name] for name in workload.names]
    held = OrderedDict.fromkeys(workload.names.index(name) for name in reversed(resident))
    free_bytes = budget_bytes - sum(profiles[model].size_bytes for model in held)
    free_s, wait_s, cold = [0.0] * len(profiles), 0.0, 0
    for run in workload.runs():
        for at_s, model in zip(run.time_s.tolist(), run.model.tolist(), strict=True):
            profile = profiles[model]
            if model in held:
                held.move_to_end(model)
            else:
                cold += 1
                while free_bytes < profile.size_bytes:
                    free_bytes += profiles[held.popitem(last=False)[0]].size_bytes
                held[model] = None
                free_bytes -= profile.size_bytes
                free_s[model] = at_s + profile.load_s
            start_s = max(at_s, free_s[model])
            wait_s += start_s - at_s
            free_s[model] = start_s + profile.service_s
    assert wait_s >= 0
    return cold


def measure(label: str, workload: Workload, catalogue: Catalogue, share: float) -> None:
    budget_bytes = int(share * sum(profile.size_bytes for profile in catalogue.values()))
    resident = residents(workload, catalogue, budget_bytes)
    spec = PodSpec(2 * budget_bytes, resident=resident)
    pod = Pod(workload, catalogue, Policy(budget=budget_bytes), spec)
    plans_s = []

    def timed(policy: Policy, snapshot: Snapshot, history: History) -> Plan:
        begun = process_time()
        decision = plan(policy, snapshot, history)
        plans_s.append(process_time() - begun)
        return decision

    begun = process_time()
    with patch("simulations.pod.run.plan", timed):
        outcome = pod.run()
    took_s = process_time() - begun
    begun = process_time()
    plain_cold = plain_lru(workload, catalogue, budget_bytes, resident)
    plain_s = process_time() - begun
    print(
        f"{label:8} {share:4.0%}  {outcome.requests / took_s:9,.0f} a second  "
        f"{pod.ticks / took_s:6,.0f} ticks a second  "
        f"{pod.planned:5} whole plans of {1000 * sum(plans_s) / len(plans_s):5.2f} ms, "
        f"{sum(plans_s) / took_s:4.0%} of it  {outcome.cold_requests / outcome.requests:6.2%} cold"
        f"   plain LRU {outcome.requests / plain_s:9,.0f} a second, "
        f"{plain_cold / outcome.requests:6.2%} cold"
    )


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    traffic = dense(seconds / 10)
    catalogue = {
        name: replace(profile, service_s=SERVICE_S)
        for name, profile in drawn(traffic.names).items()
    }
    for share in (1.0, 0.5, 0.25):
        measure("dense", traffic, catalogue, share)
    if not TRACE.exists():
        print("azure500: not measured, for ../shared/traces/azure500 is not there")
        return
    read, known = azure.load([TRACE])
    traffic = busiest(read, seconds)
    for share in (0.5, 0.25, 0.1):
        measure("azure500", traffic, known or drawn(traffic.names), share)


if __name__ == "__main__":
    main()
