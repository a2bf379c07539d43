"""Envoy's word on its attempts, and what anybody else may write in its place."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.frontdoor.attempts import Attempt, attempt

NOW_S = 1_767_600_000.0


def test_request_without_envoys_headers_has_just_come() -> None:
    assert attempt({}, NOW_S) == Attempt(0, NOW_S, None)


def test_envoys_attempts_share_the_moment_at_which_it_saw_the_request() -> None:
    headers = {"x-envoy-attempt-count": "4", "x-remora-began": f"{NOW_S - 2.125:.3f}"}
    assert attempt(headers, NOW_S) == Attempt(4, NOW_S - 2.125, None)


def test_time_that_envoy_grants_is_the_clients_deadline() -> None:
    second = {"x-envoy-attempt-count": "2"}
    found = attempt({**second, "x-envoy-expected-rq-timeout-ms": "2500"}, NOW_S)
    assert found.deadline_s == NOW_S + 2.5
    found = attempt({**second, "x-envoy-expected-rq-timeout-ms": "0"}, NOW_S)
    assert found.deadline_s is None


def test_nothing_is_believed_of_who_does_not_come_from_envoy() -> None:
    headers = {"x-remora-began": f"{NOW_S - 50:.3f}", "x-envoy-expected-rq-timeout-ms": "2500"}
    assert attempt(headers, NOW_S) == Attempt(0, NOW_S, None)


@pytest.mark.parametrize(
    ("headers", "is_movable"),
    [
        ({"x-remora-gateway": "1", "x-envoy-attempt-count": "2"}, True),
        ({"x-envoy-attempt-count": "2"}, False),
        # A body that Envoy could not keep, the gateway could not either.
        ({"x-remora-gateway": "1", "x-envoy-attempt-count": "1"}, False),
        ({"x-remora-gateway": "1"}, False),
    ],
)
def test_only_what_the_gateway_can_repeat_may_go_to_another_pod(
    headers: dict[str, str], is_movable: bool
) -> None:
    assert attempt(headers, NOW_S).is_movable is is_movable


@pytest.mark.parametrize(("number", "is_first"), [(0, True), (2, True), (4, False), (8, False)])
def test_first_attempt_that_reaches_us_is_envoys_second(number: int, is_first: bool) -> None:
    assert attempt({"x-envoy-attempt-count": str(number)}, NOW_S).is_first is is_first


@pytest.mark.parametrize(
    "written", ["", "-1", "+1", "1.0", "1e3", "²", "\u0661", " 1", "9" * 10, b"2"]
)
def test_what_is_no_count_is_no_attempt_of_envoys(written: str | bytes) -> None:
    assert attempt({"x-envoy-attempt-count": written}, NOW_S).number == 0


@pytest.mark.parametrize(
    "written", ["", "x", "nan", "inf", "-inf", "-5", "0", f"{NOW_S + 1}", b"\xff", "1" * 400]
)
def test_beginning_that_cannot_be_is_not_believed(written: str | bytes) -> None:
    headers = {"x-envoy-attempt-count": "2", "x-remora-began": written}
    assert attempt(headers, NOW_S).began_s == NOW_S


_written = st.text(max_size=20) | st.binary(max_size=20) | st.floats().map(str)


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(st.sampled_from(["2", "4"]) | _written, _written, _written)
@example("9" * 5000, "9" * 5000, "9" * 5000)
@example("1_000", "1_000", "1_000")
def test_nobody_can_say_anything_that_makes_a_request_wait_longer(
    number: str | bytes, began: str | bytes, expected_ms: str | bytes
) -> None:
    headers = {
        "x-envoy-attempt-count": number,
        "x-remora-began": began,
        "x-envoy-expected-rq-timeout-ms": expected_ms,
    }
    found = attempt(headers, NOW_S)
    assert 0 <= found.number < 10**9
    assert 0 < found.began_s <= NOW_S
    assert found.deadline_s is None or NOW_S < found.deadline_s < math.inf
