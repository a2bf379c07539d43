"""A recorded tick is decided again as it was; what differs is found, and named."""

from dataclasses import replace

from policies.actions import Reason
from policies.history import History
from policies.journal import Tick
from policies.planner import plan
from policies.policy import Policy
from policies.replay import Divergence, Replay
from policies.snapshot import Device, Footprint, FootprintSource, Model, ModelState, Snapshot
from policies.source import effective, parse

GIB = 2**30


def recorded(policy: Policy) -> list[Tick]:
    """Ten seconds in which one model after the other is asked for."""
    ticks, history = [], History()
    size = Footprint({"host": GIB}, FootprintSource.DECLARED)
    for second in range(10):
        models = {
            name: Model(name, ModelState.UNLOADED, size, arrivals=float(second % 3 == position))
            for position, name in enumerate("abc")
        }
        snapshot = Snapshot(1_000.0 + second, True, {"host": Device("host", 4 * GIB)}, models)
        decision = plan(policy, snapshot, history)
        ticks.append(
            Tick(
                effective(policy),
                snapshot,
                history,
                decision.actions,
                decision.holds,
                decision.history,
            )
        )
        history = decision.history
    return ticks


POLICY = parse("loads: {concurrent: 1}")


def first(replay: Replay) -> Divergence | None:
    return next(iter(replay), None)


def test_the_same_code_decides_the_same() -> None:
    replay = Replay(recorded(POLICY))
    assert first(replay) is None
    assert replay.count == 10


def test_the_first_tick_that_another_policy_decides_otherwise_is_shown() -> None:
    wider = parse("loads: {concurrent: 3}")
    found = first(Replay(recorded(POLICY), wider))
    assert found is not None
    assert (found.number, found.what) == (2, "actions")
    assert {load.model for load in found.plan.loads} == {"a", "b"}


def test_a_policy_that_decides_alike_diverges_nowhere() -> None:
    assert first(Replay(recorded(POLICY), parse("loads: {concurrent: 1, forgive: 9m}"))) is None


def test_a_changed_hold_and_a_changed_history_are_told_apart() -> None:
    ticks = recorded(POLICY)
    hold = replace(ticks[4].holds[0], reason=Reason.NO_ROOM)
    forged = [*ticks[:4], replace(ticks[4], holds=(hold,)), *ticks[5:]]
    found = first(Replay(forged))
    assert found is not None
    assert (found.number, found.what) == (5, "holds")
    forgetful = [*ticks[:7], replace(ticks[7], next_history=History())]
    found = first(Replay(forgetful))
    assert found is not None
    assert (found.number, found.what) == (8, "history")
