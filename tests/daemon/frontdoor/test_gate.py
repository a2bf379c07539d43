"""The gate by itself, as timelines."""

import asyncio
import gc
from types import FunctionType, ModuleType

import pytest

from daemon.frontdoor.gate import ON_ITS_WAY_S, RETRY_AFTER_S, AtDoor
from daemon.frontdoor.refusals import Outcome, Refusal
from policies.actions import Hold, Reason
from policies.policy import FrontDoor
from tests.daemon.frontdoor.played import MODELS, MONDAY_S, Timeline, played, settled


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


# --- a pod that leaves


@played
async def test_leaving_pod_serves_what_it_has_and_sends_elsewhere_what_it_lacks(
    t: Timeline,
) -> None:
    t.look(ready=["a"])
    t.gate.moves = True
    assert await t.gate.admit(t.call("a", movable=True)) is False
    refusal = await t.refused(t.arrive("b", movable=True), Outcome.SENT_ELSEWHERE)
    assert refusal.headers["x-remora-elsewhere"] == "1"
    assert refusal.headers["x-envoy-ratelimited"] == "true", "this pod's Envoy asks nobody again"
    assert (t.woken, t.gate.misses, t.gate.take()) == (0, {}, {}), "nothing is loaded for it here"


@played
async def test_leaving_pod_holds_what_nobody_can_send_elsewhere(t: Timeline) -> None:
    t.look()
    t.gate.moves = True
    asking = t.arrive("a")
    await settled()
    assert t.gate.take()["a"] == AtDoor(missed=1, waiting=1)
    t.gate.opened(["a"])
    assert await asking is True


@played
async def test_who_waits_in_a_leaving_pod_stays_for_a_load_under_way_and_else_moves(
    t: Timeline,
) -> None:
    t.look()
    coming, absent = t.arrive("a", movable=True), t.arrive("b", movable=True)
    await settled()
    t.gate.moves = True
    t.look(loading=["a"])
    await t.refused(absent, Outcome.SENT_ELSEWHERE)
    assert not coming.done()
    t.gate.opened(["a"])
    assert await coming is True


@played
async def test_last_of_a_pod_that_goes_moves_and_that_of_a_sidecar_that_restarts_waits(
    t: Timeline,
) -> None:
    t.look()
    waiting = t.arrive("a", movable=True)
    await settled()
    t.gate.close()
    await t.refused(waiting, Outcome.CLOSING)
    t.gate.lets_go = True
    await t.refused(t.arrive("a", movable=True), Outcome.SENT_ELSEWHERE)
    await t.refused(t.arrive("a"), Outcome.CLOSING)
