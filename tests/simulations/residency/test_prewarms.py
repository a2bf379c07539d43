"""Our own prewarms: regular models are there for their turn, and what that costs is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.outcome import Outcome
from simulations.residency.named import make
from simulations.residency.replay import replay
from simulations.workloads.arrivals import Workload, joined
from simulations.workloads.catalogue import Catalogue
from tests.simulations.residency.traffic import random_catalogue, sized, timers, workload

EVERY_S, LOAD_S = 1800, 2.0
# Until three spells between them are remembered, nobody knows that it is a timer.
FIRST_VISITS = 4
SAME = sized(1, 1, 1, 1, load_s=[LOAD_S] * 4)
# a leaves for c, which is as large as the budget and leaves for b; then there is room again.
ROOMY = sized(1, 1, 2, 1, load_s=[LOAD_S] * 4)


def played(traffic: Workload, name: str = "remora", budget: int = 1) -> Outcome:
    return of(traffic, SAME, budget, name)


def of(traffic: Workload, catalogue: Catalogue, budget: int, name: str = "remora") -> Outcome:
    policy = make(name, catalogue, traffic, budget)
    return replay(traffic, catalogue, budget, policy, keep_stays=True)


def asked(*visits: tuple[float, int], duration_s: float | None = None) -> Workload:
    ordered = sorted(visits)
    return workload(
        [at for at, _ in ordered], [model for _, model in ordered], duration_s=duration_s
    )


def turns(model: int, count: int, *, after_s: float = 0.0) -> list[tuple[float, int]]:
    return [(after_s + EVERY_S * turn, model) for turn in range(count)]


def stays_of(model: str, outcome: Outcome) -> list[float]:
    return [stay.from_s for stay in outcome.stays if stay.model == model]


@pytest.mark.parametrize("count", [6, 12])
def test_timers_visible_cold_seconds_are_those_of_its_first_visits(count: int) -> None:
    # b takes the only place of a five minutes after each turn, and is a timer as well.
    traffic = asked(*turns(0, count), *turns(1, count, after_s=300))
    ours, without = played(traffic), played(traffic, "remora-no-prewarm")
    assert ours.visible_cold_s == 2 * FIRST_VISITS * LOAD_S
    assert without.visible_cold_s == 2 * count * LOAD_S
    assert ours.used_prewarms == 2 * (count - FIRST_VISITS)
    assert (without.prewarms, without.load_s) == (0, without.visible_cold_s)


def test_prewarm_is_no_cheaper_than_the_load_it_takes() -> None:
    traffic = asked(*turns(0, 9), *turns(1, 9, after_s=300))
    ours = played(traffic)
    assert ours.load_s == ours.visible_cold_s + ours.prewarms * LOAD_S


def test_prewarm_comes_before_the_turn_and_not_long_before() -> None:
    outcome = played(asked(*turns(0, 6), *turns(1, 6, after_s=300)))
    came_s = stays_of("a", outcome)[FIRST_VISITS]
    assert EVERY_S * FIRST_VISITS - 300 < came_s <= EVERY_S * FIRST_VISITS - LOAD_S


def test_prewarm_nobody_asks_for_is_counted_and_not_repeated() -> None:
    # a stops after its sixth turn; it is brought once more, leaves for b, and stays away.
    regular = [*turns(0, 6), *turns(1, 6, after_s=300)]
    outcome = played(asked(*regular, (12_600, 1), duration_s=50_000))
    after_its_end_s = [at for at in stays_of("a", outcome) if at > EVERY_S * 5]
    assert len(after_its_end_s) == 1
    # Two turns of a and three of b were foreseen and came; a's seventh did not.
    assert (outcome.prewarms, outcome.used_prewarms) == (6, 5)
    assert outcome.load_s == (outcome.cold_starts + 6) * LOAD_S


def test_who_is_worth_more_does_not_leave_for_a_turn() -> None:
    busy = [(turn * EVERY_S + after_s, 1) for turn in range(8) for after_s in range(300, 1790, 10)]
    outcome = played(asked(*turns(0, 8), *busy))
    assert outcome.prewarms == 0


def test_irregular_model_is_not_prewarmed_though_there_is_room() -> None:
    gaps_s = [60, 7000, 400, 2500, 150, 12_000, 1000, 5000, 30, 700]
    times_s = [float(sum(gaps_s[: place + 1])) for place in range(len(gaps_s))]
    visits = [*((at, 0) for at in times_s), (times_s[-1] + 300, 2), (times_s[-1] + 400, 1)]
    # More than two days, beyond which spells are told apart by length no more.
    outcome = of(asked(*visits, duration_s=400_000), ROOMY, 2)
    assert [stay.model for stay in outcome.stays] == ["a", "c", "b"]


def test_prewarm_takes_free_memory_without_a_swap() -> None:
    visits = asked(
        *turns(0, 5),
        (EVERY_S * 4 + 300, 2),
        (EVERY_S * 4 + 400, 1),
        *turns(0, 1, after_s=EVERY_S * 5),
    )
    outcome = of(visits, ROOMY, 2)
    assert [stay.model for stay in outcome.stays] == ["a", "c", "b", "a"]
    assert (outcome.prewarms, outcome.used_prewarms, outcome.cold_starts) == (1, 1, 3)


def one_at_a_time(traffic: Workload) -> Workload:
    every = joined(list(traffic.runs()))
    return workload(
        every.time_s.tolist(),
        every.model.tolist(),
        names=traffic.names,
        cuts=range(1, len(every)),
        duration_s=traffic.duration_s,
    )


def test_timers_of_the_property_below_are_prewarmed() -> None:
    traffic, catalogue = timers(1, 8), random_catalogue(1, 8)
    assert of(traffic, catalogue, 80).used_prewarms > 10


@given(seed=st.integers(0, 2**16), models=st.integers(2, 10), budget=st.integers(40, 120))
def test_timers_are_decided_on_alike_however_they_are_cut(
    seed: int, models: int, budget: int
) -> None:
    traffic, catalogue = timers(seed, models), random_catalogue(seed, models)
    whole, single = (of(each, catalogue, budget) for each in (traffic, one_at_a_time(traffic)))
    assert whole.stays == single.stays
    assert (whole.prewarms, whole.load_s) == (single.prewarms, single.load_s)
    assert whole.visible_cold_s == pytest.approx(single.visible_cold_s)
    assert (whole.memory_bytes <= budget).all()
