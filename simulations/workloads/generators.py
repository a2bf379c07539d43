"""Traffic that nobody recorded, drawn from a few laws that real traffic is made of.

Owns those laws. Rates are requests a second; times are seconds. Every draw follows from the seed
and the place in time, a stretch at a time, so that days of traffic never sit in memory at once.
Models are named ``model-0``, ``model-1`` and so on, the most popular first where one is.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from simulations.workloads.arrivals import Arrivals, Workload
from simulations.workloads.ordering import in_order

# Arrivals that are drawn at once, on average.
_AT_ONCE = 100_000

# Of each time and model: the share of candidates that come, 0 to 1.
Share = Callable[[NDArray[np.float64], NDArray[np.int32]], NDArray[np.float64]]


def zipf(
    *, models: int, rate: float, duration_s: float, exponent: float = 1.0, seed: int = 0
) -> Workload:
    """A Poisson process of ``rate`` in all; model i is asked for in proportion to
    (i + 1)^-exponent."""
    chosen = _popularity(models, exponent)
    return _poisson("zipf", chosen, rate, duration_s, seed)


def diurnal(
    *,
    models: int,
    rate: float,
    duration_s: float,
    exponent: float = 1.0,
    period_s: float = 86400.0,
    swing: float = 0.8,
    seed: int = 0,
) -> Workload:
    """As `zipf`, but each model's rate follows a sine of ``period_s`` with a phase of its own.

    rate: on average. swing: how far the rate rises and falls, as a share of the average, 0 to 1.
    """
    phase = np.random.default_rng(_key("diurnal phases", seed)).random(models)

    def share(time_s: NDArray[np.float64], model: NDArray[np.int32]) -> NDArray[np.float64]:
        turn = 2 * np.pi * (time_s / period_s + phase[model])
        return (1 + swing * np.sin(turn)) / (1 + swing)

    chosen = _popularity(models, exponent)
    return _poisson("diurnal", chosen, rate * (1 + swing), duration_s, seed, share)


def timers(
    *,
    models: int,
    periods_s: Sequence[float],
    duration_s: float,
    jitter: float = 0.01,
    calls: int = 1,
    seed: int = 0,
) -> Workload:
    """Models that something calls on a schedule: each has one of ``periods_s`` and an offset.

    jitter: each call is late by up to this share of its period, 0 to below 1; lateness does not
        add up. calls: the weight of one call.
    """
    random = np.random.default_rng(_key("timers", seed))
    period_s = random.choice(np.asarray(periods_s, np.float64), models)
    offset_s = random.random(models) * period_s
    step_s = _step_s(float(np.sum(1 / period_s)), duration_s)

    def pieces() -> Iterator[tuple[float, Arrivals]]:
        for number, from_s, to_s in _steps(duration_s, step_s):
            late = np.random.default_rng(_key("timers", seed, number))
            first = np.maximum(np.ceil((from_s - offset_s) / period_s), 0).astype(np.int64)
            end = np.maximum(np.ceil((to_s - offset_s) / period_s), 0).astype(np.int64)
            count = end - first
            model = np.repeat(np.arange(models, dtype=np.int32), count)
            nth = np.arange(len(model)) - np.repeat(np.cumsum(count) - count - first, count)
            time_s = offset_s[model] + period_s[model] * (nth + jitter * late.random(len(model)))
            # Rounding could put a call a hair before its stretch, and so out of order.
            time_s = np.maximum(time_s, from_s)
            within = time_s < duration_s
            weight = np.full(int(within.sum()), float(calls))
            yield to_s, Arrivals(time_s[within], model[within], weight)

    return Workload(_names(models), duration_s, lambda: in_order(pieces()))


def bursts(
    *,
    models: int,
    rate: float,
    awake_s: float,
    asleep_s: float,
    duration_s: float,
    seed: int = 0,
) -> Workload:
    """Models that sleep and wake at random (a Markov chain of two states).

    rate: of one model while it is awake; none comes while it sleeps.
    awake_s, asleep_s: how long it stays so, on average; both exponentially distributed.
    """
    share = awake_s / (awake_s + asleep_s)
    step_s = _step_s(max(models * share * rate, models / (awake_s + asleep_s)), duration_s)

    def runs() -> Iterator[Arrivals]:
        state = np.random.default_rng(_key("bursts", seed))
        on = state.random(models) < share
        left_s = state.exponential(np.where(on, awake_s, asleep_s))
        for number, from_s, to_s in _steps(duration_s, step_s):
            model, begin_s, end_s, on, left_s = _spells(
                state, on, left_s, to_s - from_s, awake_s, asleep_s
            )
            draw = np.random.default_rng(_key("bursts", seed, number))
            count = draw.poisson((end_s - begin_s) * rate)
            spell = np.repeat(np.arange(len(model)), count)
            length_s = (end_s - begin_s)[spell]
            time_s = from_s + begin_s[spell] + length_s * draw.random(len(spell))
            if len(spell):
                order = np.argsort(time_s, kind="stable")
                yield Arrivals(time_s[order], model[spell][order], np.ones(len(spell)))

    return Workload(_names(models), duration_s, runs)


def hot_set(
    *,
    models: int,
    rate: float,
    duration_s: float,
    hot: int,
    share: float = 0.9,
    shift_s: float = 3600.0,
    seed: int = 0,
) -> Workload:
    """A Poisson process of which ``share`` goes to a few models, others after every ``shift_s``.

    hot: how many, drawn anew at each shift; all alike, and so are the others.
    """

    def runs() -> Iterator[Arrivals]:
        for shift, from_s, to_s in _steps(duration_s, shift_s):
            drawn = np.random.default_rng(_key("hot set", seed, shift))
            chosen = np.full(models, (1 - share) / max(models - hot, 1))
            chosen[drawn.choice(models, hot, replace=False)] = share / hot
            stretch = _poisson(f"hot set {shift}", chosen / chosen.sum(), rate, to_s - from_s, seed)
            for run in stretch.runs():
                yield Arrivals(run.time_s + from_s, run.model, run.weight)

    return Workload(_names(models), duration_s, runs)


def flash_crowd(
    *,
    models: int,
    rate: float,
    duration_s: float,
    at_s: float,
    peak: float,
    rise_s: float = 60.0,
    fade_s: float = 1800.0,
    exponent: float = 1.0,
    seed: int = 0,
) -> Workload:
    """As `zipf`, and from ``at_s`` on a crowd that comes for the least popular model.

    peak: the crowd's rate at its height. rise_s: how long it grows to that, evenly. fade_s: after
        that, its rate falls by a factor of e in each such time.
    """
    crowd = models - 1

    def share(time_s: NDArray[np.float64], model: NDArray[np.int32]) -> NDArray[np.float64]:
        since_s = time_s - at_s
        risen = np.clip(since_s / rise_s, 0.0, 1.0)
        there = risen * np.exp(-np.maximum(since_s - rise_s, 0.0) / fade_s)
        # One more than there are models stands for the crowd, until the end.
        return np.where(model == models, there, 1.0)

    chosen = np.append(_popularity(models, exponent) * rate, peak) / (rate + peak)
    both = _poisson("flash crowd", chosen, rate + peak, duration_s, seed, share)

    def runs() -> Iterator[Arrivals]:
        for run in both.runs():
            yield Arrivals(run.time_s, np.minimum(run.model, np.int32(crowd)), run.weight)

    return Workload(_names(models), duration_s, runs)


# --- what they share -----------------------------------------------------------------------------


def _poisson(
    law: str,
    chosen: NDArray[np.float64],
    rate: float,
    duration_s: float,
    seed: int,
    share: Share | None = None,
) -> Workload:
    """A Poisson process of candidates, each for a model with the chance ``chosen``, of which each
    comes with the chance ``share`` (all, where that is None)."""
    below = np.cumsum(chosen)
    below[-1] = 1.0

    def runs() -> Iterator[Arrivals]:
        for number, from_s, to_s in _steps(duration_s, _step_s(rate, duration_s)):
            draw = np.random.default_rng(_key(law, seed, number))
            count = draw.poisson(rate * (to_s - from_s))
            time_s = from_s + np.sort(draw.random(count)) * (to_s - from_s)
            model = np.searchsorted(below, draw.random(count), side="right").astype(np.int32)
            if share is not None:
                comes = draw.random(count) < share(time_s, model)
                time_s, model = time_s[comes], model[comes]
            if len(time_s):
                yield Arrivals(time_s, model, np.ones(len(time_s)))

    return Workload(_names(len(chosen)), duration_s, runs)


def _spells(
    random: np.random.Generator,
    on: NDArray[np.bool_],
    left_s: NDArray[np.float64],
    step_s: float,
    awake_s: float,
    asleep_s: float,
) -> tuple[
    NDArray[np.int32],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.bool_],
    NDArray[np.float64],
]:
    """When which model is awake within a step, and the state it leaves behind.

    on, left_s: of each model, its state and for how long that lasts yet.
    Returns model, begin and end of each spell awake, and the new ``on`` and ``left_s``.
    """
    on, left_s = on.copy(), left_s.copy()
    now_s = np.zeros(len(on))
    spells: list[tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]] = []
    going = np.arange(len(on), dtype=np.int32)
    while len(going):
        end_s = np.minimum(now_s[going] + left_s[going], step_s)
        awake = going[on[going]]
        spells.append((awake, now_s[awake], end_s[on[going]]))
        left_s[going] -= end_s - now_s[going]
        now_s[going] = end_s
        going = going[end_s < step_s]
        on[going] = ~on[going]
        left_s[going] = random.exponential(np.where(on[going], awake_s, asleep_s))
    model, begin_s, end_s = (np.concatenate(part) for part in zip(*spells, strict=True))
    return model, begin_s, end_s, on, left_s


def _popularity(models: int, exponent: float) -> NDArray[np.float64]:
    weight = np.arange(1, models + 1, dtype=np.float64) ** -exponent
    chosen: NDArray[np.float64] = weight / weight.sum()
    return chosen


def _names(models: int) -> tuple[str, ...]:
    return tuple(f"model-{number}" for number in range(models))


def _step_s(rate: float, duration_s: float) -> float:
    return min(duration_s, _AT_ONCE / rate) if rate > 0 else duration_s


def _steps(duration_s: float, step_s: float) -> Iterator[tuple[int, float, float]]:
    """The stretches that the time is cut into: number, begin and end."""
    number = 0
    while (from_s := number * step_s) < duration_s:
        yield number, from_s, min((number + 1) * step_s, duration_s)
        number += 1


def _key(law: str, seed: int, number: int | None = None) -> Sequence[int]:
    """What a stream of random numbers starts from; another one for each law and stretch."""
    return [seed, zlib.crc32(law.encode()), *(() if number is None else (number,))]
