"""Whatever a query gives, only plausible numbers of models that there are go on."""

import json
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.foresight.answers import HIGHEST_RATE, MOST_SERIES, WHYS, counts, rates

MODELS = frozenset({"a", "b"})
ASKED = range(60, 601, 60)

numbers = st.one_of(
    st.floats().map(str),
    st.integers().map(str),
    st.sampled_from(["NaN", "+Inf", "-Inf", "-1", "1e400", "", "one", "0", "2.5", "1" * 5000]),
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
names = st.sampled_from(["a", "b", "A", "", "a\0", "../a", "é" * 3000, "{window}"]) | st.text()
samples = st.tuples(st.sampled_from([60, 120, 1e300, -5, 61]) | st.floats(), numbers) | junk
series = st.fixed_dictionaries(
    {"metric": st.dictionaries(st.sampled_from(["model", "pod"]), names) | junk},
    optional={"value": samples, "values": st.lists(samples, max_size=4) | junk},
)


def one(model: str, value: str) -> dict[str, Any]:
    return {"metric": {"model": model}, "value": [1.0, value], "values": [[60, value]]}


@settings(deadline=None)
@given(st.lists(series | junk, max_size=8))
def test_no_answer_makes_an_error_or_a_number_that_cannot_be(answer: list[Any]) -> None:
    dropped: Counter[str] = Counter()
    for model, rate in rates(answer, "model", MODELS, dropped).items():
        assert model in MODELS
        assert 0 <= rate <= HIGHEST_RATE
    found = counts(answer, "model", MODELS, ASKED, dropped)
    assert all(0 < each <= HIGHEST_RATE * 60 for each in found.requests.tolist())
    assert set((found.from_s + 60).tolist()) <= {float(end) for end in ASKED}
    assert len(set(zip(found.model.tolist(), found.from_s.tolist(), strict=True))) == len(found)
    assert set(dropped) <= set(WHYS)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (one("c", "1"), "unknown_model"),
        ({"metric": {}, "value": [1.0, "1"]}, "no_label"),
        ({"metric": {"model": ""}, "value": [1.0, "1"]}, "no_label"),
        ({"value": [1.0, "1"]}, "malformed"),
        ("a", "malformed"),
        (one("a", "NaN"), "not_a_number"),
        (one("a", "+Inf"), "out_of_range"),
        (one("a", "-1"), "out_of_range"),
        (one("a", "1e7"), "out_of_range"),
        (one("a", "many"), "malformed"),
        ({"metric": {"model": "a"}}, "malformed"),
    ],
)
def test_what_is_not_used_is_counted_with_its_reason(answer: Any, why: str) -> None:
    dropped: Counter[str] = Counter()
    assert rates([answer, one("b", "2")], "model", MODELS, dropped) == {"b": 2.0}
    assert dropped == {why: 1}


def test_series_of_one_model_add_up() -> None:
    answer = [one("a", "1.5"), one("a", "2"), one("b", "0")]
    assert rates(answer, "model", MODELS, Counter()) == {"a": 3.5, "b": 0.0}
    found = counts(answer, "model", MODELS, ASKED, Counter())
    assert (found.model.tolist(), found.from_s.tolist()) == ([0], [0.0])
    assert found.requests.tolist() == [3.5 * 60]


def test_a_sample_of_another_time_than_was_asked_for_is_not_used() -> None:
    dropped: Counter[str] = Counter()
    answer = [{"metric": {"model": "a"}, "values": [[0, "1"], [61, "1"], [660, "1"], [600, "1"]]}]
    assert counts(answer, "model", MODELS, ASKED, dropped).from_s.tolist() == [540.0]
    assert dropped == {"out_of_range": 3}


def test_more_series_than_anybody_has_are_left_out() -> None:
    dropped: Counter[str] = Counter()
    answer = [one(f"m{number}", "1") for number in range(MOST_SERIES)] + [one("a", "1")] * 5
    assert rates(answer, "model", MODELS, dropped) == {}
    assert dropped == {"unknown_model": MOST_SERIES, "too_many_series": 5}


def test_numbers_that_only_json_of_python_knows_are_none() -> None:
    answer = json.loads('[{"metric": {"model": "a"}, "value": [NaN, Infinity]}]')
    dropped: Counter[str] = Counter()
    assert rates(answer, "model", MODELS, dropped) == {}
    assert sum(dropped.values()) == 1
    assert not math.isfinite(answer[0]["value"][1])
