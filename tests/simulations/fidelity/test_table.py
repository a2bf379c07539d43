"""What is printed of both runs."""

import json
import math
from dataclasses import replace

from simulations.fidelity.command import as_json
from simulations.fidelity.imagined import imagine
from simulations.fidelity.setting import budget_bytes, policy_text
from simulations.fidelity.table import ROWS, Comparison, difference, text, verdict
from tests.simulations.fidelity.settings import GIB, calibration, setting


def comparison() -> Comparison:
    known = calibration("abc")
    played = setting([(1.0, "a"), (1.1, "b"), (4.0, "a"), (20.0, "c")], "abc", 30)
    record = imagine(played, policy_text(known.size_bytes), known, 16 * GIB)
    other = replace(record, latency_s=record.latency_s * 2, cold_starts=record.cold_starts)
    return Comparison(played, known, budget_bytes(known.size_bytes), record, other)


def row(printed: str, name: str) -> list[str]:
    [found] = [line for line in printed.splitlines() if line.strip().startswith(f"{name} ")]
    return found.replace(name, "").split()


def test_every_figure_stands_in_a_row_with_its_ratio() -> None:
    told = comparison()
    printed = text(told)
    for name, value in told.figures()[0].items():
        assert float(row(printed, name)[0]) == round(value, 1)
        assert len(row(printed, name)) == 4
    assert row(printed, "latency p95 ms")[3] == "2.00"
    assert row(printed, "cold starts")[2:] == ["+0", "1.00"]


def test_the_models_are_printed_as_they_were_measured() -> None:
    assert row(text(comparison()), "a") == ["80", "2.00", "1.25", "20.0"]


def test_it_is_told_how_much_the_machine_slowed_loads_down() -> None:
    told = comparison()
    slow = replace(told, real=replace(told.real, load_s=1.5 * told.real.load_s))
    assert "of what it took alone: really 1.50, simulated 1.00" in text(slow)


def test_memory_is_drawn_over_the_whole_time() -> None:
    lines = [line for line in text(comparison()).splitlines() if "█" in line or "·" in line]
    assert len(lines) == ROWS + 1
    assert lines[0].split()[:3] == ["0", "s", "0"]
    assert "█" in lines[-1]


def test_the_verdict_says_how_far_off_each_figure_is() -> None:
    real = {"cold starts": 50.0, "latency p95 ms": 1000.0}
    said = verdict(real, {"cold starts": 54.0, "latency p95 ms": 1200.0})
    assert said == (
        "within 10% of the real Triton? cold starts: yes (+8.0%); latency p95 ms: no (+20.0%)"
    )
    assert "cold starts: no (-12.0%)" in verdict(
        real, {"cold starts": 44.0, "latency p95 ms": 1000.0}
    )


def test_a_difference_from_nothing_is_unknown_unless_both_are_nothing() -> None:
    assert difference(0, 0) == 0
    assert difference(0, 3) is None
    said = verdict(
        {"cold starts": 0, "latency p95 ms": 1.0}, {"cold starts": 3, "latency p95 ms": 1.0}
    )
    assert "cold starts: no (of nothing)" in said


def test_the_raw_figures_hold_every_request_and_decision_of_both() -> None:
    told = comparison()
    values = json.loads(as_json(told))
    assert values["figures"]["latency p95 ms"]["difference"] == 1.0
    for side in ("real", "simulated"):
        raw = values[side]
        assert len(raw["latency_s"]) == len(raw["cold"]) == len(told.setting.arrivals)
        assert raw["events"][0][1:] == ["load", "a", "demanded"]
        assert all(math.isfinite(each) for each in raw["latency_s"])
