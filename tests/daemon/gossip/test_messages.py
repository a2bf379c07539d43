"""What is read of a message, and what is refused: nothing that comes over a wire is believed."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.gossip.messages import (
    LARGEST_BYTES,
    MOST_LEARNED,
    DemandHint,
    LearnedModel,
    PodState,
    Refused,
    decoded,
    encoded,
)

STATE = PodState(
    run="r1",
    sequence=7,
    load=0.71,
    headroom={"GPU-a": 2**30},
    leaving=True,
    residents={"resnet": 12},
    learned={"resnet": LearnedModel(2**28, 3.5, False, 2**27)},
    place="10.1.2.3:9482",
    asked={"resnet": 64},
)


def raw(**changes: Any) -> bytes:
    return json.dumps({"version": 1, "run": "r1", "sequence": 1, **changes}).encode()


def test_a_state_comes_back_as_it_went() -> None:
    assert decoded(PodState, encoded(STATE)) == STATE


def test_what_is_at_its_default_is_not_sent() -> None:
    assert encoded(PodState(run="r", sequence=1)) == b'{"version":1,"run":"r","sequence":1}'
    assert encoded(DemandHint()) == b'{"version":1}'


def test_a_hint_may_be_an_empty_object() -> None:
    assert decoded(DemandHint, b"{}") == DemandHint(count=1.0, pods=1)


def test_keys_of_a_later_minor_form_are_left_alone() -> None:
    assert decoded(PodState, raw(colour="blue")).sequence == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"version":1',
        b"[" * 5000,
        raw(sequence=-1),
        raw(sequence=2**63),
        raw(sequence="1"),
        raw(run=""),
        raw(run="x" * 33),
        raw(load=float("nan")),
        raw(load=float("inf")),
        raw(load=-0.1),
        raw(leaving=1),
        raw(headroom={"GPU-a": -1}),
        raw(headroom={"GPU-a": 2**61}),
        raw(headroom={str(n): 1 for n in range(65)}),
        raw(residents=["a"]),
        raw(residents={"": 1}),
        raw(residents={"x" * 257: 1}),
        raw(residents={str(n): 1 for n in range(513)}),
        raw(place=""),
        raw(place="x" * 257),
        raw(asked={"a": 0}),
        raw(asked={"a": 1.5}),
        raw(learned={"a": [1, 1.0, False]}),
        raw(learned={"a": [-1, 1.0, False, None]}),
        raw(learned={"a": [1, -1.0, False, None]}),
        raw(learned={"a": [1, 1.0, False, "x"]}),
        raw(learned={str(n): [1, 1.0, False, None] for n in range(MOST_LEARNED + 1)}),
        raw(version=-1),
        raw(version="1"),
    ],
)
def test_a_malformed_state_is_refused(payload: bytes) -> None:
    with pytest.raises(Refused) as refused:
        decoded(PodState, payload)
    assert refused.value.why == "malformed"


@pytest.mark.parametrize("payload", [raw(version=2), b'{"version":2,"run":[]}'])
def test_another_version_is_told_from_a_malformed_message(payload: bytes) -> None:
    with pytest.raises(Refused) as refused:
        decoded(PodState, payload)
    assert refused.value.why == "version"


def test_what_is_too_large_is_not_even_read() -> None:
    with pytest.raises(Refused) as refused:
        decoded(PodState, b" " * (LARGEST_BYTES + 1))
    assert refused.value.why == "too_large"


def test_a_state_that_would_be_too_large_leaves_out_what_was_learned_last() -> None:
    names = [f"{n:03}" + "x" * 250 for n in range(MOST_LEARNED)]
    learned = {name: LearnedModel(1, 1.0, False, None) for name in names}
    state = PodState(run="r", sequence=1, learned=learned)
    content = encoded(state)
    assert len(content) <= LARGEST_BYTES
    kept = list(decoded(PodState, content).learned)
    assert kept == names[: len(kept)]
    assert kept


def test_residents_with_endless_names_are_cut_rather_than_not_told_at_all() -> None:
    residents = {f"{n:03}" + "ü" * 253: 10**9 for n in range(512)}
    content = encoded(PodState(run="r", sequence=1, residents=residents))
    assert len(content) <= LARGEST_BYTES
    assert len(decoded(PodState, content).residents) >= 50


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
KEYS = (
    *("version", "run", "sequence", "load", "headroom", "leaving", "residents", "learned"),
    *("place", "asked"),
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.binary(max_size=200)
    | st.dictionaries(st.sampled_from(KEYS), json_values).map(lambda d: json.dumps(d).encode())
)
def test_whatever_comes_is_read_or_refused(payload: bytes) -> None:
    for kind in (PodState, DemandHint):
        try:
            message = decoded(kind, payload)
        except Refused:
            continue
        assert decoded(kind, encoded(message)) == message
