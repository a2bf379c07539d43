"""Who needs whom: members, callers, and what is loaded by hand."""

from itertools import pairwise

import pytest

from policies.snapshot import Model
from policies.units import Units
from tests.policies.world import policy_of


def units_of(steps: dict[str, str], calls: dict[str, str] | None = None) -> Units:
    """Members as one letter each."""
    declared = {name: {"calls": list(members)} for name, members in (calls or {}).items()}
    models = {name: Model(name, steps=tuple(members)) for name, members in steps.items()}
    return Units(policy_of(models=declared), models)


DIAMOND = {"e": "xy", "x": "s", "y": "s", "s": "", "lone": ""}


def test_members_come_before_what_needs_them_and_once_each() -> None:
    assert units_of(DIAMOND).members("e") == ("s", "x", "y", "e")
    assert units_of(DIAMOND).members("lone") == ("lone",)


def test_callers_are_found_however_far_up() -> None:
    units = units_of(DIAMOND)
    assert set(units.callers("s")) == {"x", "y", "e"}
    assert units.callers("e") == units.callers("lone") == ()


def test_a_callee_brings_its_own_members() -> None:
    units = units_of({"b": "", "e": "s", "s": "", "m": ""}, {"b": "em"})
    assert units.members("b") == ("s", "e", "m", "b")
    assert set(units.callers("s")) == {"e", "b"}


def test_callees_are_loaded_by_hand_and_steps_are_not() -> None:
    units = units_of({"b": "", "e": "s", "s": "", "m": ""}, {"b": "em", "m": "s"})
    assert units.callees_first("b") == ("e", "m")
    assert units.callees_first("e") == ()


def test_a_pattern_declares_callees_of_every_model_it_matches() -> None:
    units = units_of({"b1": "", "b2": "", "m": ""}, {"b*": "m"})
    assert set(units.callers("m")) == {"b1", "b2"}


@pytest.mark.parametrize(
    "steps", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "a"}]
)
def test_a_circle_is_walked_once_and_nobody_in_it_calls_another(steps: dict[str, str]) -> None:
    units = units_of(steps)
    assert set(units.members("a")) == set(steps)
    assert units.callers("a") == ()


def test_a_step_that_does_not_exist_is_a_member_still() -> None:
    assert units_of({"e": "z"}).members("e") == ("z", "e")


def test_a_chain_of_any_length_is_walked() -> None:
    names = [f"m{i}" for i in range(5000)]
    models = {name: Model(name, steps=(below,)) for below, name in pairwise(names)}
    units = Units(policy_of(), models)
    assert units.members(names[-1]) == tuple(names)
    assert len(units.callers(names[0])) == 4999
