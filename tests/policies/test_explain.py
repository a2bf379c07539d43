"""An explanation says what the plan found, in words and in numbers."""

import pytest

from policies.explain import explain, in_words
from policies.history import History
from policies.planner import plan
from policies.policy import Policy
from policies.snapshot import Device, Footprint, FootprintSource, Model, ModelState, Snapshot
from policies.source import parse

GIB = 2**30
POLICY = parse("budget: 3GiB\nmodels: {kept: {pin: true}}")


def model(name: str, state: ModelState = ModelState.UNLOADED, gib: int = 2, **facts: int) -> Model:
    size = Footprint({"host": gib * GIB}, FootprintSource.MEASURED)
    return Model(name, state, size, load_s=4.0, waiting=facts.get("waiting", 0))


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
            "a is unloaded: it is held (no_room): memory is taken by pinned models (1)",
        ),
        (
            "a",
            [model("a", gib=4, waiting=1)],
            "a is unloaded: it is held (larger_than_budget): needs 4.4 GiB on host",
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


def test_a_model_that_is_not_there_has_no_explanation() -> None:
    snapshot = Snapshot(0.0)
    assert explain(POLICY, snapshot, plan(POLICY, snapshot, History()), "nobody") is None
