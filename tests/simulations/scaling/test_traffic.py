"""Traffic of a known rate."""

import numpy as np
import pytest

from simulations.scaling.traffic import Day, Line, Traffic
from simulations.workloads.catalogue import GIB, Profile
from tests.simulations.scaling.worlds import traffic


def test_a_line_goes_straight_between_its_points_and_jumps_where_two_are_at_one_time() -> None:
    line = Line([(0, 10), (10, 20), (10, 50), (20, 50)])
    assert line.at(np.array([0.0, 5.0, 9.0, 10.0, 15.0, 99.0])).tolist() == [10, 15, 19, 50, 50, 50]


def test_a_day_begins_with_the_least_and_has_the_most_in_its_middle() -> None:
    day = Day(10, 30, 100)
    assert day.at(np.array([0.0, 25.0, 50.0, 100.0])).tolist() == pytest.approx([10, 20, 30, 10])


def test_as_many_come_as_the_rate_says_and_when_it_says() -> None:
    found = traffic((0, 10), (300, 10), (300, 40)).arrivals()
    before = int((found.time_s < 300).sum())
    assert before == pytest.approx(3000, rel=0.05)
    assert len(found) - before == pytest.approx(12000, rel=0.03)
    assert np.all(np.diff(found.time_s) >= 0)
    assert found.time_s[-1] < 600


def test_the_seed_decides_the_arrivals() -> None:
    one, same, other = (traffic((0, 10), seed=seed).arrivals() for seed in (1, 1, 2))
    assert one.time_s.tolist() == same.time_s.tolist()
    assert one.time_s.tolist() != other.time_s.tolist()


def test_executions_vary_around_the_model_s_own() -> None:
    service_s = traffic((0, 50), service_sigma=0.5).arrivals().service_s
    assert service_s is not None
    assert float(service_s.mean()) == pytest.approx(0.1, rel=0.03)
    assert float(np.log(service_s).std()) == pytest.approx(0.5, rel=0.05)


def test_the_offered_work_is_that_of_the_model_that_fills_its_instances_most() -> None:
    catalogue = {
        "wide": Profile(GIB, 1.0, service_s=0.2, instances=4),
        "narrow": Profile(GIB, 1.0, service_s=0.1),
    }
    both = Traffic(Line([(0, 30)]), 60, {"wide": 2.0, "narrow": 1.0}, catalogue)
    # Twenty a second x 0.05 s, and ten a second x 0.1 s: one pod's work each.
    assert both.offered(15.0).tolist() == pytest.approx([1.0] * 4)
    more = Traffic(Line([(0, 30)]), 60, {"wide": 1.0, "narrow": 2.0}, catalogue)
    assert more.offered(15.0).tolist() == pytest.approx([2.0] * 4)
