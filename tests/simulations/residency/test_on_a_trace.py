"""What the replay finds on the trace of 500 Azure functions, as far as it is settled."""

from pathlib import Path

import pytest

from simulations.outcome import Outcome
from simulations.residency.bound import load_bound
from simulations.residency.named import make
from simulations.residency.replay import replay
from simulations.workloads import azure
from simulations.workloads.arrivals import Arrivals, Workload, joined
from simulations.workloads.catalogue import Catalogue, drawn

TRACE = Path(__file__).resolve().parents[4] / "shared/traces/azure500/invocations.csv.gz"

pytestmark = pytest.mark.skipif(not TRACE.exists(), reason="../shared/traces is not here")


@pytest.fixture(scope="module")
def whole() -> Workload:
    workload, _ = azure.load([TRACE])
    every = joined(list(workload.runs()))
    return Workload(workload.names, workload.duration_s, lambda: iter([every]))


@pytest.fixture(scope="module")
def together(whole: Workload) -> Workload:
    every: Arrivals = joined(list(whole.together(60).runs()))
    return Workload(whole.names, whole.duration_s, lambda: iter([every]))


@pytest.fixture(scope="module")
def catalogue(whole: Workload) -> Catalogue:
    return drawn(whole.names)


@pytest.fixture(scope="module")
def budget(catalogue: Catalogue) -> int:
    return sum(each.size_bytes for each in catalogue.values()) // 4


@pytest.fixture(scope="module")
def bound_s(together: Workload, catalogue: Catalogue, budget: int) -> float:
    return load_bound(together, catalogue, budget).load_s


def played(name: str, workload: Workload, catalogue: Catalogue, budget: int) -> Outcome:
    return replay(workload, catalogue, budget, make(name, catalogue, workload, budget))


def test_clairvoyant_belady_is_right_above_the_bound(
    together: Workload, catalogue: Catalogue, budget: int, bound_s: float
) -> None:
    belady = played("belady", together, catalogue, budget)
    assert bound_s <= belady.load_s <= 1.05 * bound_s


def test_ours_loads_far_less_than_the_others_and_is_near_the_bound(
    together: Workload, catalogue: Catalogue, budget: int, bound_s: float
) -> None:
    ours = played("remora-no-prewarm", together, catalogue, budget).load_s
    assert ours <= 1.15 * bound_s
    assert ours <= 0.6 * played("lru-seldon", together, catalogue, budget).load_s
    for rival in ("lru-2", "lfu", "gdsf", "faascache", "idle-histogram"):
        assert ours <= 0.9 * played(rival, together, catalogue, budget).load_s, rival


def test_prewarms_save_waiting_and_cost_loads_of_which_most_are_asked_for(
    together: Workload, catalogue: Catalogue, budget: int, bound_s: float
) -> None:
    ours = played("remora", together, catalogue, budget)
    without = played("remora-no-prewarm", together, catalogue, budget)
    assert ours.visible_cold_s <= 0.9 * without.visible_cold_s
    assert without.load_s < ours.load_s <= 1.35 * bound_s
    assert ours.used_prewarms >= 0.6 * ours.prewarms


def test_bound_of_what_arrives_together_holds_call_by_call(
    whole: Workload, catalogue: Catalogue, budget: int, bound_s: float
) -> None:
    assert bound_s <= played("belady", whole, catalogue, budget).load_s <= 1.1 * bound_s
