"""The fast replay: what a cold start costs, who waits, and that how it is cut changes nothing."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.outcome import Outcome, Stay
from simulations.residency.memory import Memory, MissingProfile, Models, Sizes, Values, lowest
from simulations.residency.named import POLICIES, UnknownPolicy, make
from simulations.residency.policy import AtMissesOnly, Decision, Wake
from simulations.residency.recency import LeastRecent
from simulations.residency.replay import replay
from simulations.workloads.arrivals import Workload, joined
from simulations.workloads.catalogue import Catalogue, Profile
from tests.simulations.residency.traffic import (
    letters,
    random_catalogue,
    random_workload,
    sized,
    workload,
)


def played(name: str, traffic: Workload, catalogue: Catalogue, budget: int) -> Outcome:
    return replay(
        traffic, catalogue, budget, make(name, catalogue, traffic, budget), keep_stays=True
    )


def figures(outcome: Outcome) -> tuple[object, ...]:
    return (
        *(outcome.requests, outcome.cold_requests, outcome.cold_starts, outcome.visible_cold_s),
        *(outcome.load_s, outcome.loads, outcome.prewarms, outcome.used_prewarms),
        *(outcome.evictions, outcome.failed, outcome.stays),
        *(outcome.memory_s.tolist(), outcome.memory_bytes.tolist()),
        sorted(zip(outcome.wait_s.tolist(), outcome.wait_weight.tolist(), strict=True)),
    )


# --- what a replay counts ------------------------------------------------------------------------


def test_first_request_loads_and_the_next_finds_it_there() -> None:
    outcome = played("lru-seldon", letters("aab"), sized(10, 10, 1, 1, load_s=[3, 5, 1, 1]), 20)
    assert (outcome.cold_starts, outcome.loads, outcome.evictions) == (2, 2, 0)
    assert (outcome.visible_cold_s, outcome.load_s) == (8, 8)
    assert (outcome.requests, outcome.cold_requests) == (3, 2)


def test_who_comes_while_the_model_would_still_be_loading_waits_the_rest() -> None:
    traffic = workload([10, 11, 14, 15, 16], [0, 0, 0, 0, 0], weights=[1, 2, 1, 1, 4])
    outcome = played("lru-seldon", traffic, sized(10, 1, 1, 1, load_s=[5, 1, 1, 1]), 20)
    waits = sorted(zip(outcome.wait_s.tolist(), outcome.wait_weight.tolist(), strict=True))
    assert waits == [(0, 5), (1, 1), (4, 2), (5, 1)]
    assert (outcome.cold_starts, outcome.cold_requests, outcome.visible_cold_s) == (1, 4, 5)
    assert outcome.wait_quantile_s(1.0) == 5


def test_weight_counts_requests_and_not_loads() -> None:
    traffic = workload([0, 100], [0, 0], weights=[7, 5])
    outcome = played("lru-seldon", traffic, sized(10, 1, 1, 1), 20)
    assert (outcome.requests, outcome.cold_requests, outcome.loads) == (12, 7, 1)


def test_model_larger_than_the_budget_fails_and_moves_nobody() -> None:
    outcome = played("lru-seldon", letters("acac"), sized(10, 10, 30, 1), 20)
    assert (outcome.failed, outcome.loads, outcome.evictions) == (2, 1, 0)


def test_stays_tell_who_was_resident_from_when_to_when() -> None:
    outcome = played("lru-seldon", letters("abab"), sized(15, 10, 1, 1, load_s=[3, 5, 1, 1]), 20)
    assert outcome.stays == (
        Stay("a", 0, 3, 100),
        Stay("b", 100, 105, 200),
        Stay("a", 200, 203, 300),
        # The workload ends before its load would have.
        Stay("b", 300, 300, 300),
    )


def test_memory_is_told_whenever_it_changes() -> None:
    outcome = played("lru-seldon", letters("abab"), sized(15, 10, 1, 1), 20)
    assert outcome.memory_s.tolist() == [0, 100, 200, 300]
    assert outcome.memory_bytes.tolist() == [15, 10, 15, 10]


def test_nothing_comes_of_nothing() -> None:
    outcome = played("lru-seldon", workload([], []), sized(1, 1, 1, 1), 20)
    assert (outcome.requests, outcome.loads, outcome.wait_quantile_s(0.99)) == (0, 0, 0)


def test_model_without_a_profile_is_named() -> None:
    with pytest.raises(MissingProfile, match="'d'"):
        played("lru-seldon", letters("a"), sized(1, 1, 1), 20)


def test_unknown_policy_is_told_which_there_are() -> None:
    with pytest.raises(UnknownPolicy, match=r"'mru'; allowed: remora, remora-no-prewarm"):
        played("mru", letters("a"), sized(1, 1, 1, 1), 20)


# --- prewarms ------------------------------------------------------------------------------------


class Prewarms(LeastRecent):
    """LRU, and at each of its moments what is written for it."""

    name = "scripted"

    def __init__(self, sizes: Sizes, script: dict[float, Wake]) -> None:
        super().__init__(sizes)
        self._script = script
        self.wake_s = min(script)

    def wake(self, time_s: float, memory: Memory) -> Wake:
        self.wake_s = min((each for each in self._script if each > time_s), default=np.inf)
        return self._script[time_s]


def prewarmed(traffic: Workload, script: dict[float, Wake]) -> Outcome:
    catalogue = sized(10, 10, 10, 10, load_s=[4, 4, 4, 4])
    policy = Prewarms(Sizes.of(traffic.names, catalogue), script)
    return replay(traffic, catalogue, 20, policy)


def test_used_prewarm_is_a_load_and_no_cold_start() -> None:
    outcome = prewarmed(workload([100], [0]), {50.0: Wake(load=(0,))})
    assert (outcome.loads, outcome.prewarms, outcome.used_prewarms) == (1, 1, 1)
    assert (outcome.load_s, outcome.visible_cold_s, outcome.cold_requests) == (4, 0, 0)


def test_who_comes_before_a_prewarm_is_through_waits_the_rest_as_one_cold_start() -> None:
    outcome = prewarmed(workload([51, 52], [0, 0]), {50.0: Wake(load=(0,))})
    assert (outcome.cold_starts, outcome.cold_requests, outcome.visible_cold_s) == (1, 2, 3)
    assert outcome.used_prewarms == 1


def test_prewarm_nobody_asks_for_costs_its_load() -> None:
    outcome = prewarmed(workload([0, 100], [0, 0]), {50.0: Wake(load=(1,)), 60.0: Wake(leave=(1,))})
    assert (outcome.prewarms, outcome.used_prewarms, outcome.load_s) == (1, 0, 8)


def test_prewarm_that_does_not_fit_does_not_happen() -> None:
    outcome = prewarmed(workload([0, 1, 100], [0, 1, 0]), {50.0: Wake(load=(2, 3))})
    assert (outcome.loads, outcome.prewarms) == (2, 0)


def test_wakes_after_the_last_arrival_still_happen() -> None:
    outcome = prewarmed(workload([0], [0], duration_s=90), {50.0: Wake(load=(1,))})
    assert outcome.prewarms == 1


def test_wake_comes_before_an_arrival_of_the_same_moment() -> None:
    outcome = prewarmed(workload([50], [0]), {50.0: Wake(load=(0,))})
    assert (outcome.prewarms, outcome.cold_starts, outcome.visible_cold_s) == (1, 1, 4)


# --- how it is cut changes nothing ---------------------------------------------------------------


@pytest.mark.parametrize("name", POLICIES)
@given(seed=st.integers(0, 2**16), models=st.integers(2, 12), share=st.floats(0.2, 1.0))
def test_runs_of_hits_decide_as_one_arrival_at_a_time(
    name: str, seed: int, models: int, share: float
) -> None:
    traffic, catalogue = random_workload(seed, 120, models), random_catalogue(seed, models)
    budget = max(40, int(share * sum(each.size_bytes for each in catalogue.values())))
    every = joined(list(traffic.runs()))
    single = workload(
        every.time_s.tolist(),
        every.model.tolist(),
        names=traffic.names,
        weights=every.weight.tolist(),
        cuts=range(1, len(every)),
    )
    assert figures(played(name, single, catalogue, budget)) == figures(
        played(name, traffic, catalogue, budget)
    )


@pytest.mark.parametrize("name", POLICIES)
@given(seed=st.integers(0, 2**16), models=st.integers(2, 12), budget=st.integers(40, 200))
def test_nobody_is_ever_over_budget(name: str, seed: int, models: int, budget: int) -> None:
    outcome = played(
        name, random_workload(seed, 120, models), random_catalogue(seed, models), budget
    )
    assert (outcome.memory_bytes <= budget).all()
    assert outcome.loads == len(outcome.stays)


@given(seed=st.integers(0, 2**16), models=st.integers(2, 12), budget=st.integers(40, 200))
def test_lru_does_what_an_ordered_dict_does(seed: int, models: int, budget: int) -> None:
    traffic, catalogue = random_workload(seed, 200, models), random_catalogue(seed, models)
    held: OrderedDict[int, int] = OrderedDict()
    loads = 0
    for model in joined(list(traffic.runs())).model.tolist():
        if model in held:
            held.move_to_end(model)
            continue
        size = catalogue[traffic.names[model]].size_bytes
        while sum(held.values()) + size > budget:
            held.popitem(last=False)
        held[model] = size
        loads += 1
    assert played("lru-seldon", traffic, catalogue, budget).loads == loads


# --- victims -------------------------------------------------------------------------------------


def victims(sizes: list[int], values: list[float], lacks: float, *, clean_up: bool) -> list[int]:
    names = tuple(str(place) for place in range(len(sizes)))
    catalogue = {name: Profile(size, 1.0) for name, size in zip(names, sizes, strict=True)}
    memory = Memory(Sizes.of(names, catalogue), sum(sizes))
    for model in range(len(sizes)):
        memory.enter(model)
    return lowest(np.arange(len(sizes)), np.array(values), memory, lacks, clean_up)


def test_lowest_values_leave_until_it_fits() -> None:
    assert victims([3, 3, 3], [2, 1, 3], 4, clean_up=False) == [1, 0]


def test_nobody_leaves_where_it_fits() -> None:
    assert victims([3, 3], [2, 1], 0, clean_up=True) == []


def test_small_victims_come_back_when_a_large_one_makes_the_room_alone() -> None:
    assert victims([1, 2, 9], [1, 2, 3], 8, clean_up=False) == [0, 1, 2]
    assert victims([1, 2, 9], [1, 2, 3], 8, clean_up=True) == [2]


def test_the_most_valuable_of_those_not_needed_comes_back_first() -> None:
    assert victims([2, 2, 9], [1, 2, 3], 10, clean_up=True) == [0, 2]


class Refuses(AtMissesOnly):
    """Refuses everything."""

    name = "refuses"

    def hits(self, models: Models, time_s: Values, weight: Values) -> None:
        raise AssertionError("nobody is resident")

    def miss(self, model: int, time_s: float, weight: float, memory: Memory) -> Decision:
        return Decision(refused=True)


def test_refused_requests_have_failed_and_cost_no_load() -> None:
    outcome = replay(letters("aab"), sized(1, 1, 1, 1), 20, Refuses())
    assert (outcome.failed, outcome.loads, outcome.cold_starts) == (3, 0, 0)
