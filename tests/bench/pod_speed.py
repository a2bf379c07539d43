"""How fast the faithful simulator goes: arrivals per second and milliseconds per tick, on one core.

Run: python -m tests.bench.pod_speed [minutes]

500 models are asked for 104 times a second, most of them by timers, some at random. roomy: all
are resident, so that ticks only take in demand. tight: half of their memory, filled with the
busiest, so that most ticks are whole plans. What the plans alone took stands beside.
"""

import sys
from collections.abc import Iterator
from time import perf_counter
from unittest.mock import patch

import numpy as np

from policies.actions import Plan
from policies.history import History
from policies.planner import plan
from policies.policy import Policy
from policies.snapshot import Snapshot
from simulations.pod.run import Pod
from simulations.pod.spec import PodSpec
from simulations.workloads.arrivals import Arrivals, Workload
from simulations.workloads.catalogue import drawn

MODELS, TIMERS, RATE_PER_S = 500, 400, 104.0
# Busiest first: one a second, and the slowest once in a quarter of an hour.
PERIODS_S = np.geomspace(1.0, 900.0, TIMERS)
NAMES = tuple(f"model-{number:03d}" for number in range(MODELS))


def traffic(minutes: int, seed: int = 7) -> Workload:
    """A run of arrivals a minute: timers with little disorder, and Poisson by Zipf's law."""

    def runs() -> Iterator[Arrivals]:
        random = np.random.default_rng(seed)
        phase_s = random.random(TIMERS) * PERIODS_S
        share = 1 / np.arange(1, MODELS + 1)
        left = RATE_PER_S - float((1 / PERIODS_S).sum())
        for minute in range(minutes):
            start_s = 60.0 * minute
            parts = [(np.empty(0), np.empty(0, np.int32))]
            for model in range(TIMERS):
                every_s = PERIODS_S[model]
                late_s = (phase_s[model] - start_s) % every_s
                at_s = start_s + np.arange(late_s, 60.0, every_s)
                parts.append((at_s, np.full(len(at_s), model, np.int32)))
            count = random.poisson(60 * left)
            drawn_models = random.choice(MODELS, count, p=share / share.sum())
            parts.append((start_s + 60 * random.random(count), drawn_models.astype(np.int32)))
            time_s = np.concatenate([at_s for at_s, _ in parts])
            model_of = np.concatenate([models for _, models in parts])
            order = np.argsort(time_s, kind="stable")
            yield Arrivals(time_s[order], model_of[order], np.ones(len(order)))

    return Workload(NAMES, 60.0 * minutes, runs)


def measure(name: str, share: float, minutes: int) -> None:
    catalogue = drawn(NAMES)
    total_bytes = sum(profile.size_bytes for profile in catalogue.values())
    policy = Policy(budget=int(share * total_bytes))
    resident: list[str] = []
    left_bytes = int(share * total_bytes)
    for model in NAMES:
        if catalogue[model].size_bytes <= left_bytes:
            left_bytes -= catalogue[model].size_bytes
            resident.append(model)
    spec = PodSpec(int(1.2 * share * total_bytes), resident=tuple(resident))
    pod = Pod(traffic(minutes), catalogue, policy, spec)
    plans_s = []

    def timed(policy: Policy, snapshot: Snapshot, history: History) -> Plan:
        begun = perf_counter()
        decision = plan(policy, snapshot, history)
        plans_s.append(perf_counter() - begun)
        return decision

    begun = perf_counter()
    with patch("simulations.pod.run.plan", timed):
        outcome = pod.run()
    took_s = perf_counter() - begun
    print(
        f"{name:6} {outcome.requests:9,.0f} arrivals  {outcome.requests / took_s:9,.0f} a second  "
        f"{pod.ticks:6} ticks of {1000 * took_s / pod.ticks:.2f} ms  "
        f"{pod.planned:6} whole plans of {1000 * sum(plans_s) / len(plans_s):.2f} ms"
    )


def main() -> None:
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    measure("roomy", 1.2, minutes)
    measure("tight", 0.5, minutes)


if __name__ == "__main__":
    main()
