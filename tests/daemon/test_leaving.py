"""How a pod leaves, as timelines on a clock that jumps; its peers are those of a real table."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

from daemon.frontdoor.gate import Gate
from daemon.leaving import HAND_OVER_SHARE, QUIET_S, Leaving
from daemon.telemetry import Latest, Telemetry
from policies.actions import Plan
from policies.history import History
from policies.peers import Peer
from policies.snapshot import Model, ModelState, Snapshot
from policies.source import parse
from tests.daemon.frontdoor.played import PlayedLoop, now_s_of

DEADLINE_S = 40.0
NOTICE_S = 5.0
# The look at what holds it back comes so often.
LATE_S = 0.5


@dataclass
class Heard:
    """What gossip has heard of others, and of us."""

    known: dict[str, Peer] = field(default_factory=dict)
    asked_to_leave: bool = False
    left: bool = False

    def leave(self) -> None:
        self.left = True

    def peers(self) -> Mapping[str, Peer]:
        return self.known

    def tell(self, name: str, *residents: str, leaving: bool = False) -> None:
        self.known[name] = Peer(name, name, frozenset(residents), leaving=leaving)


class Pod:
    """A pod that leaves; it ticks every second. stopped_at_s: when its loop was ended."""

    def __init__(self, now_s: Callable[[], float], heard: Heard | None, ready: Iterable[str]):
        self.now_s, self.heard, self.stopped_at_s = now_s, heard, 0.0
        self.gate = Gate(now_s)
        self.models = {name: Model(name, ModelState.READY) for name in ready}
        policy = parse("scaling: {routing: by-model}")
        latest = Latest(policy, Snapshot(now_s()), Plan((), (), History()))
        self.telemetry = Telemetry(latest, self.gate)
        self.leaving = Leaving(
            self.telemetry, now_s, lambda: None, DEADLINE_S, NOTICE_S, fleet=heard
        )
        self.began_s = now_s()
        self.tick()
        self._ticking = asyncio.create_task(self._tick_on())

    def tick(self, *, reachable: bool = True) -> None:
        snapshot = Snapshot(self.now_s(), reachable, models=dict(self.models))
        latest = self.telemetry.latest
        self.telemetry.took(Latest(latest.policy, snapshot, latest.plan))
        self.leaving.took(snapshot)

    def traffic(self, model: str, arrivals: float) -> None:
        self.models[model] = replace(self.models[model], arrivals=arrivals)

    async def _tick_on(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.tick()

    async def out_after_s(self) -> float:
        await self.leaving.out()
        return self.now_s() - self.began_s

    def stop(self) -> None:
        self.stopped_at_s = self.now_s()

    async def close(self) -> None:
        self._ticking.cancel()
        await self.leaving.close()


Start = Callable[..., Pod]


def played(test: Callable[[Start], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        async def played() -> None:
            pods: list[Pod] = []

            def start(heard: Heard | None = None, *ready: str) -> Pod:
                pods.append(Pod(now_s_of(runner), heard, ready))
                return pods[-1]

            try:
                await test(start)
            finally:
                for pod in pods:
                    await pod.close()

        with asyncio.Runner(loop_factory=PlayedLoop) as runner:
            runner.run(played())

    del run.__wrapped__
    return run


@played
async def test_it_goes_on_for_its_notice_and_then_is_out(start: Start) -> None:
    pod = start(None, "a")
    pod.leaving.begin("a test")
    assert NOTICE_S <= await pod.out_after_s() <= NOTICE_S + LATE_S


@played
async def test_it_waits_until_a_peer_that_stays_holds_what_only_it_held(start: Start) -> None:
    heard = Heard()
    heard.tell("two", "a")
    heard.tell("three", "b", leaving=True)
    pod = start(heard, "a", "b")
    pod.leaving.begin("a test")
    assert heard.left, "peers are told at once"
    await asyncio.sleep(12)
    assert pod.leaving.held_back == {"hand_over": "no other pod holds b yet"}
    assert pod.telemetry.registry.get_sample_value("remora_leaving_unshared_models") == 1
    heard.tell("two", "a", "b")
    assert 12 <= await pod.out_after_s() <= 12 + LATE_S


@played
async def test_it_waits_for_peers_without_room_no_longer_than_a_share_of_its_time(
    start: Start,
) -> None:
    heard = Heard()
    heard.tell("two")
    pod = start(heard, *"abcdefg")
    pod.leaving.begin("a test")
    after_s = await pod.out_after_s()
    assert HAND_OVER_SHARE * DEADLINE_S <= after_s <= HAND_OVER_SHARE * DEADLINE_S + LATE_S
    told = pod.leaving.told()
    assert told is not None
    assert told["held_here_alone"] == list("abcdefg")


@played
async def test_where_requests_go_to_any_pod_nothing_is_handed_over(start: Start) -> None:
    heard = Heard()
    heard.tell("two")
    pod = start(heard, "a")
    pod.telemetry.latest.policy = parse("scaling: {routing: spread}")
    pod.leaving.begin("a test")
    assert await pod.out_after_s() <= NOTICE_S + LATE_S


@played
async def test_last_pod_has_nobody_to_wait_for(start: Start) -> None:
    heard = Heard()
    heard.tell("two", leaving=True)
    pod = start(heard, "a")
    pod.leaving.begin("a test")
    assert not pod.gate.moves, "nobody would serve what is sent away"
    assert await pod.out_after_s() <= NOTICE_S + LATE_S


@played
async def test_what_is_in_flight_ends_first_until_the_deadline(start: Start) -> None:
    pod = start(None, "a")
    pod.traffic("a", 3)
    pod.leaving.begin("a test")
    await asyncio.sleep(20)
    assert "in_flight" in pod.leaving.held_back
    pod.traffic("a", 0)
    assert 20 <= await pod.out_after_s() <= 20 + 1 + QUIET_S + LATE_S

    never_quiet = start(None, "a")
    never_quiet.traffic("a", 3)
    never_quiet.leaving.begin("a test")
    assert DEADLINE_S <= await never_quiet.out_after_s() <= DEADLINE_S + LATE_S


@played
async def test_where_another_stays_requests_move_and_what_an_operator_asks_he_can_call_off(
    start: Start,
) -> None:
    heard = Heard()
    heard.tell("two")
    pod = start(heard, "a")
    assert (pod.gate.moves, pod.leaving.told()) == (False, None)
    heard.asked_to_leave = True
    pod.tick()
    assert pod.gate.moves
    assert pod.telemetry.registry.get_sample_value("remora_leaving") == 1
    assert not pod.leaving.has_begun, "nothing ends before the pod itself is to go"
    heard.asked_to_leave = False
    pod.tick()
    assert (pod.gate.moves, pod.leaving.told()) == (False, None)
    assert pod.telemetry.registry.get_sample_value("remora_leaving") == 0
    assert pod.telemetry.registry.get_sample_value("remora_leaving_unshared_models") is None


@played
async def test_a_signal_to_end_is_obeyed_when_the_pod_is_out(start: Start) -> None:
    heard = Heard()
    heard.tell("two", "a")
    pod = start(heard, "a")
    pod.leaving.terminate(pod.stop)
    assert not pod.stopped_at_s
    await pod.out_after_s()
    await asyncio.sleep(0)
    assert pod.stopped_at_s

    after_the_hook = start(heard, "a")
    after_the_hook.leaving.begin("a hook")
    await after_the_hook.out_after_s()
    after_the_hook.leaving.terminate(after_the_hook.stop)
    assert after_the_hook.stopped_at_s


@played
async def test_a_signal_to_end_is_obeyed_at_once_where_nobody_takes_over_or_at_the_second(
    start: Start,
) -> None:
    alone = start(None, "a")
    alone.leaving.terminate(alone.stop)
    assert alone.stopped_at_s

    heard = Heard()
    heard.tell("two")
    pod = start(heard, "a")
    pod.leaving.terminate(pod.stop)
    pod.leaving.terminate(pod.stop)
    assert pod.stopped_at_s


@played
async def test_a_triton_that_is_away_has_nothing_in_flight(start: Start) -> None:
    pod = start(None, "a")
    pod.traffic("a", 3)
    pod.leaving.begin("a test")
    pod._ticking.cancel()
    for _ in range(20):
        await asyncio.sleep(1)
        pod.tick(reachable=False)
    assert pod.leaving.is_out
