"""Wishes of a policy: weekly windows, and which value holds for which model."""

from datetime import UTC, datetime

import pytest

from policies.policy import Backoff, Day, ModelPolicy, Policy, Window
from policies.quantities import parse_minutes, parse_seconds
from policies.snapshot import ErrorClass


def at(day: int, clock: str) -> float:
    """A time in the week of Monday, 2025-12-01, in UTC."""
    hours, minutes = map(int, clock.split(":"))
    return datetime(2025, 12, day, hours, minutes, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("day", "clock", "is_open"),
    [(1, "07:59", False), (1, "08:00", True), (1, "17:59", True), (1, "18:00", False)],
)
def test_a_window_is_open_from_its_first_minute_to_before_its_last(
    day: int, clock: str, is_open: bool
) -> None:
    assert Window(from_=480, to=1080).open_at(at(day, clock)) is is_open


@pytest.mark.parametrize(
    ("day", "clock", "is_open"),
    [(5, "23:00", True), (6, "01:00", True), (6, "23:00", False), (5, "01:00", False)],
)
def test_a_night_belongs_to_the_day_it_begins_on(day: int, clock: str, is_open: bool) -> None:
    friday_night = Window(days=(Day.FRI,), from_=1320, to=360)
    assert friday_night.open_at(at(day, clock)) is is_open


def test_a_window_from_and_to_the_same_minute_is_open_for_a_whole_day() -> None:
    window = Window(days=(Day.MON,), from_=480, to=480)
    seen = [window.open_at(at(day, clock)) for day in (1, 2) for clock in ("07:00", "09:00")]
    assert seen == [False, True, True, False]


def test_a_window_follows_summer_time() -> None:
    window = Window(from_=480, to=540, timezone="Europe/Berlin")
    summer, winter = (datetime(2025, m, 2, 6, 30, tzinfo=UTC).timestamp() for m in (7, 12))
    assert window.open_at(summer)
    assert not window.open_at(winter)
    assert window.open_at(winter + 3600)


@pytest.mark.parametrize("now_s", [float("nan"), float("inf"), -float("inf"), -1, 1e18])
def test_a_time_no_calendar_knows_is_in_no_window(now_s: float) -> None:
    assert not Window().open_at(now_s)


def test_a_pin_is_always_never_or_by_windows() -> None:
    noon = at(1, "12:00")
    pins = (True, False, None, (Window(to=60), Window(from_=660)), ())
    assert [ModelPolicy(pin=pin).pinned_at(noon) for pin in pins] == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_a_models_own_value_holds_before_the_general_one() -> None:
    own = ModelPolicy(minimum_s=1, idle_unload_s=None, peak_factor=3, weight=4, calls=("b",))
    general = {"minimum_s": 9, "idle_unload_s": 9}
    policy = Policy.model_validate({"residency": general, "models": {"a": own}})
    assert (policy.minimum_s("a"), policy.minimum_s("b")) == (1, 9)
    assert (policy.idle_unload_s("a"), policy.idle_unload_s("b")) == (None, 9)
    assert (policy.peak_factor("a"), policy.peak_factor("b")) == (3, 1.1)
    assert (policy.weight("a"), policy.weight("b")) == (4, 1)
    assert (policy.calls("a"), policy.calls("b")) == (("b",), ())


def test_a_minimum_of_nothing_is_a_value_too() -> None:
    policy = Policy.model_validate({"models": {"a": {"minimum": 0}, "a*": {"minimum": "1h"}}})
    assert policy.minimum_s("a") == 0


def test_a_wait_grows_to_its_limit_and_stays_finite() -> None:
    backoff = Backoff(first_s=1, factor=100, max_s=10)
    assert [backoff.wait_s(failures) for failures in (-1, 0, 1, 2, 10**9)] == [1, 1, 1, 10, 10]


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_every_class_of_error_has_its_patience(error_class: ErrorClass) -> None:
    patience = Policy().loads.backoff[error_class]
    assert 0 < patience.first_s <= patience.max_s


@pytest.mark.parametrize("written", ["24:60", "8", "8:5", "noon", None, 1.5, True])
def test_what_is_no_time_of_day_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="a time of day is needed"):
        parse_minutes(written)


@pytest.mark.parametrize(
    "written", [10**400, float("nan"), float("inf"), "9" * 400, True, None, ""]
)
def test_what_is_no_finite_number_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"out of range|a number with a unit is needed"):
        parse_seconds(written)


def test_a_backoff_left_partly_unsaid_keeps_the_default_of_its_class() -> None:
    policy = Policy.model_validate({"loads": {"backoff": {"memory": {"first": "5s"}}}})
    memory = policy.loads.backoff[ErrorClass.MEMORY]
    assert (memory.first_s, memory.max_s) == (5, 3600)
    assert policy.loads.backoff[ErrorClass.CONFIG] == Policy().loads.backoff[ErrorClass.CONFIG]
