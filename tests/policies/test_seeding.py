"""A pod that has only been told of the past ranks models as one that has seen it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import forecast
from policies.actions import Reason
from policies.demand import advance
from policies.forecast import NO_SPELLS, Spells
from policies.history import History
from policies.outlook import outlooks
from policies.peers import Copies
from policies.policy import Policy
from policies.seeding import Counts, remembered, seeded
from policies.snapshot import Model, Snapshot
from tests.policies.world import MONDAY_S, gpu_world, guest, policy_of

POLICY = Policy()
DAY_S = 86_400


def counted(asked: Mapping[str, Sequence[float]], step_s: int) -> Counts:
    """Moments of requests by model as somebody counts them who looks each ``step_s``."""
    names = sorted(asked)
    found = Counter(
        (row, int(at_s // step_s)) for row, name in enumerate(names) for at_s in asked[name]
    )
    return Counts(
        names,
        np.array([row for row, _ in found], np.intp),
        np.array([step * float(step_s) for _, step in found]),
        np.full(len(found), float(step_s)),
        np.array(list(found.values()), float),
    )


def seen(asked: Mapping[str, Sequence[float]], history: History | None = None) -> History:
    """What is remembered by a pod that all requests come to."""
    history = history or History()
    moments = sorted({at_s for times in asked.values() for at_s in times})
    by_moment: dict[float, list[str]] = {}
    for name, times in asked.items():
        for at_s in times:
            by_moment.setdefault(at_s, []).append(name)
    for at_s in moments:
        models = {name: Model(name) for name in asked}
        models |= {
            name: Model(name, arrivals=float(by_moment[at_s].count(name)))
            for name in by_moment[at_s]
        }
        history = advance(POLICY, Snapshot(at_s, models=models), history)
    return history


def by_chance(seed: int) -> dict[str, Sequence[float]]:
    """Two days of models that are asked every few minutes to hours, and one timer."""
    random = np.random.default_rng(seed)
    asked: dict[str, Sequence[float]] = {}
    for number, every_s in enumerate((200, 500, 1200, 3000, 8000, 20_000)):
        times = MONDAY_S + np.cumsum(random.exponential(every_s, 2 * DAY_S // every_s))
        asked[f"m{number}"] = times[times < MONDAY_S + 2 * DAY_S].tolist()
    asked["timer"] = [MONDAY_S + 17 + 1800.0 * turn for turn in range(96)]
    return asked


@pytest.mark.parametrize(("step_s", "alike"), [(60, 1.3), (300, 2.0)])
def test_what_was_counted_ranks_models_as_what_was_seen(step_s: int, alike: float) -> None:
    asked = by_chance(7)
    now_s, names = MONDAY_S + 2 * DAY_S, sorted(asked)
    live = seen(asked)
    told = seeded(POLICY, History(), remembered(POLICY, counted(asked, step_s)))
    told = advance(POLICY, Snapshot(now_s, models={n: Model(n) for n in names}), told)
    live = advance(POLICY, Snapshot(now_s, models={n: Model(n) for n in names}), live)
    ours, theirs = (outlooks(POLICY, h, names, now_s) for h in (told, live))
    for name in names:
        assert ours[name].keep_rate == pytest.approx(theirs[name].keep_rate, rel=0.5), name
        assert told.models[name].uses == live.models[name].uses
    for one, other in permutations(names, 2):
        # Models that are worth about the same may change places.
        if theirs[one].keep_rate > alike * theirs[other].keep_rate:
            assert ours[one].keep_rate > ours[other].keep_rate, (one, other)


def test_who_comes_by_chance_passes_for_no_timer_because_steps_are_long() -> None:
    """Of every ten models that are asked about once in a step, none seems to have a turn."""
    random = np.random.default_rng(5)
    asked: dict[str, Sequence[float]] = {
        f"m{number}": (MONDAY_S + np.cumsum(random.exponential(300, 500))).tolist()
        for number in range(10)
    }
    for past in remembered(POLICY, counted(asked, 300)).values():
        assert past.spells.turn_s is None


@pytest.mark.parametrize("every_s", [1800, 7200, DAY_S])
def test_a_timer_has_its_turn_however_coarsely_it_was_counted(every_s: int) -> None:
    times = [MONDAY_S + 40 + turn * every_s for turn in range(14)]
    (past,) = remembered(POLICY, counted({"timer": times}, 300)).values()
    assert past.spells.turn_s is not None
    from_s, to_s = past.spells.turn_s
    assert from_s <= every_s < to_s


def test_a_timer_of_the_day_is_prewarmed_on_the_first_day_of_a_pod() -> None:
    hours = 6 * 3600
    times = [MONDAY_S - 13 * DAY_S + hours + day * DAY_S for day in range(13)]
    world = gpu_world(guest("daily", load_s=5.0))
    world.now_s = MONDAY_S + hours - 600
    policy = policy_of()
    world.history = seeded(
        policy, world.history, remembered(policy, counted({"daily": times}, 300))
    )
    # Its age is known to an eighth of a day by then; a turn that is near is all that is asked.
    loads = [load for _ in range(600) for load in world.tick(policy).loads]
    assert [load.reason for load in loads] == [Reason.FORESEEN]
    assert world.residents() == {"daily"}

    unseeded = gpu_world(guest("daily", load_s=5.0))
    unseeded.now_s = MONDAY_S + hours - 600
    assert not [load for _ in range(600) for load in unseeded.tick(policy).loads]


@pytest.mark.parametrize(
    ("copies", "routing", "comes"),
    [
        (Copies(rank=0), "by-model", True),
        (Copies(rank=1), "by-model", False),
        (Copies(rank=None), "by-model", False),
        (Copies(rank=1), "spread", True),
    ],
)
def test_of_a_fleet_that_was_told_the_same_one_pod_prewarms(
    copies: Copies, routing: str, comes: bool
) -> None:
    times = [MONDAY_S - turn * 600 + 60 for turn in range(50, 0, -1)]
    world = gpu_world(guest("timer", load_s=5.0, fleet=copies))
    policy = policy_of(scaling={"routing": routing})
    past = remembered(policy, counted({"timer": times}, 60))
    world.history = seeded(policy, world.history, past)
    for _ in range(120):
        world.tick(policy)
    assert world.residents() == ({"timer"} if comes else set())


spells = st.lists(st.floats(1, 1e6), max_size=12)


def table(seconds: Sequence[float], before: Spells = NO_SPELLS) -> Spells:
    for each in seconds:
        (before,) = forecast.with_spells([before], np.array([each]))
    return before


@settings(deadline=None)
@given(spells, spells)
def test_spells_told_and_spells_seen_since_make_the_table_of_all(
    told: list[float], since: list[float]
) -> None:
    joined = forecast.succeeded(table(told), table(since))
    whole = table([*told, *since])
    for ours, theirs in zip(joined.rows, whole.rows, strict=True):
        # Each step of a table keeps three digits.
        np.testing.assert_allclose(ours, theirs, rtol=0.03, atol=0.05)


def test_what_was_seen_since_stands_beside_what_was_told() -> None:
    asked = by_chance(3)
    before = {n: [t for t in times if t < MONDAY_S + DAY_S] for n, times in asked.items()}
    since = {n: [t for t in times if t >= MONDAY_S + DAY_S] for n, times in asked.items()}
    told = seeded(POLICY, seen(since), remembered(POLICY, counted(before, 60)))
    whole, now_s = seen(asked), MONDAY_S + 2 * DAY_S
    for name, past in whole.models.items():
        joined = told.models[name]
        assert (joined.uses, joined.last_use_s) == (past.uses, past.last_use_s)
        assert joined.slow_rate == pytest.approx(past.slow_rate, rel=0.1)
        assert joined.visit_rates[3] == pytest.approx(past.visit_rates[3], rel=0.1)
    models = {name: Model(name) for name in asked}
    told, whole = (advance(POLICY, Snapshot(now_s, models=models), h) for h in (told, whole))
    ours, theirs = (outlooks(POLICY, h, sorted(asked), now_s) for h in (told, whole))
    for name in asked:
        assert ours[name].keep_rate == pytest.approx(theirs[name].keep_rate, rel=0.3), name


def test_what_else_is_remembered_of_a_model_stays() -> None:
    now = seen({"a": [MONDAY_S]})
    failed = replace(now.models["a"], failures=3, retry_at_s=MONDAY_S + 60, left_at_s=MONDAY_S)
    now = replace(now, models={"a": failed})
    (past,) = seeded(
        POLICY, now, remembered(POLICY, counted({"a": [MONDAY_S - DAY_S]}, 60))
    ).models.values()
    assert (past.failures, past.retry_at_s, past.left_at_s) == (3, MONDAY_S + 60, MONDAY_S)
    assert past.uses == 2


def test_nothing_that_was_told_changes_nothing() -> None:
    now = seen({"a": [MONDAY_S]})
    assert seeded(POLICY, now, remembered(POLICY, counted({"a": []}, 60))) is now


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 10_000),
            st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        ),
        unique_by=lambda row: row[:2],
    )
)
def test_no_counts_make_a_record_that_is_not_finite(rows: list[tuple[int, int, float]]) -> None:
    counts = Counts(
        ["a", "b", "c", "d"],
        np.array([model for model, _, _ in rows], np.intp),
        np.array([step * 60.0 for _, step, _ in rows]),
        np.full(len(rows), 60.0),
        np.array([min(requests, 1e9) for _, _, requests in rows]),
    )
    found = remembered(POLICY, counts)
    assert len(found) == len({model for model, _, _ in rows})
    for past in found.values():
        assert past.last_use_s is not None
        assert 0 <= past.last_use_s <= 10_001 * 60
        numbers = [past.fast_rate, past.slow_rate, past.uses, *past.visit_rates]
        assert all(np.isfinite([*numbers, *past.spells.reached, *past.spells.ended]))
        assert min(past.spells.reached, default=0) >= 0
