"""What the sum over all pods becomes, and what each is told of it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.fleet import FleetHistory, steadied
from policies.policy import Policy
from policies.source import parse

POLICY = parse("scaling: {down: 1m, lead: 1m}")
CALM = parse("scaling: {down: 1m, lead: 0s}")


def told(
    sums: list[float], pods: int = 2, policy: Policy = POLICY, every_s: float = 5.0
) -> list[float]:
    """The sum of what is served, look by look, where ``sums`` are what the pods say together."""
    history, found = FleetHistory(), []
    for look, whole in enumerate(sums):
        loads = {f"pod-{n}": whole / pods for n in range(pods)}
        served, history = steadied(policy, loads, history, look * every_s)
        assert served.keys() == loads.keys()
        found.append(math.fsum(served.values()))
    return found


def test_a_constant_load_is_served_as_it_is() -> None:
    assert told([1.4] * 100) == pytest.approx([1.4] * 100)


def test_it_rises_at_once_and_falls_slowly() -> None:
    found = told([1.0] * 10 + [3.0] * 12 + [1.0] * 24, policy=CALM)
    assert found[10] == pytest.approx(3.0)
    assert found[22] == pytest.approx(1 + 2 * math.exp(-5 / 60))
    assert found[33] == pytest.approx(1 + 2 * math.exp(-60 / 60))
    assert found[-1] < 1.3


def test_the_sum_does_not_change_when_pods_share_it_out_anew() -> None:
    history = FleetHistory()
    _, history = steadied(POLICY, {"a": 1.4}, history, 0.0)
    served, _ = steadied(POLICY, {"a": 0.9, "b": 0.5}, history, 5.0)
    assert served == pytest.approx({"a": 0.9, "b": 0.5})


def test_a_rise_that_lasts_is_carried_on_by_its_lead() -> None:
    """0.1 a minute for twenty minutes: a minute from now it will be 0.1 more, and an average over
    a minute tells what was a minute ago."""
    sums = [1 + 0.1 * look * 5 / 60 for look in range(240)]
    assert told(sums)[-1] == pytest.approx(sums[-1] + 0.2, rel=0.02)
    assert told(sums, policy=CALM)[-1] == pytest.approx(sums[-1])


def test_a_step_is_no_rise_that_lasts() -> None:
    found = told([1.0] * 60 + [3.0] * 120)
    assert max(found) == pytest.approx(3.0)


def test_a_pod_of_whom_nothing_is_known_takes_its_part_away_slowly() -> None:
    history = FleetHistory()
    _, history = steadied(POLICY, dict.fromkeys("abcd", 0.5), history, 0.0)
    served, history = steadied(POLICY, dict.fromkeys("abc", 0.5), history, 5.0)
    assert math.fsum(served.values()) == pytest.approx(1.5 + 0.5 * math.exp(-5 / 60))
    assert "d" not in served


def test_pods_that_are_all_silent_are_served_nothing_and_forget_nothing() -> None:
    _, history = steadied(POLICY, {"a": 2.0}, FleetHistory(), 0.0)
    assert steadied(POLICY, {}, history, 5.0) == ({}, history)


def test_idle_pods_share_what_falls_slowly() -> None:
    _, history = steadied(POLICY, {"a": 2.0, "b": 0.0}, FleetHistory(), 0.0)
    served, _ = steadied(POLICY, {"a": 0.0, "b": 0.0}, history, 60.0)
    assert served == pytest.approx({"a": 1 / math.e, "b": 1 / math.e})


@given(
    loads=st.dictionaries(st.sampled_from("abcde"), st.floats(), max_size=5),
    steps_s=st.lists(st.floats(-100, 1000), max_size=8),
)
def test_what_is_served_is_never_less_than_what_the_pods_say(
    loads: dict[str, float], steps_s: list[float]
) -> None:
    history, now_s = FleetHistory(), 0.0
    whole = math.fsum(load for load in loads.values() if 0 <= load <= 1e6)
    for step_s in (0.0, *steps_s):
        now_s += step_s
        served, history = steadied(POLICY, loads, history, now_s)
        if served:
            assert math.fsum(served.values()) >= whole * (1 - 1e-9)
