"""How a resident is named in a label, and which residents are."""

import re

from hypothesis import given
from hypothesis import strategies as st

from policies.labels import PREFIX, label_of, labels

# As the API server has it.
LEGAL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)")


def named(*models: str) -> set[str]:
    return {PREFIX + model for model in models}


def test_a_legal_name_is_its_own_label() -> None:
    for name in ("resnet50", "a", "bert-base.v1_onnx", "x" * 63):
        assert label_of(name) == PREFIX + name


def test_an_illegal_name_stays_readable_and_distinct() -> None:
    assert label_of("my model") == PREFIX + "my-model-76eeb051"
    assert label_of("my+model") != label_of("my model")
    assert label_of("_private").startswith(PREFIX + "private-")
    assert label_of("über") != label_of("ßber")
    assert len(label_of("x" * 64)) == len(PREFIX) + 63
    assert label_of("x" * 64) != label_of("x" * 65)


@given(st.text(min_size=1, max_size=200))
def test_every_name_has_a_legal_label(name: str) -> None:
    written = label_of(name).removeprefix(PREFIX)
    assert len(written) <= 63
    assert LEGAL.fullmatch(written)


def test_a_model_must_have_stood_before_it_is_labelled() -> None:
    assert labels({"old": 0.1, "young": 0.1}, {"young"}, (), 8) == named("old")


def test_one_that_has_its_label_keeps_it_whoever_watches() -> None:
    """A writer that has only just begun has seen nothing stand."""
    assert labels({"a": 0.1}, {"a"}, named("a"), 8) == named("a")


def test_what_is_not_resident_has_no_label() -> None:
    assert labels({"a": 0.1}, (), named("a", "gone"), 8) == named("a")


def test_the_most_asked_for_come_first() -> None:
    assert labels({"cold": 0.0, "hot": 0.5, "warm": 0.2}, (), (), 2) == named("hot", "warm")


def test_a_little_more_displaces_nobody() -> None:
    assert labels({"here": 0.2, "next": 0.3}, (), named("here"), 1) == named("here")
    assert labels({"here": 0.2, "next": 0.41}, (), named("here"), 1) == named("next")


def test_among_equals_who_has_a_label_keeps_it_and_then_the_name_decides() -> None:
    idle = dict.fromkeys(("a", "b", "c"), 0.0)
    assert labels(idle, (), named("c"), 2) == named("c", "a")


def test_none_are_wanted() -> None:
    assert labels({"a": 0.1}, (), named("a"), 0) == frozenset()


MODELS = st.sampled_from([f"m{number}" for number in range(12)])


@given(
    st.dictionaries(MODELS, st.floats(0, 10)), st.sets(MODELS), st.sets(MODELS), st.integers(0, 12)
)
def test_labels_once_written_are_right_as_long_as_nothing_happens(
    loads: dict[str, float], young: set[str], before: set[str], most: int
) -> None:
    first = labels(loads, young, named(*before), most)
    assert len(first) <= most
    assert first <= named(*loads)
    assert labels(loads, young, first, most) == first
