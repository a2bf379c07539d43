"""Odd input leads to a hold, and the order of the input changes nothing."""

import math
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from policies.actions import Plan
from policies.forecast import Spells
from policies.history import History, ModelHistory
from policies.planner import plan
from policies.policy import Policy
from policies.snapshot import (
    HOST,
    Device,
    ErrorClass,
    Footprint,
    FootprintSource,
    LoadFailure,
    Model,
    ModelState,
    Snapshot,
)
from tests.policies.drawn import (
    CALLER,
    DEVICES,
    RANKINGS,
    REPEATABLE,
    guests,
    policies,
)
from tests.policies.promises import (
    check_engaged,
    check_shape,
)
from tests.policies.world import (
    GIB,
    GPU,
    MONDAY_S,
    Guest,
    World,
    policy_of,
)

NASTY_FLOATS = st.one_of(
    st.floats(),
    st.sampled_from((math.nan, math.inf, -math.inf, 0.0, -1.0, 1e308, 5e-324, MONDAY_S)),
)
NASTY_INTS = st.one_of(st.integers(-5, 40 * GIB), st.integers(), st.sampled_from((10**400, -1)))
NAMES = st.sampled_from(("", "a", "b", "c", "host", "x"))
DEVICE_IDS = st.sampled_from(("", HOST, GPU, "GPU-1"))
MAYBE = st.none()

FAILURES = st.builds(LoadFailure, NASTY_FLOATS, st.sampled_from(list(ErrorClass)), st.just("?"))
FOOTPRINTS = st.builds(
    Footprint, st.dictionaries(DEVICE_IDS, NASTY_INTS), st.sampled_from(list(FootprintSource))
)
MODELS = st.builds(
    Model,
    NAMES,
    state=st.sampled_from(list(ModelState)),
    footprint=MAYBE | FOOTPRINTS,
    load_s=MAYBE | NASTY_FLOATS,
    arrivals=NASTY_FLOATS,
    waiting=NASTY_INTS,
    oldest_wait_s=NASTY_FLOATS,
    in_flight=MAYBE | NASTY_INTS | NASTY_FLOATS,
    in_flight_counted=st.booleans(),
    leases=st.just(0) | NASTY_INTS,
    draining=st.booleans(),
    pending=MAYBE | NASTY_INTS,
    steps=st.lists(NAMES | st.just("nowhere"), max_size=3).map(tuple),
    stale=st.booleans(),
    sick=st.booleans(),
    forgotten=st.booleans(),
    in_repository=st.booleans(),
    revision=MAYBE | st.sampled_from(("", "1")),
    failure=MAYBE | FAILURES,
)
DEVICE_FACTS = st.builds(
    Device,
    DEVICE_IDS,
    total_bytes=MAYBE | st.just(0) | NASTY_INTS,
    used_bytes=MAYBE | NASTY_INTS,
    utilisation=MAYBE | NASTY_FLOATS,
)
SNAPSHOTS = st.builds(
    Snapshot,
    NASTY_FLOATS,
    reachable=st.sampled_from((True, True, True, False)),
    devices=st.dictionaries(DEVICE_IDS, DEVICE_FACTS),
    models=st.dictionaries(NAMES, MODELS),
)
NASTY_ROWS = st.lists(NASTY_FLOATS, max_size=3) | NASTY_FLOATS.map(lambda odd: [1.0, odd] * 31)
PASTS = st.builds(
    ModelHistory,
    fast_rate=NASTY_FLOATS,
    slow_rate=NASTY_FLOATS,
    rate_at_s=MAYBE | NASTY_FLOATS,
    uses=NASTY_FLOATS,
    last_use_s=MAYBE | NASTY_FLOATS,
    visited_at_s=MAYBE | NASTY_FLOATS,
    visit_rates=st.tuples(*[NASTY_FLOATS] * 4),
    spells=st.builds(Spells, NASTY_ROWS.map(tuple), NASTY_ROWS.map(tuple)),
    credit=NASTY_FLOATS,
    resident_since_s=MAYBE | NASTY_FLOATS,
    left_at_s=MAYBE | NASTY_FLOATS,
    unwanted_at_s=MAYBE | NASTY_FLOATS,
    restore=st.booleans(),
    failures=NASTY_INTS,
    failed_at_s=MAYBE | NASTY_FLOATS,
    error_class=MAYBE | st.sampled_from(list(ErrorClass)),
    retry_at_s=MAYBE | NASTY_FLOATS,
    revision=MAYBE | st.just("1"),
    left_for=MAYBE | NAMES,
)
HISTORIES = st.builds(
    History,
    at_s=MAYBE | NASTY_FLOATS,
    models=st.dictionaries(NAMES | st.just("nowhere"), PASTS),
    inflation=NASTY_FLOATS,
    evictions_s=st.lists(NASTY_FLOATS, max_size=3).map(tuple),
    leaving=st.frozensets(NAMES),
    pool=NASTY_ROWS.map(tuple),
    pooled_at_s=MAYBE | NASTY_FLOATS,
)


