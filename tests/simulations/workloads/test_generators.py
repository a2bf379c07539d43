"""Generated traffic has the rates, the order and the shape that its law says."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simulations.workloads import generators
from simulations.workloads.arrivals import Arrivals, Workload, joined

ROOT = Path(__file__).resolve().parents[3]
HOUR_S = 3600.0

LAWS: dict[str, Callable[[int], Workload]] = {
    "zipf": lambda seed: generators.zipf(models=20, rate=50, duration_s=HOUR_S, seed=seed),
    "diurnal": lambda seed: generators.diurnal(
        models=20, rate=50, duration_s=HOUR_S, period_s=600, seed=seed
    ),
    "timers": lambda seed: generators.timers(
        models=20, periods_s=[10, 60], duration_s=HOUR_S, jitter=0.9, seed=seed
    ),
    "bursts": lambda seed: generators.bursts(
        models=20, rate=5, awake_s=30, asleep_s=60, duration_s=HOUR_S, seed=seed
    ),
    "hot set": lambda seed: generators.hot_set(
        models=20, rate=50, duration_s=HOUR_S, hot=3, shift_s=500, seed=seed
    ),
    "flash crowd": lambda seed: generators.flash_crowd(
        models=20, rate=50, duration_s=HOUR_S, at_s=600, peak=100, seed=seed
    ),
}


def whole(workload: Workload) -> Arrivals:
    return joined(list(workload.runs()))


def digest(workload: Workload) -> str:
    told = hashlib.sha256()
    for run in workload.runs():
        for column in (run.time_s, run.model, run.weight):
            told.update(column.tobytes())
    return told.hexdigest()


def per_hour(law: str) -> float:
    return len(whole(LAWS[law](1)))


@pytest.mark.parametrize("law", LAWS)
def test_arrivals_come_in_order_and_within_the_time(law: str) -> None:
    workload = LAWS[law](1)
    run = whole(workload)
    assert len(run) > 1000
    assert (np.diff(run.time_s) >= 0).all()
    assert run.time_s[0] >= 0
    assert run.time_s[-1] <= workload.duration_s
    assert set(run.model.tolist()) == set(range(len(workload.names)))


@pytest.mark.parametrize("law", LAWS)
def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(law: str) -> None:
    workload = LAWS[law](1)
    assert digest(workload) == digest(workload) == digest(LAWS[law](1))
    assert digest(workload) != digest(LAWS[law](2))


@pytest.mark.parametrize("law", LAWS)
def test_no_run_is_much_larger_than_what_is_drawn_at_once(
    law: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generators, "_AT_ONCE", 500)
    workload = LAWS[law](1)
    runs = list(workload.runs())
    assert len(runs) > 10
    assert max(map(len, runs)) < 1500
    run = joined(runs)
    assert (np.diff(run.time_s) >= 0).all()
    # Drawn in other stretches it is other traffic, of the same rate.
    monkeypatch.undo()
    assert len(run) == pytest.approx(per_hour(law), rel=0.15)


@pytest.mark.parametrize("law", ["zipf", "diurnal", "hot set"])
def test_the_rate_is_what_was_asked_for(law: str) -> None:
    assert per_hour(law) == pytest.approx(50 * HOUR_S, rel=0.03)


def test_popularity_falls_as_zipf_says() -> None:
    run = whole(generators.zipf(models=10, rate=100, duration_s=HOUR_S, exponent=1.5))
    counts = np.bincount(run.model)
    assert counts[0] / counts[3] == pytest.approx(4**1.5, rel=0.05)
    even = whole(generators.zipf(models=10, rate=100, duration_s=HOUR_S, exponent=0))
    assert np.bincount(even.model) == pytest.approx(np.full(10, len(even) / 10), rel=0.05)


def test_each_models_day_swings_with_a_phase_of_its_own() -> None:
    law = generators.diurnal
    workload = law(models=5, rate=50, duration_s=86400, exponent=0, period_s=86400, swing=1.0)
    run = whole(workload)
    peaks = []
    for model in range(5):
        hours = np.bincount((run.time_s[run.model == model] // HOUR_S).astype(int), minlength=24)
        # The sine is at its bottom for a while, and twice its average at its height.
        assert hours.min() < 0.05 * hours.mean()
        assert hours.max() == pytest.approx(2 * hours.mean(), rel=0.1)
        peaks.append(int(hours.argmax()))
    assert len(set(peaks)) > 2


def test_timers_keep_their_period_and_lateness_does_not_add_up() -> None:
    law = generators.timers
    run = whole(law(models=5, periods_s=[60], duration_s=86400, jitter=0.1, calls=3))
    for model in range(5):
        times = run.time_s[run.model == model]
        assert len(times) in (1439, 1440, 1441)
        late = times - times[0] - 60 * np.arange(len(times))
        assert np.abs(late).max() <= 6
        assert late.std() > 1
    assert set(run.weight.tolist()) == {3.0}


def test_a_timer_without_jitter_is_exact() -> None:
    run = whole(generators.timers(models=1, periods_s=[7], duration_s=HOUR_S, jitter=0))
    assert np.diff(run.time_s) == pytest.approx(np.full(len(run) - 1, 7.0))


def test_bursts_are_awake_for_their_share_of_the_time() -> None:
    law = generators.bursts
    run = whole(law(models=50, rate=5, awake_s=30, asleep_s=90, duration_s=4 * HOUR_S))
    assert len(run) == pytest.approx(50 * 5 * 0.25 * 4 * HOUR_S, rel=0.05)
    # Silences: with 5 requests a second, three seconds of them are hardly ever chance.
    gaps = np.concatenate([np.diff(run.time_s[run.model == model]) for model in range(50)])
    silences = gaps[gaps > 3]
    assert silences.mean() == pytest.approx(90 + 3, rel=0.15)


def test_the_hot_set_has_its_share_and_shifts() -> None:
    law = generators.hot_set
    workload = law(models=50, rate=50, duration_s=2 * HOUR_S, hot=5, share=0.8, shift_s=HOUR_S)
    hot = []
    for hour in range(2):
        run = whole(workload.part(hour * HOUR_S, (hour + 1) * HOUR_S))
        counts = np.bincount(run.model, minlength=50)
        most = np.sort(np.argsort(counts)[-5:])
        assert counts[most].sum() / counts.sum() == pytest.approx(0.8, abs=0.02)
        hot.append(most.tolist())
    assert hot[0] != hot[1]


def test_everything_may_be_hot() -> None:
    run = whole(generators.hot_set(models=4, rate=50, duration_s=HOUR_S, hot=4))
    assert np.bincount(run.model) == pytest.approx(np.full(4, len(run) / 4), rel=0.05)


def test_a_flash_crowd_rises_to_its_peak_and_fades() -> None:
    law = generators.flash_crowd
    run = whole(
        law(models=20, rate=20, duration_s=HOUR_S, at_s=600, peak=100, rise_s=60, fade_s=300)
    )
    minutes = np.bincount((run.time_s[run.model == 19] // 60).astype(int), minlength=60)
    assert minutes[:10].mean() < 60
    assert minutes[11] > 4500
    assert minutes[16] / minutes[11] == pytest.approx(np.exp(-1), rel=0.15)
    assert len(law(models=20, rate=20, duration_s=HOUR_S, at_s=600, peak=100).names) == 20


_DIGESTS = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("laws", sys.argv[1])
laws = importlib.util.module_from_spec(spec)
spec.loader.exec_module(laws)
print(*(laws.digest(make(1)) for make in laws.LAWS.values()))
"""


def test_the_bytes_do_not_depend_on_the_hash_seed() -> None:
    told = []
    for hash_seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        ran = subprocess.run(
            [sys.executable, "-c", _DIGESTS, __file__],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        told.append(ran.stdout.split())
    here = [digest(make(1)) for make in LAWS.values()]
    assert told == [here, here, here]
