"""What the planner promises, one timeline each: who comes in, and who leaves for it."""

from dataclasses import replace

import pytest

from policies.actions import Hold, Load, Plan, Reason, Unload
from policies.history import History
from policies.planner import plan
from policies.snapshot import (
    Device,
    ErrorClass,
    Footprint,
    FootprintSource,
    LoadFailure,
    Model,
    Snapshot,
)
from tests.policies.timeline import (
    HOUR_S,
    asked,
    grown_old,
    here,
    hold_of,
    loads,
    reason_of,
    unloads,
)
from tests.policies.world import (
    GIB,
    GPU,
    LOADING,
    MONDAY_S,
    READY,
    UNLOADED,
    Guest,
    World,
    gpu_world,
    guest,
    policy_of,
)

# --- loads


def test_a_model_that_is_asked_for_is_loaded() -> None:
    world = gpu_world(guest("a"), guest("b"))
    decided = asked(world, policy_of(), "a")
    assert decided.actions == (Load("a", Reason.DEMANDED, brings=("a",)),)
    assert decided.holds == ()


def test_nothing_is_loaded_that_nobody_wants() -> None:
    assert gpu_world(guest("a")).tick(policy_of()).actions == ()


def test_a_pin_on_a_model_that_is_not_there_is_said() -> None:
    policy = policy_of(models={"resnet50": {"pin": True}, "bert-*": {"pin": True}})
    decided = gpu_world(guest("resnet-50")).tick(policy)
    assert decided.holds == (Hold("resnet50", Reason.NOT_IN_REPOSITORY, "pinned by the policy"),)


def test_a_load_that_outlives_its_deadline_keeps_its_memory_and_gives_back_its_slot() -> None:
    late = Model("late", LOADING, Footprint({GPU: 4 * GIB}, FootprintSource.DECLARED), overdue=True)
    fresh = replace(late, name="fresh", state=UNLOADED, overdue=False, arrivals=1)
    devices = {GPU: Device(GPU, 10 * GIB)}
    policy = policy_of(loads={"concurrent": 1})
    seen = Snapshot(MONDAY_S, devices=devices, models={"late": late, "fresh": fresh})
    assert loads(plan(policy, seen, History())) == ["fresh"]
    in_time = replace(seen, models={"late": replace(late, overdue=False), "fresh": fresh})
    held = plan(policy, in_time, History())
    assert reason_of(held, "fresh") is Reason.WAITING_FOR_LOAD_SLOT
    tight = plan(policy_of(7 * GIB), seen, History())
    assert reason_of(tight, "fresh") is Reason.NO_ROOM


def test_an_unreachable_triton_is_left_alone() -> None:
    snapshot = replace(gpu_world(guest("a", arrivals=1)).snapshot(), reachable=False)
    history = History()
    assert plan(policy_of(), snapshot, history) == Plan(
        (), (Hold("", Reason.TRITON_UNREACHABLE),), history
    )


def test_the_budget_decides_what_fits() -> None:
    roomy, tight = policy_of(5 * GIB), policy_of(3 * GIB)
    assert loads(asked(gpu_world(guest("a", 4)), roomy, "a")) == ["a"]
    decided = asked(gpu_world(guest("a", 4)), tight, "a")
    assert hold_of(decided, "a") == Hold(
        "a", Reason.LARGER_THAN_BUDGET, f"needs 4 GiB on {GPU}, where the budget is 3 GiB"
    )


def test_a_budget_may_be_a_share_of_the_device() -> None:
    world = gpu_world(guest("a", 4), total_bytes=10 * GIB)
    assert reason_of(asked(world, policy_of("30%"), "a"), "a") is Reason.LARGER_THAN_BUDGET
    assert loads(asked(world, policy_of("40%"), "a")) == ["a"]


def test_headroom_stays_free_below_the_budget() -> None:
    world = gpu_world(guest("a", 4))
    decided = asked(world, policy_of(5 * GIB, headroom="2GiB"), "a")
    assert reason_of(decided, "a") is Reason.LARGER_THAN_BUDGET


