"""What holds in every pod, whatever happens in it."""

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.actions import Plan
from policies.policy import Policy
from policies.snapshot import ErrorClass, Snapshot
from simulations.outcome import Outcome
from simulations.pod.run import Pod, simulate
from simulations.pod.spec import Death, FailurePlan, LoadFault, PodSpec, Restart, Silence
from simulations.workloads.arrivals import Workload
from simulations.workloads.catalogue import Profile
from tests.simulations.pod.worlds import GIB, workload

NAMES = ("a", "b", "c", "d", "e")
DURATION_S = 150.0

moments = st.floats(0, DURATION_S - 1)
names = st.sampled_from(NAMES)


@st.composite
def catalogues(draw: st.DrawFn) -> dict[str, Profile]:
    return {
        name: Profile(
            draw(st.integers(1, 8)) * GIB // 2,
            load_s=draw(st.floats(0.1, 9)),
            unload_s=draw(st.floats(0, 2)),
            service_s=draw(st.floats(0.001, 4)),
            instances=draw(st.integers(1, 2)),
            max_batch=draw(st.sampled_from((1, 1, 4))),
        )
        for name in NAMES
    }


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    return Policy.model_validate(
        {
            "budget": draw(st.integers(2, 16)) * GIB // 2,
            "ranking": draw(st.sampled_from(("expected-cold", "lru", "greedy-dual"))),
            "residency": {"minimum": draw(st.sampled_from(("0s", "30s"))), "cooldown": "0s"},
            "loads": {"concurrent": draw(st.integers(1, 6))},
            "front_door": {"wait": "20s", "waiters_per_model": draw(st.integers(1, 20))},
            "models": draw(st.sampled_from(({}, {"a": {"pin": True}}, {"a": {"weight": 5}}))),
        }
    )


@st.composite
def failure_plans(draw: st.DrawFn) -> FailurePlan:
    classes = st.sampled_from(list(ErrorClass))
    faults = st.builds(
        LoadFault, names, classes, st.just(0.0), moments, st.floats(0, 1), st.floats(0.1, 1)
    )
    silences = moments.map(lambda at_s: Silence(at_s, at_s + 10))
    return FailurePlan(
        tuple(draw(st.lists(faults, max_size=2))),
        tuple(draw(st.lists(st.builds(Restart, moments), max_size=1))),
        tuple(draw(st.lists(st.builds(Death, moments, names), max_size=2))),
        tuple(draw(st.lists(silences, max_size=1))),
    )


@st.composite
def pods(draw: st.DrawFn) -> PodSpec:
    return PodSpec(
        10 * GIB,
        gauge_s=draw(st.sampled_from((None, 0.2, 2.0))),
        channels=draw(st.integers(1, 4)),
        load_interference=draw(st.sampled_from((0.0, 1.0))),
        load_jitter=draw(st.sampled_from((0.0, 0.3))),
        leak=draw(st.sampled_from((0.0, 0.1))),
        through_envoy=draw(st.booleans()),
        client_deadline_s=draw(st.sampled_from((None, 8.0))),
        loads_known=draw(st.booleans()),
        failures=draw(failure_plans()),
    )


workloads = st.lists(st.tuples(moments, names), max_size=80).map(
    lambda asks: workload(asks, NAMES, DURATION_S)
)


def same(one: Outcome, other: Outcome) -> bool:
    """Equal to the last bit, arrays included."""
    return all(
        np.array_equal(a, b) if isinstance(a := getattr(one, each.name), np.ndarray) else a == b
        for each in fields(Outcome)
        for b in [getattr(other, each.name)]
    )


@settings(max_examples=100, deadline=None)
@given(workloads, catalogues(), policies(), pods(), st.integers(0, 9))
def test_no_request_is_lost_and_reserved_memory_stays_within_the_budget(
    load: Workload, catalogue: dict[str, Profile], policy: Policy, pod: PodSpec, seed: int
) -> None:
    out = simulate(load, catalogue, policy, pod, seed=seed, keep_stays=True)
    assert out.wait_weight.sum() + out.failed == out.requests
    assert sum(count for note, count in out.notes.items() if note.startswith("failed")) == (
        out.failed
    )
    assert out.memory_bytes.max() <= out.budget_bytes
    assert out.memory_bytes.min() >= 0
    assert (np.diff(out.memory_s) > 0).all()
    assert (out.wait_s >= 0).all()
    assert out.cold_starts <= out.cold_requests <= out.requests
    assert out.used_prewarms <= out.prewarms <= out.loads
    for stay in out.stays:
        assert stay.from_s <= stay.ready_s <= stay.to_s
    for name in NAMES:
        own = [stay for stay in out.stays if stay.model == name]
        for before, after in pairwise(own):
            assert before.to_s <= after.from_s


