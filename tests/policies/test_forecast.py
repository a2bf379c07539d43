"""When a model will be asked for again: the life table of its idle spells, and its reading."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import forecast
from policies.forecast import (
    AGES,
    EDGES_S,
    NO_SPELLS,
    UNKNOWN,
    Question,
    Spells,
    age_of,
    with_spells,
)
from policies.history import History, ModelHistory
from policies.outlook import Outlook, outlooks, with_visits
from tests.policies.world import MONDAY_S, policy_of

POLICY = policy_of()
DAYS_S = st.floats(0, 200_000)


def after(*seconds: float) -> Spells:
    spells = NO_SPELLS
    for each in seconds:
        (spells,) = with_spells([spells], np.array([each]))
    return spells


def outlook(age_s: float, *spells_s: float, horizon_s: float = 300.0) -> Outlook:
    past = ModelHistory(
        last_use_s=MONDAY_S - age_s,
        visited_at_s=MONDAY_S - age_s,
        visit_rates=(1e-3, 1e-3, 1e-3, 1e-3),
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
        (busy,) = with_spells([busy], np.ones(1))
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


@given(st.lists(st.tuples(st.lists(DAYS_S, max_size=6), DAYS_S), max_size=5))
def test_spells_taken_in_together_are_remembered_as_they_are_alone(
    several: list[tuple[list[float], float]],
) -> None:
    before = [after(*seconds) for seconds, _ in several]
    together = with_spells(before, np.array([last_s for _, last_s in several]))
    assert together == [after(*seconds, last_s) for seconds, last_s in several]


@given(
    st.lists(DAYS_S, max_size=6),
    st.lists(st.tuples(st.integers(0, AGES - 1), st.sampled_from([300.0, 900.0]), st.booleans())),
)
def test_a_kept_reading_is_what_would_be_read_anew(
    seconds: list[float], asked: list[tuple[int, float, bool]]
) -> None:
    spells, pool = after(*seconds), tuple(UNKNOWN.tolist())
    for age, within_s, is_pooled in asked:
        question = Question(within_s, pool if is_pooled else ())
        (fresh,) = forecast.read([after(*seconds)], np.array([age]), question)
        assert spells.recall(age, question) in (None, fresh)
        spells.keep(age, question, fresh)
        assert spells.recall(age, question) == fresh


def test_visits_taken_in_together_are_those_taken_in_one_by_one() -> None:
    first, used = ModelHistory(), ModelHistory(last_use_s=MONDAY_S - 90)
    again = replace(used, visited_at_s=MONDAY_S - 95, visit_rates=(1.0, 0.5, 0.25, 0.125))
    still = replace(used, visited_at_s=MONDAY_S - 1)
    pasts = [first, again, still, used]
    together = with_visits(POLICY, pasts, MONDAY_S)
    assert together == [with_visits(POLICY, [past], MONDAY_S)[0] for past in pasts]
    assert [past.spells.ended != () for past in together] == [False, True, False, True]


def test_requests_close_together_are_one_visit() -> None:
    (past,) = with_visits(POLICY, [ModelHistory()], MONDAY_S)
    for second in range(1, 5):
        assert with_visits(POLICY, [past], MONDAY_S + second)[0] is past
    before = ModelHistory(last_use_s=MONDAY_S + 4, visited_at_s=MONDAY_S)
    (again,) = with_visits(POLICY, [before], MONDAY_S + 5)
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