def test_a_device_may_have_its_own_budget_and_headroom() -> None:
    world = gpu_world(guest("a", 4))
    own_budget = policy_of(5 * GIB, devices={GPU: {"budget": "3GiB"}})
    own_headroom = policy_of(5 * GIB, devices={GPU: {"headroom": "2GiB"}})
    others = policy_of(5 * GIB, devices={"GPU-1": {"budget": "3GiB"}})
    assert reason_of(asked(world, own_budget, "a"), "a") is Reason.LARGER_THAN_BUDGET
    assert reason_of(asked(world, own_headroom, "a"), "a") is Reason.LARGER_THAN_BUDGET
    assert loads(asked(world, others, "a")) == ["a"]


def test_a_model_on_two_devices_needs_room_on_both() -> None:
    a = Guest("a", {"GPU-0": 2 * GIB, "GPU-1": 2 * GIB})
    b = Guest("b", {"GPU-1": 3 * GIB}, state=READY)
    world = World({"GPU-0": 4 * GIB, "GPU-1": 4 * GIB}, {"a": a, "b": b})
    policy = policy_of("100%", models={"b": {"pin": True}})
    assert reason_of(asked(world, policy, "a"), "a") is Reason.PINNED_OUT
    world.restart()
    assert loads(asked(world, policy_of("100%"), "a")) == ["a"]


def test_a_load_is_counted_with_its_peak() -> None:
    calm, steep = policy_of(5 * GIB), policy_of(5 * GIB, loads={"peak_factor": 1.5})
    own = policy_of(5 * GIB, models={"a": {"peak_factor": 1.5}})
    assert loads(asked(gpu_world(guest("a", 4)), calm, "a")) == ["a"]
    for policy in (steep, own):
        decided = asked(gpu_world(guest("a", 4)), policy, "a")
        assert reason_of(decided, "a") is Reason.LARGER_THAN_BUDGET


def test_only_so_many_loads_run_at_once() -> None:
    world = gpu_world(guest("a"), guest("b"), guest("c"))
    decided = asked(world, policy_of(loads={"concurrent": 2}), "a", "b", "c")
    assert loads(decided) == ["a", "b"]
    assert reason_of(decided, "c") is Reason.WAITING_FOR_LOAD_SLOT
    one = policy_of(loads={"concurrent": 1})
    assert loads(asked(gpu_world(guest("a"), guest("b")), one, "a", "b")) == ["a"]


def test_a_model_of_unknown_size_is_held_until_its_size_is_declared() -> None:
    world = gpu_world(guest("a", known_size=False))
    decided = asked(world, policy_of(), "a")
    assert hold_of(decided, "a").reason is Reason.FOOTPRINT_UNKNOWN
    assert "a: declare models.<name>.footprint" in hold_of(decided, "a").detail


def test_a_resident_of_unknown_size_is_bounded_by_measured_use() -> None:
    stranger = here("s", 6, known_size=False)
    world = gpu_world(stranger, guest("a", 3), guest("b", 5))
    assert loads(asked(world, policy_of(), "a")) == ["a"]
    world = gpu_world(stranger, guest("a", 3), guest("b", 5))
    assert loads(asked(world, policy_of(), "b")) == []


def test_a_resident_of_unknown_size_on_an_unmeasured_device_holds_every_load() -> None:
    world = gpu_world(here("s", known_size=False), guest("a"))
    world.measured = False
    assert reason_of(asked(world, policy_of(), "a"), "a") is Reason.FOOTPRINT_UNKNOWN


def test_a_share_of_a_device_of_unknown_size_is_an_unknown_budget() -> None:
    snapshot = replace(gpu_world(guest("a", arrivals=1)).snapshot(), devices={GPU: Device(GPU)})
    assert reason_of(plan(policy_of("90%"), snapshot, History()), "a") is Reason.BUDGET_UNKNOWN
    assert loads(plan(policy_of(2 * GIB), snapshot, History())) == ["a"]


def test_a_model_that_is_not_in_the_repository_is_held() -> None:
    world = gpu_world(guest("e", 0, steps=("gone",)))
    assert hold_of(asked(world, policy_of(), "e"), "e") == Hold(
        "e", Reason.NOT_IN_REPOSITORY, "gone"
    )


