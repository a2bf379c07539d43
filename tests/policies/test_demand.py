"""What is remembered of requests, residency and failures, and what counts as wanting."""

import math
from dataclasses import fields, replace

import pytest

from policies.demand import PRIOR_START_S, advance, is_wanted, load_time_s, rates
from policies.history import NOTHING, History, ModelHistory
from policies.snapshot import ErrorClass, Footprint, FootprintSource, LoadFailure, Model, Snapshot
from policies.work import Work
from tests.policies.world import (
    GPU,
    LOADING,
    MONDAY_S,
    READY,
    UNLOADED,
    UNLOADING,
    policy_of,
)

POLICY = policy_of()
FAST_S = POLICY.demand.fast_s


def seen(*models: Model, at_s: float = 0.0, reachable: bool = True) -> Snapshot:
    return Snapshot(MONDAY_S + at_s, reachable, models={model.name: model for model in models})


def after(*snapshots: Snapshot, history: History | None = None) -> History:
    history = history or History()
    for snapshot in snapshots:
        history = advance(POLICY, snapshot, history)
    return history


def test_a_request_adds_its_share_of_each_window_and_decays() -> None:
    past = after(seen(Model("a", arrivals=6))).models["a"]
    assert rates(POLICY, past, MONDAY_S) == pytest.approx((6 / 60, 6 / 3600), rel=1e-5)
    fast, slow = rates(POLICY, past, MONDAY_S + FAST_S)
    assert fast == pytest.approx(6 / 60 / math.e, rel=1e-5)
    assert slow == pytest.approx(6 / 3600 * math.exp(-60 / 3600), rel=1e-5)


def test_a_steady_rate_is_found() -> None:
    history = after(*(seen(Model("a", arrivals=3), at_s=t) for t in range(600)))
    assert rates(POLICY, history.models["a"], MONDAY_S + 599)[0] == pytest.approx(3, rel=0.02)


def test_a_clock_that_goes_back_does_not_grow_a_rate() -> None:
    past = after(seen(Model("a", arrivals=6), at_s=100)).models["a"]
    assert rates(POLICY, past, MONDAY_S) == pytest.approx((6 / 60, 6 / 3600), rel=1e-5)


def test_a_quiet_model_keeps_the_very_same_record() -> None:
    first = after(seen(Model("a", READY, arrivals=6), Model("b", READY)))
    second = after(seen(Model("a", READY), Model("b", READY), at_s=1), history=first)
    assert second.models["a"] is first.models["a"]
    assert second.models["b"] is first.models["b"]
    assert second.at_s == MONDAY_S + 1


def test_a_use_changes_what_it_says_and_nothing_else() -> None:
    # Every field holds something other than its default, so that none can be forgotten.
    past = ModelHistory(
        **{each.name: f"some {each.name}" for each in fields(ModelHistory)}  # type: ignore[arg-type]
    )
    said = {"fast_rate": 1.0, "slow_rate": 2.0, "uses": 3.0, "credit": 4.0}
    work = Work(5.0)
    expected = replace(past, **said, work=work, rate_at_s=5.0, last_use_s=5.0)  # type: ignore[arg-type]
    assert past.used(5.0, **said, work=work) == expected


def test_a_model_of_which_nothing_happened_has_no_record() -> None:
    assert after(seen(Model("a"))).models == {}


def test_an_unreachable_triton_teaches_nothing() -> None:
    history = after(seen(Model("a", READY)))
    blind = seen(Model("a", UNLOADED, arrivals=5), at_s=1, reachable=False)
    assert after(blind, history=history) is history


@pytest.mark.parametrize("arrivals", [math.nan, math.inf, -3.0])
def test_impossible_arrivals_leave_no_trace_in_the_rates(arrivals: float) -> None:
    history = after(seen(Model("a", READY, arrivals=arrivals)))
    assert rates(POLICY, history.models["a"], MONDAY_S) == (0, 0)


def test_requests_through_callers_are_the_callers() -> None:
    models = (
        Model("e", arrivals=4, steps=("s", "t", "s")),
        Model("s", arrivals=4),
        Model("t", arrivals=5),
    )
    history = after(seen(*models))
    assert {name: past.uses for name, past in history.models.items()} == {"e": 4, "t": 1}


def test_requests_through_several_callers_add_up_the_same_in_any_order() -> None:
    callers = [
        Model(n, arrivals=a, steps=("s",)) for n, a in zip("abc", (0.1, 0.2, 0.3), strict=True)
    ]
    step = Model("s", arrivals=0.7)
    assert after(seen(*callers, step)) == after(seen(step, *reversed(callers)))


def test_a_record_outlives_its_model_as_long_as_its_rates_mean_anything() -> None:
    history = after(seen(Model("a", arrivals=1)))
    assert "a" in after(seen(at_s=3599), history=history).models
    assert "a" not in after(seen(at_s=3601), history=history).models


