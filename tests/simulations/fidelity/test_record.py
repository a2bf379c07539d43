"""What is made of the requests that were really sent."""

import numpy as np
import pytest

from simulations.fidelity.record import Event, Record, cold_starts
from simulations.testbed.traffic import Arrival, Outcome


def outcome(began_s: float, ended_s: float, *, model: str = "a", cold: bool = True) -> Outcome:
    return Outcome(Arrival(began_s, model, "http"), None, cold, began_s, ended_s)


def test_all_who_wait_for_one_load_are_one_cold_start() -> None:
    assert cold_starts([outcome(1.0, 4.0), outcome(2.0, 4.1), outcome(3.9, 4.2)]) == 1


def test_a_model_that_came_and_went_again_is_another_cold_start() -> None:
    assert cold_starts([outcome(1.0, 4.0), outcome(5.0, 5.1, cold=False), outcome(9, 12)]) == 2


def test_models_are_cold_each_for_itself() -> None:
    assert cold_starts([outcome(1.0, 4.0), outcome(2.0, 4.0, model="b")]) == 2


def test_nobody_waited_so_nothing_was_cold() -> None:
    assert cold_starts([outcome(1.0, 1.1, cold=False)]) == 0


def record(latency_s: list[float], cold: list[bool]) -> Record:
    return Record(
        requests=len(latency_s) + 1,
        failed=1,
        latency_s=np.array(latency_s),
        cold=np.array(cold, np.bool_),
        cold_starts=1,
        load_s=2.5,
        events=(
            Event(0.0, "load", "a", "demanded"),
            Event(5.0, "unload", "a", "evicted"),
            Event(6.0, "unload", "b", "over_budget"),
        ),
        memory_s=np.array([-1.0, 5.0]),
        memory_bytes=np.array([2.0, 4.0]) * 2**20,
    )


def test_every_figure_is_told_of_all_requests_and_of_the_cold_ones() -> None:
    figures = record([0.01, 0.02, 3.0], [False, False, True]).figures(10.0)
    assert figures["latency p50 ms"] == pytest.approx(20)
    assert figures["cold latency p50 ms"] == pytest.approx(3000)
    assert (figures["requests"], figures["failed"], figures["cold requests"]) == (4, 1, 1)
    assert (figures["loads"], figures["unloads"], figures["evictions"]) == (1, 2, 1)
    assert (figures["mean memory MiB"], figures["peak memory MiB"]) == (3, 4)


def test_latencies_of_nobody_are_zero() -> None:
    figures = record([0.01], [False]).figures(10.0)
    assert figures["cold latency p99 ms"] == 0
