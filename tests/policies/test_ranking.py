"""What each ranking says a resident model is worth."""

import math

import pytest

from policies.demand import load_time_s
from policies.history import NOTHING, History, ModelHistory
from policies.policy import Policy, RankingName
from policies.ranking import RANKINGS, Standing
from policies.snapshot import Model
from tests.policies.world import GIB, MONDAY_S, policy_of

POLICY = policy_of(models={"dear": {"weight": 5}})


def worth(
    ranking: RankingName,
    past: ModelHistory = NOTHING,
    model: Model | None = None,
    history: History | None = None,
    policy: Policy = POLICY,
) -> float:
    chosen = model or Model("a", load_s=2.0)
    standing = Standing(chosen, past, GIB, load_time_s(chosen))
    return RANKINGS[ranking].worth(policy, standing, history or History(), MONDAY_S)


def used(per_s: float, at_s: float = MONDAY_S) -> ModelHistory:
    return ModelHistory(fast_rate=per_s, slow_rate=per_s, rate_at_s=at_s)


def cold_s(past: ModelHistory = NOTHING, model: Model | None = None) -> float:
    return worth(RankingName.EXPECTED_COLD, past, model)


def test_a_model_nobody_uses_is_worth_nothing() -> None:
    assert cold_s() == 0


def test_expected_cold_is_the_chance_of_a_request_times_the_wait_of_all_who_see_it() -> None:
    per_s = 1 / 300
    chance = 1 - math.exp(-1)
    assert cold_s(used(per_s)) == pytest.approx(chance * 2 * (1 + per_s))


def test_a_busy_model_is_worth_the_whole_queue_that_would_form() -> None:
    assert cold_s(used(10)) == pytest.approx(2 + 10 * 2 * 2 / 2)


def test_a_slow_load_is_worth_more_than_a_fast_one() -> None:
    slow, fast = Model("a", load_s=20.0), Model("a", load_s=1.0)
    assert cold_s(used(0.1), slow) > 20 * cold_s(used(0.1), fast)


def test_requests_that_wait_are_certain_and_grow_with_their_wait() -> None:
    model = Model("a", load_s=2.0, waiting=3, oldest_wait_s=4.0)
    assert cold_s(model=model) == 2 + 3 * (2 + 4)


def test_an_old_rate_is_worth_less() -> None:
    assert cold_s(used(0.01, MONDAY_S - 7200)) < cold_s(used(0.01)) / 2


def test_weight_multiplies_what_is_lost() -> None:
    plain, dear = Model("a", load_s=2.0), Model("dear", load_s=2.0)
    assert cold_s(used(1), dear) == 5 * cold_s(used(1), plain)


def test_greedy_dual_is_the_credit_above_the_clock() -> None:
    past = ModelHistory(credit=7)
    found = [worth(RankingName.GREEDY_DUAL, past, history=History(inflation=i)) for i in (0, 5, 9)]
    assert found == [7, 2, 0]


def test_lfu_counts_uses_and_lru_looks_at_the_latest() -> None:
    often, late = (
        ModelHistory(uses=9, last_use_s=MONDAY_S - 99),
        ModelHistory(uses=1, last_use_s=MONDAY_S - 9),
    )
    assert worth(RankingName.LFU, often) == 9 * worth(RankingName.LFU, late)
    assert worth(RankingName.LRU, late) == 10 * worth(RankingName.LRU, often) == 0.1
    assert worth(RankingName.LRU) == worth(RankingName.LFU) == 0


@pytest.mark.parametrize("name", list(RankingName))
def test_a_swap_pays_only_above_the_hysteresis(name: RankingName) -> None:
    ranking = RANKINGS[name]
    assert not ranking.pays(1.25, [1.0], 0.25)
    assert ranking.pays(1.26, [1.0], 0.25)
    assert ranking.pays(0.1, [], 0.25)
    assert not ranking.pays(0.0, [0.0], 0.25)


def test_worths_of_several_victims_add_up_only_where_they_are_amounts() -> None:
    adding = {name for name in RankingName if not RANKINGS[name].pays(1.5, [1.0, 1.0], 0.0)}
    assert adding == {RankingName.EXPECTED_COLD}


def test_models_leave_by_worth_for_their_bytes_only_where_worth_is_an_amount() -> None:
    per_byte = {name for name in RankingName if RANKINGS[name].density(8.0, 4) == 2}
    assert per_byte == {RankingName.EXPECTED_COLD}
    assert RANKINGS[RankingName.EXPECTED_COLD].density(8.0, 0) == 8
