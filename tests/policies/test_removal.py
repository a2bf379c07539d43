"""Whose loss hurts least: the bands of the deletion cost."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.removal import COSTS, Holding, Standing, deletion_costs, removal_cost


def holding(load: float = 0.1, *, resident: bool = True, absence_s: float = 4.0) -> Holding:
    return Holding(resident, load, absence_s)


def pod(load: float | None = 0.3, **models: Holding) -> Standing:
    return Standing(load, models)


def test_the_sole_holder_of_a_hot_model_costs_most() -> None:
    pods = {
        "hot": pod(shared=holding(), hot=holding(0.5)),
        "cold": pod(shared=holding(), cold=holding(0.0)),
        "spare": pod(shared=holding()),
    }
    costs = deletion_costs(pods, {})
    assert costs == {"hot": 100, "cold": -100, "spare": -100}


def test_a_loss_costs_the_work_that_comes_while_the_model_is_absent() -> None:
    pods = {
        "a": pod(0.25, only=holding(0.5, absence_s=8.0)),
        # It was asked for the model too, and does not hold it.
        "b": pod(0.0, only=holding(0.25, resident=False)),
    }
    assert removal_cost(pods, "a") == pytest.approx(0.025 + (0.5 + 0.25) * 8.0)
    assert removal_cost(pods, "b") == 0.0


def test_a_model_that_another_holds_too_costs_only_its_load() -> None:
    pods = {"a": pod(0.5, both=holding(0.4)), "b": pod(0.0, both=holding(0.0))}
    assert removal_cost(pods, "a") == pytest.approx(0.05)


def test_the_longer_a_model_is_absent_the_more_its_loss_costs() -> None:
    pods = {"a": pod(0.0, a=holding(absence_s=2.0)), "b": pod(0.0, b=holding(absence_s=20.0))}
    assert removal_cost(pods, "b") == pytest.approx(10 * removal_cost(pods, "a"))


def test_the_only_copy_of_a_model_that_nobody_asks_for_is_worth_something() -> None:
    pods = {"a": pod(0.0, idle=holding(0.0)), "b": pod(0.0)}
    assert removal_cost(pods, "a") > removal_cost(pods, "b") == 0.0


def test_among_equals_the_busier_pod_stays() -> None:
    pods = {"a": pod(0.1, m=holding()), "b": pod(0.9, m=holding())}
    costs = deletion_costs(pods, {})
    assert costs["b"] > costs["a"]


def test_pods_that_are_much_alike_need_no_cost() -> None:
    pods = {"a": pod(0.8), "b": pod(1.0), "c": pod(1.2)}
    assert deletion_costs(pods, {}) == {"a": 0, "b": 0, "c": 0}


def test_a_small_change_at_an_edge_changes_no_band() -> None:
    # 0.65 and 1.35 of the mean: each may be in either of two bands.
    pods = {"a": pod(0.65), "b": pod(1.35)}
    for before in ({"a": 0, "b": 0}, {"a": -100, "b": 100}, {"a": -100, "b": 0}):
        assert deletion_costs(pods, dict(before)) == before


def test_a_clear_change_does() -> None:
    pods = {"a": pod(0.2), "b": pod(2.0), "c": pod(0.8)}
    assert deletion_costs(pods, {"a": 200, "b": -100, "c": 0}) == {"a": -100, "b": 100, "c": 0}


def test_what_towers_above_many_is_in_the_highest_band() -> None:
    pods = {f"p{number}": pod(0.1) for number in range(9)} | {"only": pod(0.1, m=holding(0.5))}
    assert deletion_costs(pods, {})["only"] == 200


def test_a_cost_that_is_none_of_ours_is_as_no_cost() -> None:
    pods = {"a": pod(0.65), "b": pod(1.35)}
    assert deletion_costs(pods, {"a": 7, "b": None}) == {"a": 0, "b": 0}


def test_pods_that_all_idle_need_no_cost() -> None:
    assert deletion_costs({"a": pod(0.0), "b": pod(0.0)}, {}) == {"a": 0, "b": 0}


def test_no_pods_have_no_costs() -> None:
    assert deletion_costs({}, {}) == {}


def test_an_unknown_load_counts_as_none() -> None:
    assert removal_cost({"a": pod(None)}, "a") == 0.0


_loads = st.floats(0, 100)
_pods = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(
        Standing,
        st.none() | _loads,
        st.dictionaries(
            st.sampled_from("xyz"), st.builds(Holding, st.booleans(), _loads, st.floats(0, 600))
        ),
    ),
    max_size=5,
)
_before = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([None, *COSTS, 7]))


@given(_pods, _before)
def test_settled_pods_keep_their_costs(
    pods: dict[str, Standing], before: dict[str, int | None]
) -> None:
    once = deletion_costs(pods, before)
    assert once.keys() == pods.keys()
    assert set(once.values()) <= set(COSTS)
    assert deletion_costs(pods, once) == once


@given(_pods)
def test_who_costs_more_is_never_in_a_lower_band(pods: dict[str, Standing]) -> None:
    costs = deletion_costs(pods, {})
    for one, other in permutations(pods, 2):
        if removal_cost(pods, one) > removal_cost(pods, other):
            assert costs[one] >= costs[other]


@given(_pods, _before)
def test_the_order_of_the_pods_does_not_show(
    pods: dict[str, Standing], before: dict[str, int | None]
) -> None:
    backwards = dict(reversed(pods.items()))
    assert deletion_costs(backwards, before) == deletion_costs(pods, before)