@settings(max_examples=100, deadline=None)
@given(workloads, catalogues(), policies(), pods(), st.integers(0, 9))
def test_ticks_that_are_thinned_out_would_have_changed_nothing(
    load: Workload, catalogue: dict[str, Profile], policy: Policy, pod: PodSpec, seed: int
) -> None:
    thinned = simulate(load, catalogue, policy, pod, seed=seed, keep_stays=True)
    every = simulate(load, catalogue, policy, pod, seed=seed, keep_stays=True, every_tick=True)
    assert same(thinned, every)


def test_thinning_changes_nothing_in_a_long_run_of_many_models() -> None:
    """Long enough for what a plan remembers of all models together to matter."""
    many = tuple(f"model-{number:02d}" for number in range(40))
    random = np.random.default_rng(5)
    at_s = np.sort(random.random(2500) * 900)
    share = 1 / np.arange(1, 41) ** 1.5
    chosen = random.choice(40, 2500, p=share / share.sum())
    load = workload([(s, many[n]) for s, n in zip(at_s, chosen, strict=True)], many, 900)
    catalogue = {name: Profile(GIB, load_s=0.5 + n / 10) for n, name in enumerate(many)}
    policy, pod = Policy(budget=30 * GIB), PodSpec(40 * GIB)
    thinned = Pod(load, catalogue, policy, pod, keep_stays=True)
    assert same(
        thinned.run(), simulate(load, catalogue, policy, pod, keep_stays=True, every_tick=True)
    )
    assert thinned.planned < thinned.ticks - 100


def test_thinning_misses_no_regular_turn_of_an_absent_model() -> None:
    """More timers than fit, with pauses in between that are long enough to rest in."""
    many = tuple(f"timer-{number:02d}" for number in range(12))
    periods_s = (240, 300, 360)
    asks = [
        (20.0 * n + at_s, name)
        for n, name in enumerate(many)
        for at_s in range(0, 3000, periods_s[n % 3])
    ]
    load = workload(asks, many, 3300)
    catalogue = {name: Profile(GIB, load_s=2.0) for name in many}
    policy, pod = Policy(budget=8 * GIB), PodSpec(10 * GIB)
    thinned = Pod(load, catalogue, policy, pod, keep_stays=True)
    every = Pod(load, catalogue, policy, pod, keep_stays=True, every_tick=True)
    outcome = thinned.run()
    assert same(outcome, every.run())
    assert thinned.history == every.history
    assert outcome.notes["load: foreseen"] > 10
    assert thinned.planned < every.planned / 2


def test_what_all_models_have_in_common_is_drawn_anew_though_nobody_asks() -> None:
    load = workload([(0.0, "a"), (20.0, "a")], NAMES, DURATION_S)
    catalogue = {name: Profile(GIB, load_s=1.0) for name in NAMES}
    thinned, every = (
        Pod(load, catalogue, Policy(budget=8 * GIB), PodSpec(10 * GIB), every_tick=every_tick)
        for every_tick in (False, True)
    )
    thinned.run()
    every.run()
    assert thinned.planned < every.planned
    assert thinned.history == every.history


@settings(max_examples=20, deadline=None)
@given(workloads, catalogues(), policies(), pods(), st.integers(0, 9))
def test_the_same_seed_gives_the_same_outcome(
    load: Workload, catalogue: dict[str, Profile], policy: Policy, pod: PodSpec, seed: int
) -> None:
    runs = [simulate(load, catalogue, policy, pod, seed=seed, keep_stays=True) for _ in range(2)]
    assert same(*runs)


@settings(max_examples=20, deadline=None)
@given(workloads, catalogues(), policies(), pods())
def test_every_snapshot_is_younger_than_the_one_before(
    load: Workload, catalogue: dict[str, Profile], policy: Policy, pod: PodSpec
) -> None:
    stamps: list[float] = []

    def look(snapshot: Snapshot, decision: Plan) -> None:
        assert set(snapshot.models) in (set(NAMES), set())
        stamps.append(snapshot.now_s)

    simulate(load, catalogue, policy, pod, on_tick=look)
    gaps = np.diff(stamps)
    assert (gaps > pod.shortest_rest_s / 2).all()
    assert gaps.max() == pytest.approx(policy.tick_s, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(30, DURATION_S - 1), names), min_size=20, max_size=80))
def test_residents_alone_need_no_whole_plan_at_every_tick(asks: list[tuple[float, str]]) -> None:
    """Thinning does thin: else the comparison above would say nothing."""
    warm = [(0.5 + n, name) for n, name in enumerate(NAMES)]
    catalogue = {name: Profile(GIB, load_s=1.0) for name in NAMES}
    pod = Pod(
        workload([*warm, *asks], NAMES, DURATION_S),
        catalogue,
        Policy(budget=8 * GIB),
        PodSpec(16 * GIB),
    )
    pod.run()
    assert pod.ticks >= DURATION_S - 1
    assert pod.planned < 50
