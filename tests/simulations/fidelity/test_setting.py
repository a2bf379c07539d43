"""What is played, and how the real installation is told to the simulator."""

import numpy as np
import pytest

from policies.policy import Policy
from policies.source import parse
from simulations.fidelity.imagined import imagine
from simulations.fidelity.record import Record
from simulations.fidelity.setting import Setting, budget_bytes, drawn, policy_text
from tests.simulations.fidelity.settings import GIB, MIB, calibration, setting


def imagined(played: Setting, names: str) -> Record:
    known = calibration(names)
    return imagine(played, policy_text(known.size_bytes), known, 16 * GIB)


def policy(names: str) -> Policy:
    return parse(policy_text(calibration(names).size_bytes))


def test_both_sides_are_given_the_same_arrivals() -> None:
    played = drawn(60, seed=3)
    [run] = played.workload().runs()
    names = played.workload().names
    told = [(at_s, names[model]) for at_s, model in zip(run.time_s, run.model, strict=True)]
    assert told == [(arrival.at_s, arrival.model) for arrival in played.arrivals]
    assert set(run.weight) == {1.0}
    assert len(told) > 200


def test_a_seed_gives_the_same_traffic_and_another_seed_other_traffic() -> None:
    assert drawn(30, seed=1) == drawn(30, seed=1)
    assert drawn(30, seed=1).arrivals != drawn(30, seed=2).arrivals


def test_the_policy_declares_what_was_measured_and_shares_a_part_of_it() -> None:
    sizes = {"a": 100 * MIB, "b": 200 * MIB}
    found = parse(policy_text(sizes))
    assert {name: found.wishes(name).footprint for name in sizes} == sizes
    assert found.budget == budget_bytes(sizes) == 180 * MIB
    assert found.peak_factor("a") == 1.0


def test_a_cold_request_takes_its_load_and_the_measured_delays() -> None:
    record = imagined(setting([(5.3, "a"), (9.0, "a")], "ab", 12), "ab")
    # A look, the load, the way to Triton and back, and the execution.
    assert record.latency_s.tolist() == pytest.approx([2.0 + 0.006 + 0.003 + 0.02, 0.023], abs=0.02)
    assert record.cold.tolist() == [True, False]
    assert (record.cold_starts, record.failed, record.requests) == (1, 0, 2)
    assert [(event.action, event.model) for event in record.events] == [("load", "a")]


def test_a_request_for_a_model_on_its_way_out_is_cold() -> None:
    asks = [(1.0, "a"), *((20.0 + 0.25 * n, "b") for n in range(40))]
    before = imagined(setting(asks, "ab", 40), "ab")
    [left] = [event for event in before.events if event.action == "unload"]
    # Half a second into an unload of one and a quarter.
    late = (left.at_s + 0.5, left.model)
    asks = sorted([*asks, late])
    record = imagined(setting(asks, "ab", 40), "ab")
    assert left.model == "a"
    assert record.cold[asks.index(late)]
    assert record.latency_s[asks.index(late)] > 2.0


def test_memory_is_what_was_promised_to_models() -> None:
    record = imagined(setting([(5.0, "a")], "ab", 20), "ab")
    assert record.memory_at(np.array([4.0, 6.0, 20.0])).tolist() == [0, 80 * MIB, 80 * MIB]
    assert record.mean_bytes(20) == pytest.approx(0.75 * 80 * MIB, rel=0.01)


def test_failures_of_the_simulated_run_are_counted_and_have_no_latency() -> None:
    record = imagined(setting([(1.0, "a")], "a", 10), "a")
    assert (record.requests, record.failed) == (1, 1)
    assert len(record.latency_s) == len(record.cold) == 0
    assert record.figures(10)["failed"] == 1
