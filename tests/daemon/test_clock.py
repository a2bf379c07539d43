"""The clock, on a machine whose wall clock is corrected; timelines in seconds."""

import time
from itertools import pairwise

import pytest

from daemon.clock import Clock


class Machine:
    """Stands in for the module time: a monotonic clock, and a wall clock that can be set."""

    def __init__(self) -> None:
        self.passed_s = 100.0
        self.wall_s = 1_764_547_200.0

    def time(self) -> float:
        return self.wall_s

    def monotonic(self) -> float:
        return self.passed_s

    def wait(self, seconds: float) -> None:
        self.passed_s += seconds
        self.wall_s += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr("daemon.clock.time", machine)
    return machine


def test_it_tells_the_time(machine: Machine) -> None:
    clock = Clock()
    assert clock.now_s() == machine.wall_s
    machine.wait(7.5)
    assert clock.now_s() == pytest.approx(machine.wall_s, abs=1e-6)


@pytest.mark.parametrize("correction_s", [-1.9, -0.3, 0.3, 1.9])
def test_a_small_correction_changes_no_interval(machine: Machine, correction_s: float) -> None:
    clock = Clock()
    before_s = clock.now_s()
    machine.wall_s += correction_s
    machine.wait(0.01)
    assert clock.now_s() - before_s == pytest.approx(0.01, abs=1e-6)
    machine.wait(60)
    assert clock.now_s() - before_s == pytest.approx(60.01, abs=1e-6)


def test_it_never_steps_back_while_the_wall_clock_trembles(machine: Machine) -> None:
    clock, seen_s = Clock(), []
    for number in range(100):
        machine.wall_s += 1.5 if number % 2 else -1.5
        machine.wait(0.001)
        seen_s.append(clock.now_s())
    assert all(earlier < later for earlier, later in pairwise(seen_s))


@pytest.mark.parametrize("correction_s", [3600.0, -3600.0, 2.5, -2.5])
def test_a_large_correction_is_followed_once_and_kept(
    machine: Machine, correction_s: float
) -> None:
    clock = Clock()
    clock.now_s()
    machine.wall_s += correction_s
    machine.wait(1)
    assert clock.now_s() == pytest.approx(machine.wall_s, abs=1e-6)
    machine.wait(1)
    assert clock.now_s() == pytest.approx(machine.wall_s, abs=1e-6)


def test_small_corrections_after_a_large_one_change_no_interval_again(machine: Machine) -> None:
    clock = Clock()
    machine.wall_s += 3600
    before_s = clock.now_s()
    machine.wall_s -= 1
    machine.wait(0.5)
    assert clock.now_s() - before_s == pytest.approx(0.5, abs=1e-6)


def test_a_machine_that_slept_wakes_to_the_time_of_day(machine: Machine) -> None:
    clock = Clock()
    machine.wall_s += 8 * 3600  # the monotonic clock stands still in a machine that sleeps
    assert clock.now_s() == pytest.approx(machine.wall_s, abs=1e-6)


def test_the_real_clock_agrees_with_the_wall() -> None:
    assert abs(Clock().now_s() - time.time()) < 1.0
