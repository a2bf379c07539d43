"""What the whole fleet is asked brings models in where their requests will go, and nowhere else."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.actions import Plan, Reason
from policies.peers import Copies
from policies.planner import plan
from policies.policy import Policy
from policies.survey import Survey
from policies.units import Units
from tests.policies.timeline import asked, here, loads
from tests.policies.world import GIB, GPU, World, gpu_world, guest, policy_of


def reasons(decided: list[Plan]) -> list[tuple[str, Reason]]:
    return [(load.model, load.reason) for plan in decided for load in plan.loads]


def test_a_pod_that_has_just_started_loads_what_is_asked_for_most_as_far_as_it_fits() -> None:
    guests = [guest(f"m{rate}", 4, expected_rate=rate / 60) for rate in (1, 2, 3, 4)]
    world = gpu_world(*guests)
    decided = [world.tick(policy_of()) for _ in range(60)]
    assert reasons(decided) == [("m4", Reason.FORESEEN), ("m3", Reason.FORESEEN)]
    assert world.residents() == {"m4", "m3"}


@pytest.mark.parametrize(
    ("copies", "comes"),
    [
        (None, True),
        (Copies(rank=0), True),
        (Copies(warm=3, rank=0), True),
        (Copies(rank=1), False),
        (Copies(rank=None), False),
    ],
    ids=["alone", "ours", "ours and elsewhere", "next", "far"],
)
def test_of_all_pods_the_one_comes_in_that_requests_are_sent_to(
    copies: Copies | None, comes: bool
) -> None:
    world = gpu_world(guest("a", expected_rate=1.0, fleet=copies))
    for _ in range(5):
        world.tick(policy_of())
    assert world.residents() == ({"a"} if comes else set())


@pytest.mark.parametrize("rate", [None, 0.0, 0.003, float("nan"), float("inf"), -1.0])
def test_a_rate_that_is_unknown_or_odd_or_brings_nobody_within_the_horizon_calls_for_nothing(
    rate: float | None,
) -> None:
    world = gpu_world(guest("a", expected_rate=rate))
    assert not any(world.tick(policy_of()).actions for _ in range(5))


def test_without_prewarm_nothing_is_loaded_for_what_others_count() -> None:
    world = gpu_world(guest("a", expected_rate=1.0))
    assert not any(world.tick(policy_of(prewarm=False)).actions for _ in range(5))


def test_it_takes_the_place_of_what_is_worth_less_and_not_of_what_is_worth_more() -> None:
    policy = policy_of(residency={"minimum": 0})
    world = gpu_world(here("idle", 8), guest("a", 8, expected_rate=1.0))
    for _ in range(20):
        world.tick(policy)
    assert world.residents() == {"a"}
    world = gpu_world(here("busy", 8), guest("a", 8))
    for second in range(120):
        world.guests["a"].expected_rate = 1.0 if second > 60 else None
        asked(world, policy, "busy", times=5)
    assert world.residents() == {"busy"}


def test_one_that_has_left_is_not_brought_again_for_the_same_rate() -> None:
    policy = policy_of(residency={"minimum": 0, "cooldown": 0}, front_door={"patience": "0.1s"})
    world = gpu_world(guest("a", 8, expected_rate=0.01), guest("b", 8, waits=True))
    for _ in range(10):
        world.tick(policy)
    assert world.residents() == {"a"}
    decided = [asked(world, policy, "b"), *(world.tick(policy) for _ in range(250))]
    assert [model for model, _ in reasons(decided)] == ["b"]


def test_what_came_here_is_not_counted_twice() -> None:
    """Of two models that are asked alike, the one that others count too is worth no more."""
    policy = policy_of()
    world = gpu_world(here("a"), here("b"))
    for _ in range(120):
        asked(world, policy, "a", "b")
    snapshot = world.snapshot()
    told = replace(snapshot.models["a"], expected_rate=0.9)
    models = {**snapshot.models, "a": told}
    survey = Survey.of(
        policy, replace(snapshot, models=models), world.history, Units(policy, models)
    )
    assert survey.worth("a") == pytest.approx(survey.worth("b"), rel=0.05)


def test_a_rate_that_has_faded_leaves_a_model_where_it_is() -> None:
    world = gpu_world(guest("a", expected_rate=1.0))
    for _ in range(5):
        world.tick(policy_of())
    world.guests["a"].expected_rate = None
    assert not any(world.tick(policy_of()).actions for _ in range(30))
    assert world.residents() == {"a"}


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 12),
            st.none() | st.floats(),
            st.none() | st.builds(Copies, st.integers(0, 3), rank=st.none() | st.integers(0, 2)),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_no_rates_break_the_budget_or_an_engaged_model(
    rows: list[tuple[int, float | None, Copies | None]],
) -> None:
    policy: Policy = policy_of(residency={"minimum": 0, "cooldown": 0})
    guests = [
        guest(f"m{number}", size, expected_rate=rate, fleet=copies)
        for number, (size, rate, copies) in enumerate(rows)
    ]
    world: World = gpu_world(here("engaged", 2, leases=1), *guests)
    for _ in range(15):
        decided = world.tick(policy)
        assert all(
            model.fleet is None or model.fleet.rank == 0
            for model in (world.guests[name] for name in loads(decided))
        )
        assert world.reserved(policy, GPU) <= 10 * GIB
    assert "engaged" in world.residents()
    assert plan(policy, world.snapshot(), world.history) == plan(
        policy, world.snapshot(), world.history
    )
