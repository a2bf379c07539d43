"""When a model will be asked for again: the life table of its idle spells, and its reading."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import forecast
from policies.forecast import AGES, EDGES_S, NO_SPELLS, UNKNOWN, Spells, age_of
from policies.history import History, ModelHistory
from policies.outlook import Outlook, outlooks, with_visit
from tests.policies.world import MONDAY_S, policy_of

POLICY = policy_of()
DAYS_S = st.floats(0, 200_000)


def after(*seconds: float) -> Spells:
    spells = NO_SPELLS
    for each in seconds:
        spells = spells.with_spell(each)
    return spells


def outlook(age_s: float, *spells_s: float, horizon_s: float = 300.0) -> Outlook:
    past = ModelHistory(
        last_use_s=MONDAY_S - age_s,
        visited_at_s=MONDAY_S - age_s,
        visit_rates=(1e-3, 1e-3, 1e-3),
        spells=after(*spells_s),
    )
    policy = policy_of(horizon=horizon_s)
    return outlooks(policy, History(models={"a": past}), ["a"], MONDAY_S)["a"]


def test_nothing_is_foreseen_of_a_model_that_was_never_used() -> None:
    assert outlooks(policy_of(), History(), ["a"], MONDAY_S) == {"a": Outlook(0.0, 0.0, 0.0)}


def test_a_timer_is_worth_most_right_before_its_turn_and_least_after_it() -> None:
    every_ten_minutes = [600.0] * 12
    early, near, missed = (outlook(age_s, *every_ten_minutes).keep_rate for age_s in (30, 580, 900))
    assert near > 2 * early
    assert missed < early


def test_the_chance_of_a_request_follows_the_spells_there_were() -> None:
    half = [60.0, 3600.0] * 10
    assert outlook(1, *half, horizon_s=100).chance == pytest.approx(0.5, abs=0.1)
    assert outlook(1, *half, horizon_s=30).chance < 0.1
    assert outlook(600, *half, horizon_s=100).chance < 0.1


def test_a_busy_spell_does_not_wash_away_what_was_known_of_long_ones() -> None:
    nights = after(*[30_000.0] * 5)
    busy = nights
    for _ in range(500):
        busy = busy.with_spell(1.0)
    night = int(age_of(np.array([30_000.0]))[0])
    assert busy.ended[night] == nights.ended[night]


def test_known_grows_with_the_spells() -> None:
    known = [outlook(10, *[60.0] * spells).known for spells in (0, 2, 20)]
    assert known[0] == 0
    assert known[1] == pytest.approx(0.5, abs=0.01)
    assert known[2] > 0.85


@given(st.lists(DAYS_S, max_size=30))
def test_no_more_spells_end_at_an_age_than_came_to_it(seconds: list[float]) -> None:
    spells = after(*seconds)
    reached, ended = spells.rows
    assert (ended <= reached + 1e-2).all()
    assert (np.diff(reached) <= 1e-2).all()


@given(st.lists(DAYS_S, max_size=12), DAYS_S, st.floats(0.1, 100_000))
def test_every_chance_lies_between_none_and_certainty(
    seconds: list[float], age_s: float, horizon_s: float
) -> None:
    found = outlook(age_s, *seconds, horizon_s=horizon_s)
    assert 0 <= found.chance <= 1
    assert 0 <= found.known < 1
    assert found.keep_rate >= 0


@given(st.lists(st.lists(DAYS_S, max_size=6), min_size=1, max_size=5), DAYS_S)
def test_models_looked_at_together_look_as_they_do_alone(
    several: list[list[float]], age_s: float
) -> None:
    rows = [after(*seconds).rows for seconds in several]
    age = age_of(np.full(1, age_s))
    together = forecast.life(
        np.stack([reached for reached, _ in rows]), np.stack([e for _, e in rows]), UNKNOWN
    )
    promised = forecast.promise(*together, np.repeat(age, len(rows)))
    for position, (reached, ended) in enumerate(rows):
        alone = forecast.life(reached[None], ended[None], UNKNOWN)
        assert forecast.promise(*alone, age)[0] == promised[position]


def test_requests_close_together_are_one_visit() -> None:
    past = with_visit(POLICY, ModelHistory(), MONDAY_S)
    for second in range(1, 5):
        assert with_visit(POLICY, past, MONDAY_S + second) is past
    again = with_visit(
        POLICY, ModelHistory(last_use_s=MONDAY_S + 4, visited_at_s=MONDAY_S), MONDAY_S + 5
    )
    assert again.visited_at_s == MONDAY_S + 5
    assert again.spells == after(1.0)


@pytest.mark.parametrize(
    ("spells_s", "is_regular"),
    [
        ([600.0] * 3, True),
        ([600.0] * 2, False),
        ([600.0, 610.0, 20.0, 590.0], True),
        ([600.0, 60.0, 6.0, 6000.0, 60_000.0], False),
        ([1.0] * 50, False),
    ],
)
def test_a_model_comes_at_regular_times_when_enough_spells_were_alike(
    spells_s: list[float], is_regular: bool
) -> None:
    turn_s = after(*spells_s).turn_s
    assert (turn_s is not None) == is_regular
    if turn_s:
        assert turn_s[0] <= 600 < turn_s[1]


def test_ages_cover_two_days_and_begin_at_nothing() -> None:
    assert EDGES_S[0] == 0
    assert EDGES_S[-1] > 2 * 86_400 * 0.9
    assert age_of(np.array([0.0, 1e9])).tolist() == [0, AGES - 1]
