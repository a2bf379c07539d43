"""Each rival by what tells it from the others; budgets are so small that one has to leave."""

from dataclasses import replace

import numpy as np
import pytest

from policies.history import History, ModelHistory
from policies.outlook import outlooks, with_pool, with_visits
from policies.policy import Policy
from simulations.outcome import Outcome
from simulations.residency.clairvoyant import BestStatic
from simulations.residency.lives import Lives
from simulations.residency.memory import Sizes
from simulations.residency.named import make
from simulations.residency.replay import replay
from simulations.workloads.arrivals import Workload, joined
from simulations.workloads.catalogue import Catalogue
from tests.simulations.residency.traffic import (
    letters,
    random_catalogue,
    random_workload,
    sized,
    workload,
)

SAME = sized(1, 1, 1, 1)


def played(name: str, traffic: Workload, catalogue: Catalogue, budget: int) -> Outcome:
    policy = make(name, catalogue, traffic, budget)
    return replay(traffic, catalogue, budget, policy, keep_stays=True)


def loaded(name: str, asked: str, catalogue: Catalogue = SAME, budget: int = 2) -> str:
    """Which models were loaded, in order, when ``asked`` came one after the other."""
    stays = played(name, letters(asked), catalogue, budget).stays
    return "".join(stay.model for stay in stays)


# --- by recency ----------------------------------------------------------------------------------


def test_lru_lets_the_least_recent_go_however_often_it_was_asked_for() -> None:
    assert loaded("lru-seldon", "aaabca") == "abca"


def test_lru_2_keeps_who_was_asked_for_twice_of_late() -> None:
    assert loaded("lru-2", "aabcab") == "abcb"


def test_lru_2_remembers_who_has_left() -> None:
    # b leaves for c and comes back. It was then asked for twice, and the last time but one is
    # later than that of a, which therefore leaves when c comes back.
    assert loaded("lru-2", "aabcbaca") == "abcbca"


def test_modelmesh_refuses_to_evict_the_young() -> None:
    catalogue = sized(1, 1, 1, 1, load_s=[20, 20, 20, 20])
    # The least recent was used 200 s ago and 100 s ago: less than ten loads of 20 s is too young.
    old = played("lru-modelmesh", letters("abc"), catalogue, 2)
    young = played("lru-modelmesh", letters("abc", every_s=90), catalogue, 2)
    assert (old.loads, old.failed) == (3, 0)
    assert (young.loads, young.failed, young.evictions) == (2, 1, 0)


# --- by frequency --------------------------------------------------------------------------------


def test_lfu_lets_the_least_frequent_go_however_recent() -> None:
    assert loaded("lfu", "aaabca") == "abc"


def test_lfu_counts_requests_by_weight() -> None:
    traffic = workload([0, 100, 200, 300, 400], [0, 1, 1, 2, 0], weights=[5, 1, 1, 1, 1])
    assert [stay.model for stay in played("lfu", traffic, SAME, 2).stays] == ["a", "b", "c"]


def test_gdsf_lets_the_large_go_before_the_small() -> None:
    sizes = sized(5, 1, 3, 3)
    assert loaded("gdsf", "baca", sizes, 8) == "baca"
    assert loaded("lru-seldon", "baca", sizes, 8) == "bac"


def test_faascache_keeps_what_is_dear_to_load_where_gdsf_does_not() -> None:
    catalogue = sized(5, 1, 3, 3, load_s=[90, 1, 1, 1])
    assert loaded("gdsf", "baca", catalogue, 8) == "baca"
    assert loaded("faascache", "baca", catalogue, 8) == "bac"


def test_greedy_dual_overtakes_who_was_popular_long_ago() -> None:
    asked = "a" * 9 + "bcd" * 4
    assert loaded("lfu", asked + "a") == "abcd" + "bcd" * 3
    assert loaded("faascache", asked + "a").endswith("a")


# --- with hindsight ------------------------------------------------------------------------------


def test_belady_lets_go_who_comes_back_last() -> None:
    assert loaded("belady", "abcab") == "abcb"


def test_belady_weighs_the_way_by_size_and_load() -> None:
    # b comes back later, but costs thirty times as much.
    catalogue = sized(1, 1, 1, 1, load_s=[1, 30, 1, 1])
    assert loaded("belady", "abcab", catalogue) == "abca"


def test_belady_is_not_led_astray_by_models_that_never_fit() -> None:
    assert loaded("belady", "adbdcdab", sized(1, 1, 1, 9)) == "abcb"