def test_a_request_keeps_an_absent_model_wanted_for_a_while() -> None:
    world = gpu_world(guest("a", 1), here("old", 10, sick=False))
    policy = policy_of(demand={"want": "5s"}, models={"old": {"pin": True}})
    asked(world, policy, "a")
    assert [bool(world.tick(policy).holds) for _ in range(8)] == [True] * 5 + [False] * 3


# --- evictions


def full_world(**traits: object) -> World:
    """Two old residents that fill the device, and a third model with requests to come."""
    world = gpu_world(here("hot", 5), here("cold", 5), guest("new", 5, **traits))
    policy = policy_of()
    for _ in range(40):
        asked(world, policy, "hot")
    return world


def test_the_least_worth_resident_makes_room() -> None:
    world, policy = full_world(), policy_of()
    decided = asked(world, policy, "new", times=5)
    assert decided.actions == (Unload("cold", Reason.EVICTED, for_model="new"),)
    assert hold_of(decided, "new") == Hold("new", Reason.WAITING_FOR_UNLOAD, "cold")
    world.run(policy, 5)
    assert world.residents() == {"hot", "new"}


def test_a_swap_that_does_not_pay_is_not_made() -> None:
    world = full_world()
    policy = policy_of(models={"cold": {"pin": True}})
    decided = asked(world, policy, "new")
    assert decided.actions == ()
    assert reason_of(decided, "new") is Reason.SWAP_DOES_NOT_PAY


def test_hysteresis_is_the_price_of_a_swap() -> None:
    def tried(hysteresis: float) -> list[str]:
        world = gpu_world(here("a", 10, load_s=2.0), guest("b", 10, load_s=2.5))
        policy = policy_of(residency={"hysteresis": hysteresis})
        grown_old(world, policy, 40)
        asked(world, policy, "a")
        return unloads(asked(world, policy, "b"))

    assert tried(0.1) == ["a"]
    assert tried(0.5) == []


def test_weight_decides_between_equals() -> None:
    def tried(**models: object) -> list[str]:
        world = gpu_world(here("a", 5), here("b", 5), guest("c", 5, waits=True))
        policy = policy_of(models=models)
        grown_old(world, policy)
        asked(world, policy, "a", "b")
        return unloads(asked(world, policy, "c", times=9))

    assert tried(a={"weight": 2}) == ["b"]
    assert tried(b={"weight": 2}) == ["a"]


def test_a_longer_horizon_values_a_slow_rate_more() -> None:
    def tried(horizon: str) -> list[str]:
        world = gpu_world(here("a", 10, load_s=10.0), guest("b", 10, load_s=2.0))
        policy = policy_of(horizon=horizon)
        asked(world, policy, "a")
        world.wait(600)
        grown_old(world, policy, 1)
        return unloads(asked(world, policy, "b"))

    assert tried("1m") == ["a"]
    assert tried("1h") == []


def test_the_demand_windows_say_how_long_a_burst_is_remembered() -> None:
    def tried(**demand: str) -> list[str]:
        world = gpu_world(here("a", 10), guest("b", 10))
        policy = policy_of(demand=demand)
        asked(world, policy, "a", times=3)
        world.wait(900)
        grown_old(world, policy, 1)
        return unloads(asked(world, policy, "b"))

    assert tried(fast="60s", slow="1h") == ["a"]
    assert tried(fast="60s", slow="60s") == ["a"]
    assert tried(fast="1h", slow="1h") == []


@pytest.mark.parametrize(
    ("ranking", "victim"), [("lru", "often"), ("lfu", "late"), ("greedy-dual", "late")]
)
def test_each_ranking_chooses_its_own_victim(ranking: str, victim: str) -> None:
    world = gpu_world(here("often", 5), here("late", 5), guest("new", 5))
    policy = policy_of(ranking=ranking)
    asked(world, policy, "often", times=50)
    world.wait(100)
    asked(world, policy, "late")
    world.wait(100)
    grown_old(world, policy, 1)
    assert unloads(asked(world, policy, "new", times=20)) == [victim]


