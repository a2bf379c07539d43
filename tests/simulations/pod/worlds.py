"""Small worlds for the simulated pod: a few models, a few requests, and nothing hidden."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from policies.policy import Policy
from simulations.pod.spec import PodSpec
from simulations.workloads.arrivals import Arrivals, Workload
from simulations.workloads.catalogue import Profile

GIB = 2**30


def workload(
    asks: Iterable[tuple[float, str]], names: Sequence[str], duration_s: float
) -> Workload:
    """One request at each time for each name, in order of time."""
    rows = sorted(asks, key=lambda row: row[0])
    time_s = np.array([at_s for at_s, _ in rows], np.float64)
    model = np.array([names.index(name) for _, name in rows], np.int32)

    def runs() -> Iterator[Arrivals]:
        yield Arrivals(time_s, model, np.ones(len(rows)))

    return Workload(tuple(names), duration_s, runs)


def profile(gib: float = 1.0, load_s: float = 2.0, **others: float) -> Profile:
    """A model that unloads in half a second and answers in 20 ms, unless said otherwise."""
    return Profile(round(gib * GIB), load_s, **others)  # type: ignore[arg-type]


def policy(budget_gib: float, **others: object) -> Policy:
    """Loads at their own size, so that sums are round."""
    said = {
        "budget": round(budget_gib * GIB),
        "loads": {"peak_factor": 1.0},
        "residency": {"minimum": "0s", "cooldown": "0s"},
        **others,
    }
    return Policy.model_validate(said)


def exact(device_gib: float = 64.0, **others: object) -> PodSpec:
    """A pod without delays of its own, whose device is never the bottleneck."""
    said = {
        "look_s": 0.0,
        "ask_s": 0.0,
        "load_overhead_s": 0.0,
        "release_s": 0.0,
        **others,
    }
    return PodSpec(round(device_gib * GIB), **said)  # type: ignore[arg-type]
