"""An explanation says what the plan found, in words and in numbers."""

from dataclasses import replace
from typing import Any

import pytest

from policies.explain import explain, in_words
from policies.history import History
from policies.planner import plan
from policies.policy import Policy
from policies.snapshot import Device, Footprint, FootprintSource, Model, ModelState, Snapshot
from policies.source import parse

GIB = 2**30
POLICY = parse("budget: 3GiB\nresidency: {minimum: 0s}\nmodels: {kept: {pin: true}}")


def model(name: str, state: ModelState = ModelState.UNLOADED, gib: int = 2, **facts: Any) -> Model:
    size = Footprint({"host": gib * GIB}, FootprintSource.MEASURED)
    return replace(Model(name, state, size, load_s=4.0), **facts)


def told(name: str, *models: Model, policy: Policy = POLICY) -> str:
    snapshot = Snapshot(
        1_000.0, True, {"host": Device("host", 8 * GIB)}, {m.name: m for m in models}
    )
    found = explain(policy, snapshot, plan(policy, snapshot, History()), name)
    assert found is not None
    return in_words(found)


@pytest.mark.parametrize(
    ("name", "models", "words"),
    [
        ("idle", [model("idle")], "idle is unloaded: no request calls for it"),
        ("kept", [model("kept", ModelState.READY)], "kept is ready: it is pinned"),
        ("a", [model("a", ModelState.READY)], "a is ready: it stays, since nothing worth more"),
        ("a", [model("a", waiting=1)], "a is unloaded: it is being loaded (demanded)"),
        (
            "a",
            [model("a", waiting=1), model("kept", ModelState.READY)],
            "a is unloaded: it is held (pinned_out): memory is taken by pinned models (kept)",
        ),
        (
            "a",
            [model("a", gib=4, waiting=1)],
            "a is unloaded: it is held (larger_than_budget): needs 4.4 GiB on host",
        ),
        (
            "a",
            [model("a", waiting=1), model("busy", ModelState.READY, arrivals=600)],
            "a is unloaded: it is held (swap_does_not_pay): worth 8 over busy 84;"
            " by waiting alone it pays in ",
        ),
        (
            "a",
            [model("a", ModelState.READY, leases=1)],
            "a is ready: it stays for open streams, or requests on their way to it",
        ),
        (
            "a",
            [model("a", ModelState.READY, draining=True)],
            "a is ready: it stays after all: its drain is called off",
        ),
        (
            "a",
            [model("a", ModelState.READY, draining=True), model("b", waiting=1)],
            "a is ready: it is draining, to be unloaded (evicted, for b)",
        ),
    ],
)
def test_every_standing_has_its_sentence(name: str, models: list[Model], words: str) -> None:
    assert told(name, *models).startswith(words)


def test_the_numbers_stand_below() -> None:
    words = told("a", model("a", waiting=3), model("b", ModelState.READY))
    for line in (
        "  footprint_bytes: 2 GiB",
        "  footprint_source: measured",
        "  load_s: 4",
        "  waiting: 3",
        "  reserved_bytes.host: 2 GiB",
        "  limit_bytes.host: 3 GiB",
    ):
        assert line in words.splitlines()


@pytest.mark.parametrize(
    ("inside", "lines"),
    [
        ({}, ["in_flight: none", "in_flight_is: none", "leases: 0", "draining: false"]),
        ({"in_flight": 0.4}, ["in_flight: 0.4", "in_flight_is: estimated"]),
        (
            {"in_flight": 3.0, "in_flight_counted": True, "leases": 2, "draining": True},
            ["in_flight: 3", "in_flight_is: counted", "leases: 2", "draining: true"],
        ),
    ],
)
def test_what_is_inside_a_model_is_told_and_how_it_is_known(
    inside: dict[str, Any], lines: list[str]
) -> None:
    words = told("a", model("a", ModelState.READY, **inside)).splitlines()
    assert {f"  {line}" for line in lines} <= {*words}


def test_a_model_that_is_not_there_has_no_explanation() -> None:
    snapshot = Snapshot(0.0)
    assert explain(POLICY, snapshot, plan(POLICY, snapshot, History()), "nobody") is None
