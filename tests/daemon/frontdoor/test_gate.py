"""The gate by itself: no sockets, and a loop whose clock jumps to whatever is due next."""

import asyncio
import gc
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from types import FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from daemon.frontdoor.gate import ON_ITS_WAY_S, RETRY_AFTER_S, AtDoor, Call, Gate
from daemon.frontdoor.refusals import Outcome, Refusal
from policies.actions import Hold, Plan, Reason
from policies.history import History
from policies.policy import FrontDoor, Policy
from policies.snapshot import Model, ModelState, Snapshot

MONDAY_S = 1_767_600_000.0
MODELS = ("a", "b", "c")
STEPS = 25


class _Jumping(selectors.DefaultSelector):
    """Does not sleep until the next timer is due: it is told how long that is, and keeps it."""

    slept_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing is due ever again, and somebody still waits"
        self.slept_s += max(0.0, timeout)
        return super().select(0)


class PlayedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _Jumping()
        super().__init__(self.clock)

    def time(self) -> float:
        """Small, so that it is exact; an epoch's seconds are further apart than the loop thinks."""
        return self.clock.slept_s

    def now_s(self) -> float:
        return MONDAY_S + self.clock.slept_s


@dataclass
class Timeline:
    """A gate, with what the loop would tell it. woken: how often it made the loop look."""

    now_s: Callable[[], float]
    limits: FrontDoor = field(default_factory=FrontDoor)
    woken: int = 0

    def __post_init__(self) -> None:
        self.gate = Gate(self.now_s)
        self.gate.wake = self.wake

    def wake(self) -> None:
        self.woken += 1

    def look(
        self,
        ready: Iterable[str] = (),
        holds: Iterable[Hold] = (),
        *,
        models: Iterable[str] = MODELS,
        asked_at_s: float | None = None,
        reachable: bool = True,
    ) -> None:
        """A tick that has seen ``models``, of which those in ``ready`` can serve."""
        found: Mapping[str, Model] = {
            name: Model(name, ModelState.READY if name in ready else ModelState.UNLOADED)
            for name in models
        }
        snapshot = Snapshot(self.now_s(), reachable, models=found)
        plan = Plan((), tuple(holds), History())
        asked_at_s = self.now_s() if asked_at_s is None else asked_at_s
        self.gate.saw(Policy(front_door=self.limits), snapshot, plan, asked_at_s)

    def call(self, model: str = "a", **more: Any) -> Call:
        given: dict[str, Any] = {"version": "", "body_bytes": 0, "began_s": self.now_s()}
        return Call(model, **given | more)

    def arrive(self, model: str = "a", **more: Any) -> "asyncio.Task[bool]":
        return asyncio.create_task(self.gate.admit(self.call(model, **more)))

    async def refused(self, asking: Awaitable[bool], outcome: Outcome) -> Refusal:
        with pytest.raises(Refusal) as refused:
            await asking
        assert refused.value.outcome is outcome
        return refused.value


