"""Small workloads and catalogues for the tests of residency."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from simulations.workloads.arrivals import Arrivals, Workload
from simulations.workloads.catalogue import Profile


def run(times_s: Sequence[float], models: Sequence[int], weights: Sequence[float] = ()) -> Arrivals:
    weight = np.array(weights, np.float64) if len(weights) else np.ones(len(models))
    return Arrivals(np.array(times_s, np.float64), np.array(models, np.int32), weight)


def workload(
    times_s: Sequence[float],
    models: Sequence[int],
    *,
    names: Sequence[str] = ("a", "b", "c", "d"),
    weights: Sequence[float] = (),
    cuts: Sequence[int] = (),
    duration_s: float | None = None,
) -> Workload:
    """One arrival for each time and model; ``cuts`` say where one run ends and the next begins."""
    whole = run(times_s, models, weights)
    bounds = [0, *cuts, len(whole)]
    pieces = [
        Arrivals(whole.time_s[i:j], whole.model[i:j], whole.weight[i:j])
        for i, j in pairwise(bounds)
    ]
    last_s = float(whole.time_s[-1]) if len(whole) else 0.0
    return Workload(
        tuple(names), last_s if duration_s is None else duration_s, lambda: iter(pieces)
    )


def letters(asked: str, *, every_s: float = 100.0, names: str = "abcd") -> Workload:
    """``asked`` one after the other, so far apart that no load outlasts the way to the next."""
    times_s = [every_s * place for place in range(len(asked))]
    return workload(times_s, [names.index(letter) for letter in asked], names=tuple(names))


def sized(*sizes: int, load_s: Sequence[float] = (), names: str = "abcdefgh") -> dict[str, Profile]:
    loads = load_s or [1.0] * len(sizes)
    return {
        name: Profile(size, load) for name, size, load in zip(names, sizes, loads, strict=False)
    }


def random_workload(seed: int, arrivals: int, models: int, *, least_gap_s: float = 0.0) -> Workload:
    """Popularity falls as in Zipf's law; times rise by whole halves of seconds, often by none."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, models + 1)
    model = random.choice(models, arrivals, p=share / share.sum())
    steps = least_gap_s + np.floor(2 * random.exponential(3.0, arrivals)) / 2
    names = tuple(f"model-{place}" for place in range(models))
    weights = random.integers(1, 4, arrivals).astype(np.float64)
    return workload(
        np.cumsum(steps).tolist(), model.tolist(), names=names, weights=weights.tolist()
    )


def random_catalogue(seed: int, models: int) -> dict[str, Profile]:
    random = np.random.default_rng(seed)
    return {
        f"model-{place}": Profile(int(random.integers(1, 40)), float(random.integers(1, 9)))
        for place in range(models)
    }


def timers(seed: int, models: int, duration_s: float = 20_000.0) -> Workload:
    """Each model comes with a period of its own, some seconds early or late, and now and then
    not at all."""
    random = np.random.default_rng(seed)
    times_s, asked = [], []
    for model in range(models):
        period_s = float(random.integers(300, 3000))
        turns_s = np.arange(random.uniform(0, period_s), duration_s - 10, period_s)
        turns_s = turns_s[random.random(len(turns_s)) < 0.95]
        times_s.append(turns_s + np.floor(random.uniform(0, 10, len(turns_s))))
        asked.append(np.full(len(turns_s), model))
    at_s, model_at = np.concatenate(times_s), np.concatenate(asked)
    order = np.argsort(at_s, kind="stable")
    names = tuple(f"model-{place}" for place in range(models))
    return workload(
        at_s[order].tolist(), model_at[order].tolist(), names=names, duration_s=duration_s
    )
