"""What each ranking says a resident model is worth."""

import math
from dataclasses import replace

import pytest

from policies.demand import load_time_s
from policies.history import NOTHING, History, ModelHistory
from policies.outlook import NO_OUTLOOK
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
    standing = Standing(chosen, past, GIB, load_time_s(chosen), NO_OUTLOOK)
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


@pytest.mark.parametrize(
    ("per_s", "waiting", "oldest_wait_s"), [(0.0, 1, 0.0), (0.0, 3, 4.0), (0.2, 2, 1.0)]
)
def test_the_moment_at_which_waiting_is_enough_is_foretold(
    per_s: float, waiting: int, oldest_wait_s: float
) -> None:
    """Worth at that moment, computed anew from those who will wait then."""
    now = Model("a", load_s=2.0, waiting=waiting, oldest_wait_s=oldest_wait_s)
    ranking = RANKINGS[RankingName.EXPECTED_COLD]
    waits_s = ranking.waits_s(
        POLICY, Standing(now, used(per_s), GIB, 2.0, NO_OUTLOOK), 30.0, MONDAY_S
    )
    assert waits_s is not None
    crowd, wait_s = waiting + per_s * waits_s, 2.0 + oldest_wait_s
    grown = crowd * (wait_s + waits_s) - waiting * wait_s
    assert grown == pytest.approx(30.0)


def test_the_waiting_of_a_dear_model_is_enough_sooner() -> None:
    ranking = RANKINGS[RankingName.EXPECTED_COLD]
    plain, dear = (
        ranking.waits_s(
            POLICY, Standing(Model(n, waiting=1), NOTHING, 1, 2.0, NO_OUTLOOK), 30.0, MONDAY_S
        )
        for n in ("a", "dear")
    )
    assert (plain, dear) == (30, 6)


def test_nothing_is_foretold_where_nobody_waits_or_waiting_counts_for_nothing() -> None:
    for name in RankingName:
        model = Model("a", waiting=0 if name is RankingName.EXPECTED_COLD else 9)
        standing = Standing(model, used(5), GIB, 2.0, NO_OUTLOOK)
        assert RANKINGS[name].waits_s(POLICY, standing, 1.0, MONDAY_S) is None


def test_who_waits_for_a_draining_model_counts_beyond_what_chance_explains_only() -> None:
    """One a second for four seconds, the tick included: four, give or take twice two."""
    waiting = Model("a", load_s=2.0, draining=True, oldest_wait_s=3.0)
    few, many = (replace(waiting, waiting=n) for n in (1 + 4 + 4, 1 + 4 + 4 + 5))
    assert cold_s(used(1), few) == 2 + 1 * 2 * 2 / 2
    assert cold_s(used(1), many) == cold_s(used(1), few) + 5 * 2


def test_worths_of_several_victims_add_up_only_where_they_are_amounts() -> None:
    assert {RANKINGS[name].price([]) for name in RankingName} == {0}
    adding = {name for name in RankingName if RANKINGS[name].price([1.0, 1.0]) == 2}
    assert adding == {RankingName.EXPECTED_COLD}


def test_models_leave_by_worth_for_their_bytes_only_where_worth_is_an_amount() -> None:
    per_byte = {name for name in RankingName if RANKINGS[name].density(8.0, 4) == 2}
    assert per_byte == {RankingName.EXPECTED_COLD}
    assert RANKINGS[RankingName.EXPECTED_COLD].density(8.0, 0) == 8