def played(
    test: Callable[[Timeline], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    """Runs ``test`` on a played loop: hours of it take no time."""

    @wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=PlayedLoop) as runner:
            runner.run(test(Timeline(_now_s_of(runner))))

    # pytest would take the parameter that `wraps` shows for a fixture.
    del run.__wrapped__
    return run


def longest_text(thing: object) -> int:
    """Of all that ``thing`` keeps alive, code aside."""
    seen: set[int] = set()
    left, longest = [thing], 0
    while left:
        each = left.pop()
        if id(each) not in seen and not isinstance(each, ModuleType | type | FunctionType):
            seen.add(id(each))
            left += gc.get_referents(each)
            longest = max(longest, len(each) if isinstance(each, str) else 0)
    return longest


def _now_s_of(runner: asyncio.Runner) -> Callable[[], float]:
    loop = runner.get_loop()
    assert isinstance(loop, PlayedLoop)
    return loop.now_s


async def settled() -> None:
    """Lets everything run that can, without time going on."""
    for _ in range(STEPS):
        await asyncio.sleep(0)


# --- waiting


@played
async def test_however_many_wait_each_is_counted_once_and_all_go_in_together(t: Timeline) -> None:
    t.look()
    asking = [t.arrive() for _ in range(100)]
    await settled()
    assert t.gate.waiting == 100
    assert t.gate.misses == {"a": 100}
    assert t.woken == 100
    assert t.gate.take()["a"] == AtDoor(missed=100, waiting=100)
    await asyncio.sleep(3)
    t.gate.opened(["a"])
    assert await asyncio.gather(*asking) == [True] * 100
    assert t.gate.waiting == 0
    assert t.now_s() == MONDAY_S + 3


@played
async def test_model_that_can_serve_is_not_waited_for(t: Timeline) -> None:
    t.look(ready=["a"])
    assert await t.gate.admit(t.call()) is False
    assert (t.woken, t.gate.misses, t.gate.take()) == (0, {}, {})


@played
async def test_replay_of_a_request_that_was_held_before_is_no_new_arrival(t: Timeline) -> None:
    t.look()
    asking = t.arrive(counted=True)
    await settled()
    assert (t.woken, t.gate.take()["a"]) == (0, AtDoor(waiting=1))
    t.gate.opened(["a"])
    assert await asking is True


@played
async def test_first_look_is_waited_for(t: Timeline) -> None:
    known, unknown = t.arrive("a"), t.arrive("nobody")
    await asyncio.sleep(2)
    assert not known.done()
    t.look(ready=["a"])
    assert await known is True
    await t.refused(unknown, Outcome.UNKNOWN_MODEL)


@played
async def test_first_look_is_waited_for_no_longer_than_the_policy_allows(t: Timeline) -> None:
    refusal = await t.refused(t.arrive(), Outcome.TIMED_OUT)
    assert refusal.text == "a was not ready after 60.0 s"
    assert t.now_s() == MONDAY_S + t.gate.limits.wait_s


@played
async def test_look_that_saw_no_triton_is_no_first_look(t: Timeline) -> None:
    t.look(reachable=False, models=())
    asking = t.arrive("a")
    await asyncio.sleep(1)
    assert not asking.done()
    assert not t.gate.knows("a")
    t.look(ready=["a"])
    assert await asking is True
    assert t.gate.knows("a")


@played
async def test_names_that_come_before_the_first_look_are_not_kept(t: Timeline) -> None:
    asking = t.arrive("n" * 100_000, deadline_s=t.now_s() + 5)
    await settled()
    assert longest_text(t.gate._entries) == 100_000
    with pytest.raises(Refusal):
        await asking
    assert longest_text(t.gate._entries) == 0


@played
async def test_clients_deadline_ends_a_wait_before_the_policys(t: Timeline) -> None:
    t.look(holds=[Hold("a", Reason.WAITING_FOR_UNLOAD, "b leaves")])
    refusal = await t.refused(t.arrive(deadline_s=t.now_s() + 4), Outcome.TIMED_OUT)
    assert t.now_s() == MONDAY_S + 4
    assert refusal.text == "a was not ready after 4.0 s: waiting for unload: b leaves"
    await t.refused(t.arrive(), Outcome.TIMED_OUT)
    assert t.now_s() == MONDAY_S + 4 + t.gate.limits.wait_s
    assert (t.gate.waiting, t.gate.held_bytes) == (0, 0)


@played
async def test_attempts_at_one_request_share_one_patience(t: Timeline) -> None:
    t.look()
    await asyncio.sleep(50)
    await t.refused(t.arrive(began_s=MONDAY_S), Outcome.TIMED_OUT)
    assert t.now_s() == MONDAY_S + t.gate.limits.wait_s
    await t.refused(t.arrive(began_s=MONDAY_S - 3600), Outcome.TIMED_OUT)
    assert t.now_s() == MONDAY_S + t.gate.limits.wait_s, "its time was over before it came"


@played
async def test_client_that_goes_away_frees_its_place(t: Timeline) -> None:
    t.look()
    leaving, staying = t.arrive(body_bytes=10), t.arrive(body_bytes=20)
    await settled()
    leaving.cancel()
    await settled()
    assert (t.gate.waiting, t.gate.held_bytes) == (1, 20)
    t.gate.opened(["a"])
    assert await staying is True


@played
async def test_oldest_wait_is_the_longest_of_those_who_still_wait(t: Timeline) -> None:
    t.look()
    first, second = t.arrive(began_s=t.now_s() - 7), t.arrive()
    await asyncio.sleep(3)
    assert t.gate.take()["a"].oldest_wait_s == 10
    first.cancel()
    await settled()
    assert t.gate.take()["a"].oldest_wait_s == 3
    second.cancel()


# --- bounds


@played
async def test_one_model_may_have_so_many_waiters_and_no_more(t: Timeline) -> None:
    t.limits = FrontDoor(waiters_per_model=2)
    t.look()
    held = [t.arrive("a"), t.arrive("a"), t.arrive("b")]
    await settled()
    refusal = await t.refused(t.arrive("a"), Outcome.QUEUE_FULL)
    assert refusal.text == "queue full: 2 requests wait for a, and no more may"
    assert refusal.headers["retry-after"] == "1"
    t.look(ready=["a", "b"])
    assert await asyncio.gather(*held) == [True] * 3


@played
async def test_all_models_together_may_have_so_many_waiters(t: Timeline) -> None:
    t.limits = FrontDoor(waiters=2)
    t.look()
    held = [t.arrive("a"), t.arrive("b")]
    await settled()
    refusal = await t.refused(t.arrive("c"), Outcome.QUEUE_FULL)
    assert refusal.text == "queue full: 2 requests wait, and no more may"
    t.look(ready=["a", "b"])
    assert await asyncio.gather(*held) == [True] * 2


@played
async def test_bodies_of_waiters_may_take_so_much_memory(t: Timeline) -> None:
    t.limits = FrontDoor(held_bytes=100)
    t.look()
    held = [t.arrive("a", body_bytes=60)]
    await settled()
    refusal = await t.refused(t.arrive("b", body_bytes=41), Outcome.QUEUE_FULL)
    assert refusal.text == "queue full: waiting requests hold 60 bytes, and no more may"
    held += [t.arrive("b", body_bytes=40), t.arrive("c", body_bytes=0)]
    await settled()
    assert t.gate.held_bytes == 100
    t.look(ready=MODELS)
    assert await asyncio.gather(*held) == [True] * 3
    assert t.gate.held_bytes == 0


# --- who is turned away


@pytest.mark.parametrize("reason", list(Reason))
def test_waiting_is_refused_exactly_where_it_cannot_help(reason: Reason) -> None:
    @played
    async def timeline(t: Timeline) -> None:
        t.look(holds=[Hold("a", reason, "the numbers")])
        asking = t.arrive()
        if not reason.turns_away:
            await settled()
            assert not asking.done()
            t.look(ready=["a"])
            assert await asking is True
            return
        refusal = await t.refused(asking, Outcome.TURNED_AWAY)
        words = "load failed" if reason is Reason.BACKING_OFF else reason.value.replace("_", " ")
        assert refusal.text == f"{words}: the numbers"
        assert refusal.retry_after_s == RETRY_AFTER_S
        assert t.gate.take()["a"].missed == 1, "it is demand all the same"

    timeline()


@played
async def test_who_waits_already_is_turned_away_when_a_plan_says_so(t: Timeline) -> None:
    t.look()
    asking, other = t.arrive("a"), t.arrive("b")
    await settled()
    t.look(holds=[Hold("a", Reason.LARGER_THAN_BUDGET)])
    refusal = await t.refused(asking, Outcome.TURNED_AWAY)
    assert refusal.text == f"larger than budget: {Reason.LARGER_THAN_BUDGET.meaning}"
    assert not other.done()
    other.cancel()


@played
async def test_next_try_that_is_near_is_waited_for_and_one_that_is_far_is_not(t: Timeline) -> None:
    near_s = t.now_s() + t.limits.retry_wait_s
    t.look(holds=[Hold("a", Reason.BACKING_OFF, "it broke", retry_at_s=near_s)])
    held = t.arrive()
    await settled()
    assert not held.done()
    t.look(holds=[Hold("a", Reason.BACKING_OFF, "it broke", retry_at_s=near_s + 38)])
    for asking in (held, t.arrive()):
        refusal = await t.refused(asking, Outcome.TURNED_AWAY)
        assert refusal.text == "load failed: it broke; next try in 40 s"
        assert refusal.headers["retry-after"] == "40"


@played
async def test_hold_that_a_later_plan_no_longer_has_turns_nobody_away(t: Timeline) -> None:
    t.look(holds=[Hold("a", Reason.PINNED_OUT)])
    await t.refused(t.arrive(), Outcome.TURNED_AWAY)
    t.look()
    asking = t.arrive()
    await settled()
    assert not asking.done()
    asking.cancel()


# --- which models there are


@played
async def test_unknown_model_is_refused_at_once_and_leaves_no_trace(t: Timeline) -> None:
    t.look()
    refusal = await t.refused(t.arrive("nobody"), Outcome.UNKNOWN_MODEL)
    assert refusal.text == "Request for unknown model: 'nobody' is not found"
    assert "retry-after" not in refusal.headers
    assert (t.woken, t.gate.misses, t.gate.take()) == (0, {}, {})


@played
async def test_name_of_any_length_is_told_in_a_few_words(t: Timeline) -> None:
    early = await t.refused(t.arrive("n" * 100_000), Outcome.TIMED_OUT)
    t.look()
    late = await t.refused(t.arrive("n" * 100_000), Outcome.UNKNOWN_MODEL)
    for refusal in (early, late):
        assert len(refusal.text) < 400, "gRPC carries it in a header, which has a limit"


@played
async def test_model_that_leaves_the_repository_is_waited_for_no_longer(t: Timeline) -> None:
    t.look()
    asking = t.arrive()
    await settled()
    t.look(models=["b"])
    await t.refused(asking, Outcome.UNKNOWN_MODEL)
    await t.refused(t.arrive(), Outcome.UNKNOWN_MODEL)
    t.look(ready=["a"])
    assert await t.gate.admit(t.call()) is False


@played
async def test_model_that_leaves_with_requests_inside_is_drained_all_the_same(t: Timeline) -> None:
    t.look(ready=["a"])
    with t.gate.inside(t.call(), waited=False):
        t.look(models=["b"])
        assert not t.gate.is_drained(["a"])
    assert t.gate.is_drained(["a"])


# --- whose word counts


@played
async def test_load_that_ended_during_an_observation_beats_it(t: Timeline) -> None:
    t.look()
    asking = t.arrive()
    asked_at_s = t.now_s()
    await asyncio.sleep(1)
    t.gate.opened(["a"])
    assert await asking is True
    t.look(ready=[], asked_at_s=asked_at_s)
    assert t.gate.is_open("a")
    t.look(ready=[])
    assert t.gate.is_open("a"), "evidence of the very same moment is no younger"
    await asyncio.sleep(1)
    t.look(ready=[])
    assert not t.gate.is_open("a")


@played
async def test_load_that_ended_beats_an_older_look_that_found_nobody(t: Timeline) -> None:
    t.look()
    asked_at_s = t.now_s()
    await asyncio.sleep(1)
    t.gate.opened(["a"])
    t.look(reachable=False, asked_at_s=asked_at_s)
    assert t.gate.is_open("a")
    await asyncio.sleep(1)
    t.look(reachable=False)
    assert not t.gate.is_open("a")


@played
async def test_refusal_of_tritons_during_an_observation_beats_it(t: Timeline) -> None:
    t.look(ready=["a"])
    asked_at_s = t.now_s()
    await asyncio.sleep(1)
    t.gate.distrust("a")
    assert t.woken == 1
    t.gate.distrust("a")
    assert t.woken == 1, "it is known"
    t.look(ready=["a"], asked_at_s=asked_at_s)
    assert not t.gate.is_open("a")
    asking = t.arrive()
    await asyncio.sleep(1)
    assert not asking.done()
    t.look(ready=["a"])
    assert await asking is True


@played
async def test_triton_that_is_away_serves_nothing(t: Timeline) -> None:
    t.look(ready=["a"])
    await asyncio.sleep(1)
    t.look(reachable=False, models=())
    asking = t.arrive()
    await asyncio.sleep(1)
    assert not asking.done(), "and is not forgotten either"
    t.look(ready=["a"])
    assert await asking is True


# --- draining


@played
async def test_drain_holds_new_requests_and_lets_those_inside_finish(t: Timeline) -> None:
    t.look(ready=["a", "b"])
    with t.gate.inside(t.call(), waited=False):
        t.gate.shut(["a"])
        asking = t.arrive()
        t.look(ready=["a", "b"])
        await settled()
        assert not asking.done(), "READY, and yet it leaves"
        assert not t.gate.is_drained(["a", "b"])
        assert t.gate.is_drained(["b"])
    assert t.gate.is_drained(["a"])
    t.gate.unshut(["a"], gone=True)
    await settled()
    assert not asking.done()
    await asyncio.sleep(1)
    t.gate.opened(["a"])
    assert await asking is True


@played
async def test_drain_that_is_called_off_lets_those_held_in(t: Timeline) -> None:
    t.look(ready=["a"])
    t.gate.shut(["a"])
    asking = t.arrive()
    await settled()
    t.gate.unshut(["a"], gone=False)
    assert await asking is True


@played
async def test_drain_that_begins_while_waiters_are_let_in_holds_them_again(t: Timeline) -> None:
    t.look()
    asking = t.arrive()
    await settled()
    t.gate.opened(["a"])
    t.gate.shut(["a"])
    await settled()
    assert not asking.done()
    assert t.gate.waiting == 1
    t.gate.unshut(["a"], gone=False)
    assert await asking is True


@played
async def test_older_look_does_not_bring_back_what_has_just_left(t: Timeline) -> None:
    t.look(ready=["a"])
    asked_at_s = t.now_s()
    t.gate.shut(["a"])
    await asyncio.sleep(1)
    t.gate.unshut(["a"], gone=True)
    t.look(ready=["a"], asked_at_s=asked_at_s)
    assert not t.gate.is_open("a")


# --- what the planner hears


@played
async def test_what_happened_is_told_once_and_what_stands_each_time(t: Timeline) -> None:
    t.look(ready=["a"])
    with t.gate.inside(t.call(), waited=True), t.gate.inside(t.call(), waited=False):
        t.gate.distrust("a")
        asking = t.arrive()
        await settled()
        told = AtDoor(missed=1, replayed=1, forwarded=2, waiting=1, in_flight=2)
        assert t.gate.take() == {"a": told}
        assert t.gate.take() == {"a": AtDoor(waiting=1, in_flight=2)}
    asking.cancel()
    await settled()
    assert t.gate.take() == {}


@played
async def test_lease_ends_by_time_and_by_call(t: Timeline) -> None:
    t.look(ready=["a"])
    t.gate.lease("a", "one", 10)
    t.gate.lease("a", "two", 20)
    assert t.gate.take()["a"].leases == 2
    await asyncio.sleep(10)
    assert t.gate.take()["a"].leases == 1
    t.gate.lease("a", "two", 20)
    await asyncio.sleep(15)
    assert t.gate.take()["a"].leases == 1, "each message puts its end off"
    t.gate.end_lease("a", "two")
    t.gate.end_lease("nobody", "two")
    assert t.gate.take() == {}


@played
async def test_released_request_holds_its_model_while_it_is_on_its_way(t: Timeline) -> None:
    t.look(ready=["a"])
    for _ in range(3):
        t.gate.released(t.call(), waited=True)
    assert t.gate.take() == {"a": AtDoor(replayed=3, leases=1)}
    await asyncio.sleep(ON_ITS_WAY_S)
    assert t.gate.take() == {}


# --- in any order

_calls = st.tuples(
    st.sampled_from(["a", "a", "b", "c", "nobody"]),
    st.integers(0, 60),
    st.sampled_from([None, None, -1.0, 0.0, 3.0, 30.0]),
    st.booleans(),
)
_names = st.sampled_from(MODELS)
_subsets = st.frozensets(_names)
_moves = st.sampled_from(["opened", "shut", "gone", "stays", "distrust"])
_there = st.just(frozenset(MODELS)) | st.just(frozenset("bc"))
_reasons = st.sampled_from([Reason.NO_ROOM, Reason.PINNED_OUT])


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes in whatever order, and whether or not anybody ran in between."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=PlayedLoop)
        self.t = Timeline(_now_s_of(self.runner))
        self.t.limits = FrontDoor(waiters=6, waiters_per_model=4, held_bytes=150)
        self.asking: dict[asyncio.Task[None], Call] = {}
        self.let_in_while_shut: list[Call] = []

    @initialize(looked=st.sampled_from([True, True, True, False]))
    def begins(self, looked: bool) -> None:
        if looked:
            self.t.look()

    @rule(calls=st.lists(_calls, min_size=1, max_size=4))
    def arrive(self, calls: list[tuple[str, int, float | None, bool]]) -> None:
        now_s = self.t.now_s()
        for name, body_bytes, patience_s, counted in calls:
            deadline_s = None if patience_s is None else now_s + patience_s
            call = Call(name, "", body_bytes, now_s, deadline_s, counted)
            task = self.runner.get_loop().create_task(self._goes_in(call))
            self.asking[task] = call

    async def _goes_in(self, call: Call) -> None:
        try:
            await self.t.gate.admit(call)
        except Refusal:
            return
        if not self.t.gate.is_open(call.model):
            self.let_in_while_shut.append(call)

    @rule(
        ready=_subsets,
        there=_there,
        held=_subsets,
        reason=_reasons,
        age_s=st.sampled_from([0.0, 1.0]),
        reachable=st.sampled_from([True, True, True, False]),
    )
    def loop_looks(
        self,
        ready: frozenset[str],
        there: frozenset[str],
        held: frozenset[str],
        reason: Reason,
        age_s: float,
        reachable: bool,
    ) -> None:
        holds = [Hold(name, reason) for name in held]
        asked_at_s = self.t.now_s() - age_s
        self.t.look(ready, holds, models=there, asked_at_s=asked_at_s, reachable=reachable)

    @rule(moves=st.lists(st.tuples(_moves, _subsets), min_size=1, max_size=3))
    def things_happen_at_once(self, moves: list[tuple[str, frozenset[str]]]) -> None:
        """The actuator's doing, and Triton's refusals, before anybody else has had a turn."""
        for move, names in moves:
            match move:
                case "opened":
                    self.t.gate.opened(names)
                case "shut":
                    self.t.gate.shut(names)
                case "gone" | "stays":
                    self.t.gate.unshut(names, gone=move == "gone")
                case "distrust":
                    for name in names:
                        self.t.gate.distrust(name)

    @rule(place=st.integers(0, 100))
    def client_goes_away(self, place: int) -> None:
        waiting = [task for task in self.asking if not task.done()]
        if waiting:
            waiting[place % len(waiting)].cancel()

    @rule()
    def others_run(self) -> None:
        self.runner.run(settled())

    @rule(seconds=st.sampled_from([0.5, 0.5, 5.0, 40.0]))
    def time_goes_on(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    @rule()
    def planner_asks(self) -> None:
        self.runner.run(settled())
        taken = self.t.gate.take()
        assert sum(each.waiting for each in taken.values()) == self.t.gate.waiting

    @invariant()
    def nobody_was_let_in_while_shut(self) -> None:
        assert self.let_in_while_shut == []

    @invariant()
    def bounds_hold(self) -> None:
        assert 0 <= self.t.gate.waiting <= self.t.limits.waiters
        assert 0 <= self.t.gate.held_bytes <= self.t.limits.held_bytes

    @rule()
    def counts_are_the_sum_over_the_waiters(self) -> None:
        self.runner.run(settled())
        left = [call for task, call in self.asking.items() if not task.done()]
        # Before the first look calls wait for that, and not for a model.
        if self.t.gate.take() or self.t.gate.waiting:
            assert self.t.gate.waiting == len(left)
            assert self.t.gate.held_bytes == sum(call.body_bytes for call in left)

    def teardown(self) -> None:
        try:
            self.runner.run(asyncio.sleep(self.t.gate.limits.wait_s + 1))
            assert all(task.done() for task in self.asking), "every wait ends"
            errors = [t.exception() for t in self.asking if not t.cancelled()]
            assert [error for error in errors if error] == []
            assert (self.t.gate.waiting, self.t.gate.held_bytes) == (0, 0)
        finally:
            self.runner.close()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=False,
    max_examples=150,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow],
)