@st.composite
def odd_policies(draw: st.DrawFn) -> Policy:
    window = [{"days": ["mon"], "from": "20:00", "to": "07:00", "timezone": "America/New_York"}]
    return policy_of(
        draw(st.sampled_from((0.5, 10 * GIB))),
        ranking=draw(RANKINGS).value,
        residency={"idle_unload": draw(st.sampled_from((None, 5)))},
        churn={"evictions": draw(st.sampled_from((0, 60)))},
        loads={"peak_factor": draw(st.sampled_from((1, 1.7)))},
        models={
            "a": {"pin": draw(st.sampled_from((True, window))), "weight": 1_000_000},
            "b": {"calls": draw(st.lists(st.sampled_from(("a", "c", "nowhere")), max_size=2))},
        },
    )


@settings(REPEATABLE, max_examples=600)
@given(policy=odd_policies(), snapshots=st.lists(SNAPSHOTS, max_size=3), history=HISTORIES)
def test_odd_input_never_raises_and_never_moves_a_model_twice(
    policy: Policy, snapshots: list[Snapshot], history: History
) -> None:
    for snapshot in snapshots:
        decided = plan(policy, snapshot, history)
        check_shape(decided)
        check_engaged(snapshot, decided)
        history = decided.history


@settings(REPEATABLE, max_examples=200)
@given(policy=odd_policies(), snapshot=SNAPSHOTS, history=HISTORIES, seed=st.integers(0, 2**16))
def test_the_order_of_the_input_changes_nothing(
    policy: Policy, snapshot: Snapshot, history: History, seed: int
) -> None:
    again = plan(policy, shuffled_snapshot(snapshot, seed), shuffled_history(history, seed))
    assert spoken(plan(policy, snapshot, history)) == spoken(again)


@settings(REPEATABLE, max_examples=150)
@given(found=guests(), policy=policies(), asked=st.lists(st.integers(0, 20), max_size=8))
def test_the_order_in_which_a_world_is_listed_changes_nothing(
    found: dict[str, Guest], policy: Policy, asked: list[int]
) -> None:
    assume(all(name in found for name in policy.calls(CALLER)))
    world = World(dict.fromkeys(DEVICES, 20 * GIB), found)
    for turn, position in enumerate(asked):
        world.ask(sorted(found)[position % len(found)], 0.1 + turn)
        snapshot, history = world.snapshot(), world.history
        again = plan(policy, shuffled_snapshot(snapshot, turn), shuffled_history(history, turn))
        assert world.tick(policy) == again


def shuffled_snapshot(snapshot: Snapshot, seed: int) -> Snapshot:
    return replace(
        snapshot, devices=shuffled(snapshot.devices, seed), models=shuffled(snapshot.models, seed)
    )


def shuffled_history(history: History, seed: int) -> History:
    return replace(history, models=shuffled(history.models, seed))


def shuffled(mapping: Mapping[str, Any], seed: int) -> dict[str, Any]:
    items = sorted(mapping.items())
    Random(seed).shuffle(items)
    return dict(items)


def spoken(decided: Plan) -> tuple[str, ...]:
    """A plan in words, for what is not a number is not equal to itself."""
    history = decided.history
    rest = replace(history, models={}, leaving=frozenset())
    records = sorted((name, repr(past)) for name, past in history.models.items())
    return (
        repr(decided.actions),
        repr(decided.holds),
        repr((rest, sorted(history.leaving), records)),
    )
