"""What no plan ever does, whatever the world does: the promises, on generated worlds."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from policies.actions import Plan
from policies.peers import Copies
from policies.planner import plan
from policies.policy import Policy, RankingName
from policies.snapshot import (
    Snapshot,
)
from tests.policies.drawn import (
    CALLER,
    DEVICES,
    RANKINGS,
    REPEATABLE,
    budgets,
    copies,
    guests,
    policies,
)
from tests.policies.promises import (
    check_answers,
    check_copies,
    check_engaged,
    check_patience,
    check_pins,
    check_shape,
    check_updates,
)
from tests.policies.world import (
    GIB,
    LOADING,
    MONDAY_S,
    READY,
    UNLOADED,
    UNLOADING,
    Guest,
    World,
    gpu_world,
    guest,
    policy_of,
)


class LifeOfTriton(RuleBasedStateMachine):
    """Everything happens in any order; after each step every promise is checked."""

    policy: Policy
    world: World
    outsiders = False

    @initialize(policy=policies(), found=guests(), measured=st.booleans())
    def begin(self, policy: Policy, found: dict[str, Guest], measured: bool) -> None:
        for name, members in ((n, policy.calls(n)) for n in found):
            assume(name not in members and all(member in found for member in members))
        self.policy = policy
        total = {"GPU-0": 20 * GIB, "GPU-1": 20 * GIB}
        self.world = World(total, found, now_s=MONDAY_S + 5 * 3600, measured=measured)

    @rule(seconds=st.sampled_from((0.5, 1.0, 4.0, 3600.0)))
    def the_loop_ticks(self, seconds: float) -> None:
        self._tick(seconds, None)

    @rule(count=st.integers(2, 6))
    def the_loop_ticks_often(self, count: int) -> None:
        for _ in range(count):
            self._tick(1.0, None)

    @rule(until=st.integers(0, 2), seconds=st.sampled_from((0.5, 4.0)))
    def the_loop_is_interrupted(self, until: int, seconds: float) -> None:
        self._tick(seconds, until)

    @rule(data=st.data(), requests=st.sampled_from((1, 3, 50)))
    def requests_arrive(self, data: st.DataObject, requests: int) -> None:
        self.world.ask(self._any(data), requests)

    @rule(data=st.data())
    def a_stream_opens(self, data: st.DataObject) -> None:
        name = self._any(data)
        if self.world.guests[name].state is READY and not self.world.drains_now(name):
            self.world.guests[name].leases += 1

    @rule(data=st.data(), found=copies())
    def the_fleet_changes(self, data: st.DataObject, found: Copies | None) -> None:
        self.world.copies[self._any(data)] = found

    @rule()
    def all_streams_end(self) -> None:
        for chosen in self.world.guests.values():
            chosen.leases = 0

    @rule(data=st.data())
    def a_load_will_fail(self, data: st.DataObject) -> None:
        self.world.guests[self._any(data)].fails = 1

    @rule()
    def triton_restarts(self) -> None:
        self.world.restart()

    @rule(data=st.data(), hangs=st.booleans())
    def a_process_dies(self, data: st.DataObject, hangs: bool) -> None:
        name = self._any(data)
        if self.world.guests[name].state is READY and self.world.guests[name].copies == 1:
            self.world.sicken(name, hangs=hangs)

    @rule(data=st.data())
    def files_change(self, data: st.DataObject) -> None:
        self.world.change(self._any(data))

    @rule(data=st.data())
    def somebody_unloads(self, data: st.DataObject) -> None:
        name = self._any(data)
        past = self.world.history.models.get(name)
        if self.world.guests[name].sick and (past is None or past.resident_since_s is None):
            return  # Nobody has seen it READY, and so nobody knows that it leaves.
        if all(v.root != name and name not in v.copies for v in self.world.visits):
            self.world.unload(name)

    @rule(data=st.data())
    def somebody_loads(self, data: st.DataObject) -> None:
        name = self._any(data)
        chosen = self.world.guests[name]
        inner = [self.world.guests[step].state for step in chosen.steps]
        if chosen.state is UNLOADED and LOADING not in inner and UNLOADING not in inner:
            self.outsiders = True
            self.world.load(name)

    @rule(data=st.data())
    def a_model_grows(self, data: st.DataObject) -> None:
        chosen = self.world.guests[self._any(data)]
        chosen.sizes = {device: size + GIB // 2 for device, size in chosen.sizes.items()}
        self.outsiders = True

    @rule(device=st.sampled_from(DEVICES), gib=st.integers(0, 6))
    def other_processes_take_memory(self, device: str, gib: int) -> None:
        self.world.foreign[device] = gib * GIB

    @precondition(lambda self: hasattr(self, "world") and not self.outsiders)
    @invariant()
    def reserved_never_exceeds_a_budget(self) -> None:
        for device, budget in budgets(self.policy).items():
            assert self.world.reserved(self.policy, device) <= budget

    def teardown(self) -> None:
        """Left alone, it comes to rest: nothing moves and nothing more is done."""
        if not hasattr(self, "world"):
            return
        for chosen in self.world.guests.values():
            chosen.fails = 0
        for _ in range(40):
            self._tick(5.0, None)
        self.world.wait(3600.0)
        for _ in range(60):
            self._tick(61.0, None)
        last = [self._tick(1.0, None) for _ in range(3)]
        assert [decided.actions for decided in last] == [(), (), ()]
        held = {hold.subject for hold in last[-1].holds}
        restless = {g.name for g in self.world.guests.values() if g.state not in (READY, UNLOADED)}
        restless |= {g.name for g in self.world.guests.values() if g.sick}
        assert restless <= held

    def _any(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.world.guests)))

    def _tick(self, seconds: float, until: int | None) -> Plan:
        seen = self.world.snapshot()
        before = {d: self.world.reserved(self.policy, d) for d in DEVICES}
        decided = self.world.tick(self.policy, 0.0, until=until, before=self._check(seen))
        for device, budget in budgets(self.policy).items():
            now = self.world.reserved(self.policy, device)
            assert now <= max(budget, before[device]), f"a load went over {device}'s budget"
        loads_begun = len(self.world.visits)
        assert loads_begun <= self.policy.loads.concurrent or self.outsiders
        self.world.wait(seconds)
        return decided

    def _check(self, seen: Snapshot) -> Any:
        def check(decided: Plan) -> None:
            check_pins(self.policy, seen, decided)
            check_engaged(seen, decided)
            check_copies(self.policy, seen, decided)
            check_answers(self.policy, seen, decided)
            check_shape(decided)
            check_patience(seen, decided)
            check_updates(self.policy, seen, decided)

        return check


TestLifeOfTriton = LifeOfTriton.TestCase
TestLifeOfTriton.settings = settings(REPEATABLE, max_examples=150, stateful_step_count=30)


# --- rest, interruption and calm


@settings(REPEATABLE, max_examples=40)
@given(found=guests(), policy=policies(), steps=st.lists(st.integers(0, 3), max_size=12))
def test_an_interrupted_plan_converges_to_a_state_of_rest(
    found: dict[str, Guest], policy: Policy, steps: list[int]
) -> None:
    assume(all(name in found for name in policy.calls(CALLER)))
    world = World(dict.fromkeys(DEVICES, 20 * GIB), found)
    for turn, until in enumerate(steps):
        world.ask(sorted(found)[turn * 5 % len(found)], 2)
        world.tick(policy, until=until)
    world.run(policy, 300)
    assert [world.tick(policy, 1.0).actions for _ in range(5)] == [()] * 5


@settings(REPEATABLE)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=6),
    cuts=st.lists(st.integers(0, 1), max_size=10),
)
def test_an_interrupted_plan_ends_with_the_same_residents_as_a_whole_one(
    sizes: list[int], cuts: list[int]
) -> None:
    policy = policy_of(models={"m0": {"pin": True}, "m1": {"pin": True}})
    wanted = {f"m{i}": float(1 + i) for i in range(len(sizes))}
    residents = []
    for interruptions in ((), cuts):
        world = gpu_world(*(guest(f"m{i}", size) for i, size in enumerate(sizes)))
        for until in (*interruptions, *[None] * 120):
            for name, per_s in wanted.items():
                world.ask(name, per_s)
            world.tick(policy, until=until)
        residents.append(world.residents())
    assert residents[0] == residents[1]


@settings(REPEATABLE)
@given(found=guests(), policy=policies(), asked=st.lists(st.integers(0, 20), max_size=12))
def test_settled_input_gives_an_empty_plan_and_touches_no_record(
    found: dict[str, Guest], policy: Policy, asked: list[int]
) -> None:
    assume(all(name in found for name in policy.calls(CALLER)))
    world = World(dict.fromkeys(DEVICES, 20 * GIB), found)
    for turn in asked:
        world.ask(sorted(found)[turn % len(found)])
        world.tick(policy)
    world.run(policy, 300)
    before = world.history.models
    decided = world.tick(policy)
    assert decided.actions == ()
    waits = {g.name for g in found.values() if g.waiting_since_s or g.leases}
    for name, past in decided.history.models.items():
        assert name in waits or past is before[name]


@pytest.mark.parametrize("ranking", list(RankingName))
@pytest.mark.parametrize("period", [1, 7, 60, 600])
def test_constant_demand_that_fits_never_evicts(ranking: RankingName, period: int) -> None:
    world = gpu_world(*(guest(f"m{i}", 2) for i in range(5)))
    policy = policy_of(ranking=ranking.value)
    world.run(policy, 1000, dict.fromkeys(world.guests, 1 / period))
    assert len(world.residents()) == 5


@settings(REPEATABLE, max_examples=6)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=4, max_size=8),
    periods=st.lists(st.sampled_from((1, 5, 30, 300, 3000)), min_size=8, max_size=8),
    ranking=RANKINGS,
)
def test_no_ranking_evicts_for_ever_under_constant_rates(
    sizes: list[int], periods: list[int], ranking: RankingName
) -> None:
    """All of them promise it for steady rates of which no request waits."""
    world = gpu_world(*(guest(f"m{i}", size) for i, size in enumerate(sizes)))
    policy = policy_of(8 * GIB, ranking=ranking.value)
    demand = {f"m{i}": 1 / periods[i] for i in range(len(sizes))}
    world.run(policy, 900, demand)
    assert world.run(policy, 600, demand) == 0


@pytest.mark.parametrize("ranking", [RankingName.LFU, RankingName.GREEDY_DUAL])
def test_frequency_rankings_settle_though_requests_wait_with_endless_patience(
    ranking: RankingName,
) -> None:
    assert evictions_while_requests_wait(ranking, patience="7d") == 0


@pytest.mark.parametrize("ranking", list(RankingName))
def test_rankings_take_turns_when_requests_wait_but_within_the_churn_limit(
    ranking: RankingName,
) -> None:
    """Or else somebody would wait for ever."""
    assert 0 < evictions_while_requests_wait(ranking, patience="15s") <= 6


def evictions_while_requests_wait(ranking: RankingName, patience: str) -> int:
    """Unloads in the last of some churn windows, each model asked for every few seconds."""
    world = gpu_world(*(guest(f"m{i}", 3, waits=True) for i in range(4)))
    policy = policy_of(
        8 * GIB,
        ranking=ranking.value,
        churn={"evictions": 6, "window": "120s"},
        front_door={"patience": patience},
    )
    unloads = 0
    for second in range(960):
        for position, name in enumerate(world.guests):
            if second % (3 + 2 * position) == 0:
                world.ask(name)
        count = sum(1 for _ in world.tick(policy).unloads)
        unloads += count if second >= 840 else 0
    return unloads


@settings(REPEATABLE, max_examples=6)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=4, max_size=8),
    periods=st.lists(st.sampled_from((1, 5, 30, 300, 3000)), min_size=8, max_size=8),
    drains_s=st.lists(st.sampled_from((0.0, 3.0, 9.0)), min_size=8, max_size=8),
    ranking=RANKINGS,
)
def test_no_drain_is_called_off_under_constant_rates(
    sizes: list[int], periods: list[int], drains_s: list[float], ranking: RankingName
) -> None:
    """As long as nobody has to wait for what drains."""
    world = gpu_world(*(guest(f"m{i}", size, drain_s=drains_s[i]) for i, size in enumerate(sizes)))
    policy = policy_of(8 * GIB, ranking=ranking.value, residency={"minimum": 0})
    demand = {f"m{i}": 1 / periods[i] for i in range(len(sizes))}
    world.run(policy, 300, demand)
    assert world.called_off == 0


@settings(REPEATABLE, max_examples=200)
@given(found=guests(), policy=policies(), asked=st.lists(st.integers(0, 20), max_size=12))
def test_victims_stay_chosen_until_their_unload_is_seen(
    found: dict[str, Guest], policy: Policy, asked: list[int]
) -> None:
    """Having been chosen is no reason to choose anew, with the rest of the world as it was."""
    assume(all(name in found for name in policy.calls(CALLER)))
    world = World(dict.fromkeys(DEVICES, 20 * GIB), found)
    for turn, position in enumerate(asked):
        world.ask(sorted(found)[position % len(found)], 1 + turn)
        world.tick(policy, 3.0)
    seen, history = world.snapshot(), world.history
    chosen: set[str] = set()
    for _ in range(3):
        decided = plan(policy, seen, history)
        leaving = {name for u in decided.unloads for name in (u.model, *u.takes)}
        assert chosen <= leaving
        chosen, history = leaving, decided.history
        models = {
            name: replace(model, arrivals=0.0, draining=name in leaving)
            for name, model in seen.models.items()
        }
        seen = replace(seen, models=models)


@settings(REPEATABLE, max_examples=10)
@given(
    drain_s=st.sampled_from((1.0, 4.0, 9.0)),
    per_s=st.lists(st.integers(1, 20), min_size=2, max_size=4),
    load_s=st.sampled_from((0.5, 2.0, 8.0)),
)
def test_busy_residents_that_drain_slowly_do_not_keep_a_waiting_model_out_for_ever(
    drain_s: float, per_s: list[int], load_s: float
) -> None:
    """Each drain holds up requests, and each change of mind lets them in: it must end."""
    residents = (
        guest(f"m{i}", 4, state=READY, drain_s=drain_s, load_s=load_s, waits=True)
        for i in range(len(per_s))
    )
    world = gpu_world(
        *residents, guest("late", 4, load_s=load_s, waits=True), total_bytes=4 * len(per_s) * GIB
    )
    policy = policy_of("100%")
    world.run(policy, 120, {f"m{i}": rate for i, rate in enumerate(per_s)})
    world.ask("late", 20)
    for _ in range(120):
        for position, rate in enumerate(per_s):
            world.ask(f"m{position}", rate)
        world.tick(policy)
        if "late" in world.residents():
            break
    assert "late" in world.residents()
    assert world.called_off <= 2
