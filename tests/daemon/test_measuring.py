"""A footprint is believed when the device was quiet before, and after, and the load was alone.

The gauges are refreshed every 2 s here, so a reading counts 2.5 s after the latest change.
"""

from daemon.measuring import NOISE_BYTES, SETTLE_INTERVALS, Measuring

MIB = 2**20
GPU = "GPU-a"
NOTHING: dict[str, dict[str, int]] = {}


def settled(used_bytes: int = 1000 * MIB) -> Measuring:
    """Quiet since second 0, looked at until second 4."""
    measuring = Measuring(refresh_s=2.0)
    for now_s in (0.0, 2.0, 4.0):
        assert measuring.observe({GPU: used_bytes}, now_s) == NOTHING
    return measuring


def test_settling_takes_longer_than_one_refresh() -> None:
    assert SETTLE_INTERVALS > 1


def test_a_load_alone_is_measured_once_the_gauges_have_settled() -> None:
    measuring = settled()
    measuring.began("m", is_load=True)  # second 4
    assert measuring.observe({GPU: 1100 * MIB}, 5.0) == NOTHING
    measuring.ended("m", 6.0, well=True)
    assert measuring.observe({GPU: 1100 * MIB}, 6.5) == NOTHING
    assert measuring.observe({GPU: 1300 * MIB}, 8.4) == NOTHING
    assert measuring.observe({GPU: 1300 * MIB}, 8.5) == {"m": {GPU: 300 * MIB}}
    assert measuring.observe({GPU: 1300 * MIB}, 9.5) == NOTHING


def test_loads_one_after_the_other_are_each_measured() -> None:
    measuring = settled()
    now_s, used = 4.0, 1000 * MIB
    for name, size in (("a", 100 * MIB), ("b", 50 * MIB)):
        measuring.began(name, is_load=True)
        used += size
        measuring.ended(name, now_s + 1, well=True)
        assert measuring.observe({GPU: used}, now_s + 1) == NOTHING
        assert measuring.observe({GPU: used}, now_s + 4) == {name: {GPU: size}}
        assert measuring.observe({GPU: used}, now_s + 5) == NOTHING
        now_s += 5


def test_a_load_before_the_first_settled_reading_is_not_measured() -> None:
    measuring = Measuring(refresh_s=2.0)
    measuring.observe({GPU: 1000 * MIB}, 0.0)
    measuring.observe({GPU: 1000 * MIB}, 2.0)
    measuring.began("m", is_load=True)
    measuring.ended("m", 3.0, well=True)
    assert measuring.observe({GPU: 1300 * MIB}, 3.0) == NOTHING
    assert measuring.observe({GPU: 1300 * MIB}, 6.0) == NOTHING


def test_a_load_right_after_another_leaves_both_unmeasured() -> None:
    measuring = settled()
    measuring.began("a", is_load=True)
    measuring.ended("a", 5.0, well=True)
    measuring.observe({GPU: 1100 * MIB}, 6.0)
    measuring.began("b", is_load=True)
    measuring.ended("b", 7.0, well=True)
    for now_s in (7.0, 10.0, 13.0):
        assert measuring.observe({GPU: 1300 * MIB}, now_s) == NOTHING


def test_two_loads_at_once_are_not_told_apart() -> None:
    measuring = settled()
    measuring.began("a", is_load=True)
    measuring.began("b", is_load=True)
    measuring.ended("a", 5.0, well=True)
    measuring.ended("b", 6.0, well=True)
    for now_s in (6.0, 9.0, 12.0):
        assert measuring.observe({GPU: 1300 * MIB}, now_s) == NOTHING


def test_an_unload_meanwhile_spoils_a_measurement() -> None:
    measuring = settled()
    measuring.began("a", is_load=True)
    measuring.began("z", is_load=False)
    measuring.ended("z", 5.0, well=True)
    measuring.ended("a", 6.0, well=True)
    for now_s in (6.0, 9.0, 12.0):
        assert measuring.observe({GPU: 1200 * MIB}, now_s) == NOTHING


def test_a_load_that_begins_while_an_unload_ends_is_not_measured() -> None:
    measuring = settled()
    measuring.began("z", is_load=False)
    measuring.began("a", is_load=True)
    measuring.ended("z", 5.0, well=True)
    measuring.ended("a", 6.0, well=True)
    for now_s in (6.0, 9.0, 12.0):
        assert measuring.observe({GPU: 1200 * MIB}, now_s) == NOTHING


def test_what_begins_before_the_gauges_have_settled_spoils_it_too() -> None:
    measuring = settled()
    measuring.began("a", is_load=True)
    measuring.ended("a", 5.0, well=True)
    measuring.observe({GPU: 1300 * MIB}, 6.0)
    measuring.began("a", is_load=False)  # gone again, before it was measured
    measuring.ended("a", 7.0, well=True)
    for now_s in (7.0, 10.0, 13.0):
        assert measuring.observe({GPU: 1000 * MIB}, now_s) == NOTHING


def test_a_failed_load_is_not_measured_and_spoils_nothing_later() -> None:
    measuring = settled()
    measuring.began("a", is_load=True)
    measuring.ended("a", 5.0, well=False)
    for now_s in (5.0, 8.0, 9.0):
        assert measuring.observe({GPU: 1050 * MIB}, now_s) == NOTHING
    measuring.began("b", is_load=True)
    measuring.ended("b", 10.0, well=True)
    measuring.observe({GPU: 1250 * MIB}, 10.0)
    assert measuring.observe({GPU: 1250 * MIB}, 12.5) == {"b": {GPU: 200 * MIB}}


def test_growth_within_the_noise_is_no_footprint() -> None:
    for grown, found in ((NOISE_BYTES, NOTHING), (NOISE_BYTES + 1, {"m": {GPU: NOISE_BYTES + 1}})):
        measuring = settled()
        measuring.began("m", is_load=True)
        measuring.ended("m", 5.0, well=True)
        assert measuring.observe({GPU: 1000 * MIB + grown}, 8.0) == found


def test_use_that_shrank_is_no_footprint() -> None:
    measuring = settled()
    measuring.began("m", is_load=True)
    measuring.ended("m", 5.0, well=True)
    assert measuring.observe({GPU: 500 * MIB}, 8.0) == NOTHING


def test_each_device_is_measured_for_itself() -> None:
    measuring = Measuring(refresh_s=2.0)
    for now_s in (0.0, 3.0):
        measuring.observe({"a": 10 * MIB, "b": 20 * MIB, "c": 30 * MIB}, now_s)
    measuring.began("m", is_load=True)
    measuring.ended("m", 4.0, well=True)
    after = {"a": 110 * MIB, "b": 20 * MIB, "d": 500 * MIB}
    assert measuring.observe(after, 7.0) == {"m": {"a": 100 * MIB}}


def test_without_gauges_nothing_is_measured() -> None:
    measuring = Measuring(refresh_s=2.0)
    for now_s in (0.0, 3.0, 6.0):
        assert measuring.observe({}, now_s) == NOTHING
    measuring.began("m", is_load=True)
    measuring.ended("m", 7.0, well=True)
    assert measuring.observe({GPU: 300 * MIB}, 10.0) == NOTHING


def test_a_failed_reading_at_the_wrong_moment_costs_the_measurement_only() -> None:
    measuring = settled()
    measuring.began("m", is_load=True)
    measuring.ended("m", 5.0, well=True)
    assert measuring.observe({}, 8.0) == NOTHING
    assert measuring.observe({GPU: 1300 * MIB}, 11.0) == NOTHING
