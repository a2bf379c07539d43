"""The gate under whatever comes, in whatever order."""

import asyncio

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from daemon.frontdoor.gate import Call
from daemon.frontdoor.refusals import Outcome, Refusal
from policies.actions import Hold, Reason
from policies.policy import FrontDoor
from tests.daemon.frontdoor.played import MODELS, PlayedLoop, Timeline, now_s_of, settled

_calls = st.tuples(
    st.sampled_from(["a", "a", "b", "c", "nobody"]),
    st.integers(0, 60),
    st.sampled_from([None, None, -1.0, 0.0, 3.0, 30.0]),
    st.booleans(),
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
        self.t = Timeline(now_s_of(self.runner))
        self.t.limits = FrontDoor(waiters=6, waiters_per_model=4, held_bytes=150)
        self.asking: dict[asyncio.Task[None], Call] = {}
        self.let_in_while_shut: list[Call] = []
        self.sent_elsewhere: list[Call] = []

    @initialize(looked=st.sampled_from([True, True, True, False]))
    def begins(self, looked: bool) -> None:
        if looked:
            self.t.look()

    @rule(calls=st.lists(_calls, min_size=1, max_size=4))
    def arrive(self, calls: list[tuple[str, int, float | None, bool, bool]]) -> None:
        now_s = self.t.now_s()
        for name, body_bytes, patience_s, counted, movable in calls:
            deadline_s = None if patience_s is None else now_s + patience_s
            call = Call(name, "", body_bytes, now_s, deadline_s, counted, movable)
            task = self.runner.get_loop().create_task(self._goes_in(call))
            self.asking[task] = call

    async def _goes_in(self, call: Call) -> None:
        try:
            await self.t.gate.admit(call)
        except Refusal as refusal:
            if refusal.outcome is Outcome.SENT_ELSEWHERE:
                self.sent_elsewhere.append(call)
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
        loading=_subsets,
    )
    def loop_looks(
        self,
        ready: frozenset[str],
        there: frozenset[str],
        held: frozenset[str],
        reason: Reason,
        age_s: float,
        reachable: bool,
        loading: frozenset[str],
    ) -> None:
        holds = [Hold(name, reason) for name in held]
        asked_at_s = self.t.now_s() - age_s
        self.t.look(
            ready,
            holds,
            models=there,
            asked_at_s=asked_at_s,
            reachable=reachable,
            loading=loading - ready,
        )

    @rule(leaves=st.booleans())
    def pod_leaves_or_stays_after_all(self, leaves: bool) -> None:
        self.runner.run(settled())
        self.t.gate.moves = leaves

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
    def nobody_was_sent_elsewhere_whom_nobody_could_send_on(self) -> None:
        assert all(call.movable for call in self.sent_elsewhere)

    @rule()
    def who_can_move_waits_for_nothing_but_a_load_under_way(self) -> None:
        if not self.t.gate.moves:
            return
        self.t.look()
        self.runner.run(settled())
        assert not any(call.movable for task, call in self.asking.items() if not task.done())

    @invariant()
    def bounds_hold(self) -> None:
        assert 0 <= self.t.gate.waiting <= self.t.limits.waiters
        assert 0 <= self.t.gate.held_bytes <= self.t.limits.held_bytes

    @rule()
    def counts_are_the_sum_over_the_waiters(self) -> None:
        self.runner.run(settled())
        left = [call for task, call in self.asking.items() if not task.done()]
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