def test_a_slow_unload_makes_a_swap_dearer() -> None:
    devices = {GPU: Device(GPU, 10 * GIB)}
    size = Footprint({GPU: 6 * GIB}, FootprintSource.DECLARED)
    busy = Model("busy", READY, size, load_s=1, arrivals=60)
    late = Model("late", UNLOADED, size, load_s=1, waiting=1, oldest_wait_s=2)
    policy = policy_of(residency={"minimum": 0})
    seen = Snapshot(MONDAY_S, devices=devices, models={"busy": busy, "late": late})
    assert unloads(plan(policy, seen, History())) == ["busy"]
    slow = plan(policy, replace(seen, unload_s=5.0), History())
    assert reason_of(slow, "late") is Reason.SWAP_DOES_NOT_PAY


def test_a_young_model_is_not_evicted() -> None:
    world = gpu_world(here("a", 10), guest("b", 10, waits=True))
    policy = policy_of(residency={"minimum": "20s"})
    world.tick(policy)
    decided = asked(world, policy, "b", times=3)
    assert hold_of(decided, "b") == Hold("b", Reason.MINIMUM_RESIDENCY, "a")
    left = [bool(unloads(world.tick(policy))) for _ in range(20)]
    assert left.index(True) == 18


def test_nobody_evicts_before_a_worthier_model_that_waits_for_residents_to_age() -> None:
    world = gpu_world(here("old", 4), here("young", 6), guest("large", 8), guest("small", 3))
    policy = policy_of(models={"old": {"minimum": "0s"}, "small": {"weight": 0.1}})
    world.tick(policy)
    asked(world, policy, "large", times=50)
    decided = asked(world, policy, "large", "small")
    assert unloads(decided) == []
    assert hold_of(decided, "large") == Hold("large", Reason.MINIMUM_RESIDENCY, "young")
    assert hold_of(decided, "small") == Hold("small", Reason.OUTRANKED, "large")


def test_a_model_may_have_its_own_minimum_residency() -> None:
    world = gpu_world(here("a", 10), guest("b", 10, waits=True))
    policy = policy_of(models={"a": {"minimum": "0s"}})
    world.tick(policy)
    assert unloads(asked(world, policy, "b")) == ["a"]


def test_a_model_just_evicted_cools_down_unless_requests_wait() -> None:
    def tried(cooldown: str, *, waits: bool = False) -> list[float]:
        world = gpu_world(here("a", 2, waits=waits))
        policy = policy_of(residency={"cooldown": cooldown, "idle_unload": "5s", "minimum": "0s"})
        world.run(policy, 8)
        assert world.residents() == set()
        begun_s = world.now_s
        while not loads(asked(world, policy, "a")):
            pass
        return [world.now_s - begun_s]

    assert tried("0s") == [1.0]
    assert tried("20s") > [15.0]
    assert tried("20s", waits=True) == [1.0]


def test_evictions_stay_within_the_churn_limit() -> None:
    world = gpu_world(here("a", 5), here("b", 5), *(guest(n, 5, waits=True) for n in "cd"))
    policy = policy_of(churn={"evictions": 1, "window": "100s"})
    grown_old(world, policy)
    decided = asked(world, policy, "c", "d", times=5)
    assert len(unloads(decided)) == 1
    assert [h.reason for h in decided.holds] == [Reason.WAITING_FOR_UNLOAD, Reason.CHURN_LIMIT]
    world.run(policy, 90)
    assert len(world.residents() & {"c", "d"}) == 1
    world.run(policy, 20)
    assert world.residents() == {"c", "d"}


def test_an_eviction_decided_but_not_done_counts_once() -> None:
    world = gpu_world(here("a", 10), guest("b", 10, waits=True))
    policy = policy_of(churn={"evictions": 1})
    grown_old(world, policy)
    world.ask("b", 3)
    for _ in range(5):
        assert unloads(world.tick(policy, until=0)) == ["a"]
    assert len(world.history.evictions_s) == 1