@pytest.mark.parametrize("seed", range(5))
def test_best_static_set_is_that_of_all_sets(seed: int) -> None:
    traffic, catalogue = random_workload(seed, 200, 8), random_catalogue(seed, 8)
    sizes = Sizes.of(traffic.names, catalogue)
    budget = int(0.6 * sizes.size_bytes.sum())
    model = joined(list(traffic.runs())).model
    fresh = model[np.concatenate(([True], model[1:] != model[:-1]))]
    saved = np.bincount(fresh, minlength=8) * sizes.load_s

    def worth(kept: int) -> float:
        held = (kept >> np.arange(8) & 1).astype(np.bool_)
        beside = sizes.size_bytes[~held].max(initial=0)
        # The room is one of the sizes, chosen at quantiles, so that not every set can be found.
        rooms = np.quantile(sizes.size_bytes, (0.5, 0.75, 0.9, 0.97, 1.0), method="higher")
        room = min(rooms[rooms >= beside], default=np.inf)
        return float(saved[held].sum()) if sizes.size_bytes[held].sum() + room <= budget else -1.0

    best = BestStatic(sizes, traffic, budget).kept
    assert saved[best].sum() == max(worth(kept) for kept in range(1, 2**8))


def test_static_set_never_leaves() -> None:
    outcome = played("static", letters("abcacbadcabab"), SAME, 3)
    stays = [stay.model for stay in outcome.stays]
    assert (stays.count("a"), stays.count("b")) == (1, 1)
    assert stays.count("c") > 1


# --- by the clock --------------------------------------------------------------------------------


def test_idle_histogram_prewarms_a_timer_that_had_to_leave() -> None:
    # a comes every half an hour. b takes its place for some minutes, in which it is told that b
    # comes every minute or not at all, so that the room is free when a's next turn is near.
    every_half_hour = [(at, 0) for at in range(0, 18001, 1800)]
    meanwhile = [(18300, 1), (18360, 1), (18420, 1), (18480, 1)]
    asked = [*every_half_hour, *meanwhile, (19800, 0)]
    traffic = workload([at for at, _ in asked], [model for _, model in asked])
    outcome = played("idle-histogram", traffic, SAME, 1)
    assert [stay.model for stay in outcome.stays] == ["a", "b", "a"]
    assert (outcome.prewarms, outcome.used_prewarms, outcome.cold_starts) == (1, 1, 2)
    # The 27th minute, a tenth before the 30th.
    assert outcome.stays[-1].from_s == pytest.approx(18000 + 27 * 60, abs=10)


def test_idle_histogram_lets_go_first_whose_keep_alive_has_ended() -> None:
    # b came every minute and then stopped. Of a, which came once, nothing of that kind is known.
    times_s = [0, *range(60, 361, 60), 3000, 3010]
    traffic = workload(times_s, [0, *[1] * 6, 2, 0])
    assert [stay.model for stay in played("idle-histogram", traffic, SAME, 2).stays] == list("abc")
    assert [stay.model for stay in played("lru-seldon", traffic, SAME, 2).stays] == list("abca")


# --- ours ----------------------------------------------------------------------------------------


def test_remora_keeps_the_timer_whose_turn_is_near() -> None:
    # a comes every 100 s and b every 1000 s. When c takes a place, b was here last and a is next.
    turns = [*((at, 0) for at in range(0, 3001, 100)), *((at, 1) for at in range(50, 3051, 1000))]
    asked = [*sorted(turns), (3060, 2), (3100, 0)]
    traffic = workload([at for at, _ in asked], [model for _, model in asked])
    assert [stay.model for stay in played("remora", traffic, SAME, 2).stays] == list("abc")
    assert [stay.model for stay in played("lru-seldon", traffic, SAME, 2).stays] == list("abca")


def test_remora_forecasts_as_the_production_plan_does() -> None:
    traffic = random_workload(3, 400, 6, least_gap_s=1.0)
    every = joined(list(traffic.runs()))
    now_s = float(every.time_s[-1]) + 20
    lives = Lives(len(traffic.names))
    lives.begin(every.model, every.time_s)
    lives.several(every.model, every.time_s)
    simulated = lives.keep_rates(np.arange(6), now_s)

    pasts = dict.fromkeys(traffic.names, ModelHistory())
    for model, time_s in zip(every.model.tolist(), every.time_s.tolist(), strict=True):
        name = traffic.names[model]
        (past,) = with_visits(Policy(), [pasts[name]], time_s)
        pasts[name] = replace(past, last_use_s=time_s)
    history = with_pool(History(at_s=now_s, models=pasts))
    planned = outlooks(Policy(), history, traffic.names, now_s)
    # Production keeps three digits of what it remembers.
    expected = [planned[name].keep_rate for name in traffic.names]
    assert simulated == pytest.approx(expected, rel=0.02)
