"""The values that are searched: within their range, and written as a policy writes them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.quantities import parse_seconds
from simulations.decider import Decider
from simulations.reading import ScenarioError
from simulations.tuning.space import DEFAULT, Knob, load

SHARES = st.floats(0, 1)


@given(SHARES)
def test_a_duration_stays_within_its_range_and_keeps_its_unit(share: float) -> None:
    value = Knob.model_validate({"from": "30s", "to": "2h", "scale": "log"}).at(share)
    assert value.endswith("s")
    assert 30 <= parse_seconds(value) <= 7200


@given(SHARES)
def test_whole_numbers_are_whole_and_within_their_range(share: float) -> None:
    value = Knob.model_validate({"from": 1, "to": 4, "whole": True}).at(share)
    assert value in (1, 2, 3, 4)


def test_every_whole_number_has_an_equal_share() -> None:
    knob = Knob.model_validate({"from": 1, "to": 4, "whole": True})
    found = [knob.at((number + 0.5) / 100) for number in range(100)]
    assert [found.count(value) for value in (1, 2, 3, 4)] == [25, 25, 25, 25]


def test_on_a_log_scale_the_middle_is_the_geometric_mean() -> None:
    assert Knob.model_validate({"from": 1, "to": 100, "scale": "log"}).at(0.5) == 10


@given(SHARES)
def test_choices_are_all_there_is(share: float) -> None:
    assert Knob.model_validate({"choices": ["lru", "lfu"]}).at(share) in ("lru", "lfu")


@given(st.lists(SHARES, min_size=len(DEFAULT.knobs), max_size=len(DEFAULT.knobs)))
def test_every_point_of_the_default_space_is_a_policy(point: list[float]) -> None:
    Decider("any").with_values(DEFAULT.values(point))


def test_a_file_says_what_is_searched_and_what_for(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("knobs:\n  tick: {from: 100ms, to: 1s}\n")
    found = load(path)
    assert list(found.knobs) == ["tick"]
    assert found.objective == DEFAULT.objective


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("knobs: {}\n", "space.yaml:1: knobs"),
        ("knobs: {tick: {from: 2s, to: 1s}}\n", "space.yaml:1: knobs.tick: "),
        ("knobs: {tick: {from: 0s, to: 1s, scale: log}}\n", "both above 0 on a log scale"),
        ("knobs: {tick: {form: 0s}}\n", "knobs.tick.form: unknown key"),
        ("objective: {happiness: 1}\n", "an objective with figures of"),
        ("objective: {load_s: -1}\n", "space.yaml:1: objective.load_s: -1"),
    ],
)
def test_what_is_wrong_with_a_space_is_said_with_its_place(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as raised:
        load(path)
    assert said in str(raised.value)
