"""What gateways report between two snapshots, as timelines."""

import pytest

from daemon.demand import WAIT_STANDS_S, Demand, Missed


def test_counts_add_up_and_are_taken_once() -> None:
    demand = Demand()
    demand.report("a", 2, 0, 0.0, 10.0)
    demand.report("a", 3, 0, 0.0, 10.5)
    demand.report("b", 1, 0, 0.0, 10.5)
    assert demand.take(11.0) == {"a": Missed(5), "b": Missed(1)}
    assert demand.take(12.0) == {}


def test_models_are_told_in_order() -> None:
    demand = Demand()
    for model in ("c", "a", "b"):
        demand.report(model, 1, 0, 0.0, 0.0)
    assert list(demand.take(0.0)) == ["a", "b", "c"]


def test_a_wait_stands_and_grows_until_it_is_served() -> None:
    demand = Demand()
    demand.report("a", 1, 1, 0.5, 10.0)
    assert demand.take(10.0) == {"a": Missed(1, 1, 0.5)}
    assert demand.take(12.0) == {"a": Missed(0, 1, 2.5)}
    demand.served("a")
    assert demand.take(12.5) == {}


def test_a_wait_that_nobody_repeats_is_over() -> None:
    demand = Demand()
    demand.report("a", 0, 4, 0.0, 10.0)
    assert demand.take(10.0 + WAIT_STANDS_S)["a"].waiting == 4
    assert demand.take(10.0 + WAIT_STANDS_S + 0.1) == {}


def test_a_wait_reported_again_goes_on_from_where_it_began() -> None:
    demand = Demand()
    demand.report("a", 1, 1, 0.0, 10.0)
    demand.report("a", 0, 2, 0.0, 12.0)
    assert demand.take(12.0) == {"a": Missed(1, 2, 2.0)}
    demand.report("a", 0, 1, 9.0, 14.0)  # a gateway that knows of an older one
    assert demand.take(14.0) == {"a": Missed(0, 1, 9.0)}


def test_a_wait_that_is_over_begins_anew() -> None:
    demand = Demand()
    demand.report("a", 0, 1, 5.0, 10.0)
    demand.report("a", 0, 0, 0.0, 11.0)
    assert demand.take(11.0) == {}
    demand.report("a", 0, 1, 0.0, 12.0)
    assert demand.take(12.0) == {"a": Missed(0, 1, 0.0)}


def test_an_age_from_the_future_is_no_age() -> None:
    demand = Demand()
    demand.report("a", 0, 1, -5.0, 10.0)
    assert demand.take(10.0)["a"].oldest_wait_s == 0.0


def test_a_served_model_keeps_its_count() -> None:
    demand = Demand()
    demand.report("a", 3, 1, 0.0, 10.0)
    demand.served("a")
    demand.served("never heard of")
    assert demand.take(10.0) == {"a": Missed(3)}


def test_only_the_first_word_of_a_model_is_news() -> None:
    demand = Demand()
    assert demand.report("a", 1, 1, 0.0, 10.0)
    assert not demand.report("a", 1, 1, 0.0, 10.1)
    assert demand.report("b", 1, 0, 0.0, 10.1)
    demand.take(10.2)
    assert not demand.report("a", 1, 1, 0.0, 10.3)  # still waiting
    assert demand.report("b", 1, 0, 0.0, 10.3)


@pytest.mark.parametrize("count", [0, -3])
def test_a_report_of_nothing_is_no_news_and_leaves_nothing(count: float) -> None:
    demand = Demand()
    assert not demand.report("a", count, 0, 0.0, 10.0)
    assert demand.take(10.0) == {}
