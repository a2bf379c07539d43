"""The search behind the bound, on functions whose minimum is known."""

import numpy as np
import pytest

from simulations.residency.descent import Floats, minimum


def test_minimum_of_a_bowl_is_its_bottom() -> None:
    scale, bottom = np.array([1.0, 100.0, 0.01]), np.array([3.0, 0.5, 7.0])

    def bowl(x: Floats) -> tuple[float, Floats]:
        return float(np.sum(scale * (x - bottom) ** 2)), 2 * scale * (x - bottom)

    assert minimum(bowl, np.zeros(3), 100) == pytest.approx(bottom, abs=1e-4)


def test_minimum_outside_is_sought_along_the_border() -> None:
    # x·y pulls y up where x is held at 0.
    def slanted(x: Floats) -> tuple[float, Floats]:
        value = (x[0] + 2) ** 2 + (x[1] - 1) ** 2 + x[0] * x[1]
        return float(value), np.array([2 * (x[0] + 2) + x[1], 2 * (x[1] - 1) + x[0]])

    assert minimum(slanted, np.array([5.0, 5.0]), 100) == pytest.approx([0, 1], abs=1e-6)


def test_curved_valley_is_followed_to_its_end() -> None:
    def rosenbrock(x: Floats) -> tuple[float, Floats]:
        off = x[1] - x[0] ** 2
        gradient = np.array([-400 * x[0] * off - 2 * (1 - x[0]), 200 * off])
        return float(100 * off**2 + (1 - x[0]) ** 2), gradient

    assert minimum(rosenbrock, np.array([0.2, 2.0]), 200) == pytest.approx([1, 1], abs=1e-4)


def test_no_steps_leave_the_start_where_it_is_allowed() -> None:
    def flat(x: Floats) -> tuple[float, Floats]:
        return 0.0, np.zeros_like(x)

    assert minimum(flat, np.array([-1.0, 2.0]), 0).tolist() == [0, 2]
    assert minimum(flat, np.array([-1.0, 2.0]), 9).tolist() == [0, 2]