# --- wanting


def wanted(model: Model, past: ModelHistory, at_s: float = 0.0) -> bool:
    return is_wanted(POLICY, model, past, MONDAY_S + at_s)


def test_a_model_is_wanted_by_requests_that_wait_or_came_of_late() -> None:
    lately = ModelHistory(last_use_s=MONDAY_S)
    assert wanted(Model("a", waiting=1), NOTHING)
    assert not wanted(Model("a"), NOTHING)
    assert wanted(Model("a"), lately, at_s=30)
    assert not wanted(Model("a"), lately, at_s=31)


def test_requests_it_has_served_itself_do_not_call_a_model_back() -> None:
    history = after(
        seen(Model("a", READY, arrivals=3)),
        seen(Model("a", UNLOADING, in_flight=2), at_s=1),
        seen(Model("a", UNLOADING, in_flight=1), at_s=2),
        seen(Model("a", UNLOADED), at_s=3),
    )
    assert not wanted(Model("a"), history.models["a"], at_s=3)
    asked_again = after(seen(Model("a", arrivals=1), at_s=4), history=history)
    assert wanted(Model("a"), asked_again.models["a"], at_s=4)


# --- residency


def test_residency_begins_when_it_is_seen_and_ends_when_it_is_not() -> None:
    history = after(
        seen(Model("a", LOADING)), seen(Model("a", READY), at_s=5), seen(Model("a", READY), at_s=9)
    )
    assert history.models["a"].resident_since_s == MONDAY_S + 5
    gone = after(seen(Model("a", UNLOADING), at_s=12), history=history).models["a"]
    assert (gone.resident_since_s, gone.left_at_s) == (None, MONDAY_S + 12)
    assert not gone.restore


def test_what_a_restart_took_is_to_be_restored_until_it_is_back() -> None:
    history = after(seen(Model("a", READY)), seen(Model("a", UNLOADED, forgotten=True), at_s=1))
    assert history.models["a"].restore
    assert not after(seen(Model("a", READY), at_s=2), history=history).models["a"].restore


def test_what_was_not_resident_is_not_restored() -> None:
    assert after(seen(Model("a", UNLOADED, forgotten=True))).models == {}


# --- failures


def broken(at_s: float, error_class: ErrorClass = ErrorClass.CONFIG, **traits: str) -> Model:
    return Model("a", failure=LoadFailure(MONDAY_S + at_s, error_class), **traits)  # type: ignore[arg-type]


def test_each_failure_is_counted_once_and_waited_out_longer() -> None:
    once = after(seen(broken(0)), seen(broken(0), at_s=1)).models["a"]
    assert (once.failures, once.retry_at_s) == (1, MONDAY_S + 30)
    twice = after(seen(broken(0)), seen(broken(31), at_s=31)).models["a"]
    assert (twice.failures, twice.retry_at_s) == (2, MONDAY_S + 31 + 60)


def test_tritons_own_absence_is_waited_out_and_not_counted() -> None:
    past = after(seen(broken(0, ErrorClass.UNAVAILABLE))).models["a"]
    assert (past.failures, past.retry_at_s) == (0, MONDAY_S + 1)


def test_the_first_sight_of_files_forgives_nothing_and_a_change_does() -> None:
    history = after(seen(broken(0)), seen(broken(0, revision="1"), at_s=1))
    assert history.models["a"].failures == 1
    changed = after(seen(broken(0, revision="2"), at_s=2), history=history).models["a"]
    assert (changed.failures, changed.retry_at_s) == (0, None)


def test_a_sick_model_earns_no_forgiveness() -> None:
    history = after(seen(broken(0)), seen(Model("a", READY), at_s=1))
    sick = after(seen(Model("a", READY, sick=True), at_s=500), history=history)
    assert sick.models["a"].failures == 1
    assert after(seen(Model("a", READY), at_s=500), history=history).models["a"].failures == 0


# --- times of loads


def test_a_learned_load_time_holds_before_a_guess_from_the_size() -> None:
    sized = Model("a", footprint=Footprint({GPU: 4 * 10**9}, FootprintSource.MEASURED))
    assert load_time_s(replace(sized, load_s=7.0)) == 7
    assert load_time_s(sized) == PRIOR_START_S + 2
    assert load_time_s(Model("a")) == PRIOR_START_S


@pytest.mark.parametrize("load_s", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_load_time_is_not_believed(load_s: float) -> None:
    assert load_time_s(Model("a", load_s=load_s)) == PRIOR_START_S


def test_evictions_are_remembered_for_the_churn_window_only() -> None:
    window_s = POLICY.churn.window_s
    history = History(evictions_s=(MONDAY_S, MONDAY_S + 1))
    assert after(seen(at_s=window_s), history=history).evictions_s == (MONDAY_S + 1,)
