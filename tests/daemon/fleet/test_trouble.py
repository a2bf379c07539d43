"""What is said of failures, as a timeline."""

import logging

import pytest

from daemon.fleet.trouble import Trouble


class Time:
    now_s = 1000.0


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def trouble(time: Time, caplog: pytest.LogCaptureFixture) -> Trouble:
    caplog.set_level(logging.INFO, "remora.fleet")
    return Trouble("cannot ask", lambda: time.now_s)


def test_what_lasts_is_said_once(
    trouble: Trouble, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        trouble.began("no route")
        time.now_s += 10.0
    trouble.ended()
    trouble.ended()
    assert caplog.messages == ["cannot ask, trying on: no route", "no longer: cannot ask"]


def test_what_comes_and_goes_is_said_once_a_minute(
    trouble: Trouble, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(120):
        trouble.began("no route")
        trouble.ended()
        time.now_s += 1.0
    assert len(caplog.messages) == 4


def test_what_fails_in_another_way_each_time_is_said_once_a_minute(
    trouble: Trouble, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        trouble.began(f"pod {number} is forbidden")
    assert caplog.messages == ["cannot ask, trying on: pod 0 is forbidden"]
    time.now_s += 60.0
    trouble.began("pod 7 is forbidden")
    assert caplog.messages[1:] == ["cannot ask, trying on: pod 7 is forbidden"]
