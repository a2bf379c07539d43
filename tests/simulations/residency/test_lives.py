"""What is worked out for many visits at once is what each visit teaches, one after the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import forecast
from policies.policy import Policy
from simulations.residency.lives import Lives
from simulations.residency.memory import Values
from simulations.residency.visits import MOST, Visits, Watch
from simulations.workloads.arrivals import Arrivals, Workload, joined
from tests.simulations.residency.traffic import random_workload, workload

WINDOWS_S = np.array(Policy().demand.visit_windows_s)


def told(watch: Watch, traffic: Workload) -> list[tuple[int, float, float]]:
    """Each visit's model, beginning and idle seconds before."""
    found: list[Visits] = []
    for run in traffic.runs():
        found += watch.stretches(run.model, run.time_s)
    return [
        visit
        for visits in found
        for visit in zip(
            visits.model.tolist(), visits.time_s.tolist(), visits.idle_s.tolist(), strict=True
        )
    ]


def one_by_one(every: Arrivals) -> list[tuple[int, float, float]]:
    visits, used_s, visited_s = [], dict[int, float](), dict[int, float]()
    for model, time_s in zip(every.model.tolist(), every.time_s.tolist(), strict=True):
        if time_s - visited_s.get(model, -np.inf) >= forecast.VISIT_S:
            visits.append((model, time_s, time_s - used_s.get(model, -np.inf)))
            visited_s[model] = time_s
        used_s[model] = time_s
    return visits


@given(seed=st.integers(0, 2**16), models=st.integers(1, 8), cut=st.integers(0, 300))
def test_visits_are_told_as_one_arrival_after_the_other_tells_them(
    seed: int, models: int, cut: int
) -> None:
    every = joined(list(random_workload(seed, 300, models).runs()))
    names = [f"model-{place}" for place in range(models)]
    traffic = workload(every.time_s.tolist(), every.model.tolist(), names=names, cuts=[cut])
    assert told(Watch(models), traffic) == one_by_one(every)


def test_no_stretch_is_longer_than_there_is_room_for_though_all_come_at_once() -> None:
    arrivals = 2 * MOST + 1
    traffic = workload([0.0] * arrivals, [place % 3 for place in range(arrivals)])
    run = next(traffic.runs())
    ends = [visits.end for visits in Watch(4).stretches(run.model, run.time_s)]
    assert ends == [MOST, 2 * MOST, arrivals]


# --- what they teach -----------------------------------------------------------------------------


class OneByOne:
    """The same of each model, from its own visits in order."""

    def __init__(self, every: Arrivals, models: int) -> None:
        self.reached = np.zeros((models, forecast.AGES))
        self.ended = np.zeros((models, forecast.AGES))
        self.rates = np.zeros((models, len(WINDOWS_S)))
        self.visited_s = np.full(models, -np.inf)
        self.used_s = np.full(models, -np.inf)
        self.used_s[every.model] = every.time_s
        for model, time_s, idle_s in one_by_one(every):
            if np.isfinite(idle_s):
                row, seconds = np.array([model]), np.array([idle_s])
                forecast.remember(self.reached, self.ended, row, seconds)
            faded = np.exp(-(time_s - self.visited_s[model]) / WINDOWS_S)
            self.rates[model] = self.rates[model] * faded + 1 / WINDOWS_S
            self.visited_s[model] = time_s

    def keep_rates(self, pool: Values, now_s: float) -> Values:
        over, held_s = forecast.life(self.reached, self.ended, pool)
        promised = forecast.promise(over, held_s, forecast.age_of(now_s - self.used_s))
        visits = forecast.visit_rate(self.rates, now_s - self.visited_s, WINDOWS_S)
        return forecast.keep_rate(promised, visits)


@pytest.fixture(scope="module")
def busy() -> Arrivals:
    """More visits than there are rows for, so that room is made for new ones."""
    models = 12
    every = joined(list(random_workload(5, 3 * MOST, models, least_gap_s=1.0).runs()))
    assert len(one_by_one(every)) > 2 * MOST + models
    return every


def test_every_moment_knows_what_all_visits_before_it_have_taught(busy: Arrivals) -> None:
    lives, models = Lives(12), np.arange(12)
    lives.begin(busy.model, busy.time_s)
    played, pool = 0, forecast.UNKNOWN
    for until in (100, 101, 150, 5_000, 5_001, len(busy)):
        lives.several(busy.model[played:until], busy.time_s[played:until])
        played, now_s = until, float(busy.time_s[until - 1])
        before = Arrivals(busy.time_s[:until], busy.model[:until], busy.weight[:until])
        expected = OneByOne(before, 12)
        # What all have in common is drawn anew once a minute, which these are apart or equal.
        if until not in (101, 5_001):
            pool = forecast.pooled(expected.reached, expected.ended)
        assert lives.keep_rates(models, now_s) == pytest.approx(
            expected.keep_rates(pool, now_s), rel=1e-12
        )


def test_cutting_traffic_into_runs_teaches_the_same(busy: Arrivals) -> None:
    whole, pieces, models = Lives(12), Lives(12), np.arange(12)
    whole.begin(busy.model, busy.time_s)
    whole.several(busy.model, busy.time_s)
    for first in range(0, len(busy), 777):
        piece = slice(first, first + 777)
        pieces.begin(busy.model[piece], busy.time_s[piece])
        pieces.several(busy.model[piece], busy.time_s[piece])
    now_s = float(busy.time_s[-1]) + 50
    assert (whole.keep_rates(models, now_s) == pieces.keep_rates(models, now_s)).all()
    assert (whole.chances(models, now_s, 600.0) == pieces.chances(models, now_s, 600.0)).all()
    assert [whole.turn_s(model) for model in range(12)] == [
        pieces.turn_s(model) for model in range(12)
    ]