def test_no_more_leave_than_needed() -> None:
    world = gpu_world(here("a", 1), here("b", 2), here("c", 7), guest("new", 7, waits=True))
    policy = policy_of()
    grown_old(world, policy)
    assert unloads(asked(world, policy, "new", times=9)) == ["c"]


def test_room_that_is_waited_for_is_not_taken_by_a_lesser_candidate() -> None:
    world = gpu_world(
        here("a", 6, unload_s=10), guest("big", 9, waits=True), guest("small", 3, waits=True)
    )
    policy = policy_of(models={"big": {"weight": 100}})
    grown_old(world, policy)
    decided = asked(world, policy, "big", "small")
    assert unloads(decided) == ["a"]
    assert loads(decided) == []
    world.run(policy, 12)
    assert world.guests["big"].state is not UNLOADED
    assert world.guests["small"].state is UNLOADED


def test_nobody_leaves_for_a_load_that_has_no_slot() -> None:
    world = gpu_world(here("a", 8), guest("slow", 2, load_s=50), guest("b", 5, waits=True))
    policy = policy_of(loads={"concurrent": 1})
    grown_old(world, policy)
    asked(world, policy, "slow")
    decided = asked(world, policy, "b", times=5)
    assert decided.actions == ()
    assert reason_of(decided, "b") is Reason.WAITING_FOR_LOAD_SLOT


def test_nobody_leaves_for_a_load_whose_slot_is_another_one_s_already() -> None:
    world = gpu_world(
        here("a", 5), here("b", 5), guest("new", 5, waits=True), guest("next", 5, waits=True)
    )
    policy = policy_of(loads={"concurrent": 1})
    grown_old(world, policy)
    decided = asked(world, policy, "new", "next", times=5)
    assert len(unloads(decided)) == 1
    assert hold_of(decided, "next") == Hold(
        "next", Reason.WAITING_FOR_LOAD_SLOT, "0 loads under way, 1 to come"
    )
    world.run(policy, 12)
    assert {world.guests[name].state for name in ("new", "next")} == {READY}


def test_idle_models_stay_unless_the_policy_says_otherwise() -> None:
    world = gpu_world(here("a"), here("b"))
    world.tick(policy_of())
    world.wait(30 * 24 * HOUR_S)
    assert world.tick(policy_of()).actions == ()
    decided = world.tick(policy_of(models={"b": {"idle_unload": "5m"}}))
    assert decided.actions == (Unload("b", Reason.IDLE),)
    assert unloads(world.tick(policy_of(residency={"idle_unload": "5m"}))) == ["a"]


def test_an_idle_limit_of_null_exempts_a_model() -> None:
    world = gpu_world(here("a"), here("b"))
    policy = policy_of(residency={"idle_unload": "5m"}, models={"a": {"idle_unload": None}})
    world.tick(policy)
    world.wait(HOUR_S)
    assert unloads(world.tick(policy)) == ["b"]


def test_requests_that_a_leaving_model_still_finishes_do_not_call_it_back() -> None:
    world = gpu_world(here("a", unload_s=20))
    policy = policy_of(residency={"cooldown": "0s"})
    world.tick(policy)
    world.unload("a")
    for _ in range(60):
        snapshot = world.snapshot()
        busy = replace(snapshot.models["a"], in_flight=1 if world.now_s < MONDAY_S + 20 else 0)
        decided = plan(policy, replace(snapshot, models={"a": busy}), world.history)
        world.history = decided.history
        assert decided.actions == ()
        world.wait(1)


# --- the history it hands on


@pytest.mark.parametrize("now_s", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_clock_out_of_its_mind_opens_no_weekly_window(now_s: float) -> None:
    snapshot = replace(gpu_world(guest("p")).snapshot(), now_s=now_s)
    assert plan(policy_of(models={"p": {"pin": [{}]}}), snapshot, History()).actions == ()


def test_a_failure_is_counted_once_however_long_it_is_shown() -> None:
    world = gpu_world(guest("a"))
    world.guests["a"].failure = LoadFailure(MONDAY_S - 5, ErrorClass.MEMORY, "out of memory")
    world.run(policy_of(), 5)
    assert world.history.models["a"].failures == 1
