"""The bound on loads: it is one, and it is tight, as another solver of the same program says."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.residency.bound import load_bound
from simulations.residency.named import POLICIES, make
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

optimize = pytest.importorskip("scipy.optimize")


def least_load_s(asked: list[int], catalogue: list[Profile], budget: int) -> float:
    """The least seconds of loading of all ways to serve ``asked``, by trying every one of them."""

    @cache
    def rest_s(at: int, held: frozenset[int]) -> float:
        if at == len(asked):
            return 0.0
        model = asked[at]
        load_s = 0.0 if model in held else catalogue[model].load_s
        others = sorted(held - {model})
        free = budget - catalogue[model].size_bytes
        ways = (
            frozenset(other for place, other in enumerate(others) if kept >> place & 1)
            for kept in range(2 ** len(others))
        )
        fitting = (w for w in ways if sum(catalogue[o].size_bytes for o in w) <= free)
        return load_s + min(rest_s(at + 1, way | {model}) for way in fitting)

    return rest_s(0, frozenset())


def primal_load_s(traffic: Workload, catalogue: Catalogue, budget: int) -> float:
    """The same linear program the other way round: which share of each gap is held."""
    model: list[int] = joined(list(traffic.runs())).model.tolist()
    profiles = [catalogue[name] for name in traffic.names]
    latest: dict[int, int] = {}
    gaps = []
    for at, each in enumerate(model):
        if each in latest:
            gaps.append((latest[each], at))
        latest[each] = at
    every_s = sum(profiles[each].load_s for each in model)
    if not gaps:
        return every_s
    held = np.zeros((len(model), len(gaps)))
    for place, (first, last) in enumerate(gaps):
        held[first + 1 : last, place] = profiles[model[first]].size_bytes
    room = [budget - profiles[each].size_bytes for each in model]
    saved = [-profiles[model[first]].load_s for first, _ in gaps]
    found = optimize.linprog(saved, A_ub=held, b_ub=room, bounds=(0, 1), method="highs")
    assert found.success
    return every_s + float(found.fun)


@settings(deadline=None)
@given(
    asked=st.lists(st.integers(0, 3), min_size=1, max_size=14),
    sizes=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    loads=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    spare=st.integers(0, 12),
)
def test_no_way_to_serve_loads_less(
    asked: list[int], sizes: list[int], loads: list[int], spare: int
) -> None:
    budget = max(sizes) + spare
    catalogue = sized(*sizes, load_s=loads)
    traffic = workload([float(at) for at in range(len(asked))], asked)
    bound = load_bound(traffic, catalogue, budget).load_s
    assert bound <= least_load_s(asked, list(catalogue.values()), budget) + 1e-9


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**16), models=st.integers(3, 15), share=st.floats(0.2, 0.9))
def test_dual_is_within_a_hundredth_of_the_primal_and_never_above(
    seed: int, models: int, share: float
) -> None:
    traffic, catalogue = random_workload(seed, 150, models), random_catalogue(seed, models)
    budget = max(40, int(share * sum(each.size_bytes for each in catalogue.values())))
    exact = primal_load_s(traffic, catalogue, budget)
    bound = load_bound(traffic, catalogue, budget).load_s
    assert 0.99 * exact <= bound <= exact * (1 + 1e-9)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**16), budget=st.integers(40, 150))
def test_no_policy_loads_less(seed: int, budget: int) -> None:
    traffic, catalogue = random_workload(seed, 200, 9), random_catalogue(seed, 9)
    bound = load_bound(traffic, catalogue, budget).load_s
    for name in sorted(set(POLICIES) - {"lru-modelmesh"}):
        policy = make(name, catalogue, traffic, budget)
        assert replay(traffic, catalogue, budget, policy).load_s >= bound - 1e-9


def test_first_loads_are_compulsory_and_all_there_is_where_everything_fits() -> None:
    bound = load_bound(letters("abcabc"), sized(1, 1, 1, 1, load_s=[1, 2, 3, 4]), 3)
    assert (bound.load_s, bound.compulsory_s, bound.every_s) == (6, 6, 12)


def test_models_that_exclude_each_other_load_every_time() -> None:
    bound = load_bound(letters("ababab"), sized(2, 2, 1, 1), 2)
    assert bound.load_s == pytest.approx(6)


def test_two_models_of_the_same_moment_exclude_each_other_as_well() -> None:
    traffic = workload([0, 0, 5, 5, 9, 9], [0, 1, 0, 1, 0, 1])
    assert load_bound(traffic, sized(2, 2, 1, 1), 2).load_s == pytest.approx(6)
    assert load_bound(traffic, sized(1, 1, 1, 1), 2).load_s == pytest.approx(2)


def test_a_model_asked_for_again_at_once_needs_no_memory_in_between() -> None:
    assert load_bound(letters("aabbaabb"), sized(2, 2, 1, 1), 2).load_s == pytest.approx(4)


def test_model_larger_than_the_budget_is_left_out() -> None:
    assert load_bound(letters("abab"), sized(9, 2, 1, 1), 3).load_s == pytest.approx(1)


def test_what_arrives_together_has_no_higher_bound_than_the_whole() -> None:
    traffic, catalogue = random_workload(5, 300, 9), random_catalogue(5, 9)
    together = load_bound(traffic.together(30), catalogue, 60).load_s
    assert together <= primal_load_s(traffic, catalogue, 60) * (1 + 1e-9)


def test_nothing_loads_nothing() -> None:
    assert load_bound(workload([], []), sized(1, 1, 1, 1), 3).load_s == 0
