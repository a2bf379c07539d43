"""What the planner promises, one timeline each: a small world, a policy, and what happens."""

from dataclasses import replace
from itertools import pairwise

import pytest

from policies.actions import Hold, Load, Plan, Reason, Unload
from policies.history import History
from policies.planner import plan
from policies.policy import Policy
from policies.snapshot import (
    Device,
    ErrorClass,
    Footprint,
    FootprintSource,
    LoadFailure,
    Model,
    Snapshot,
)
from tests.policies.world import (
    GIB,
    GPU,
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

HOUR_S = 3600.0


def here(name: str, gib: float = 1.0, **traits: object) -> Guest:
    """A model that is resident from the start."""
    return guest(name, gib, state=READY, **traits)


def loads(decided: Plan) -> list[str]:
    return [load.model for load in decided.loads]


def unloads(decided: Plan) -> list[str]:
    return [unload.model for unload in decided.unloads]


def hold_of(decided: Plan, subject: str) -> Hold:
    (hold,) = (hold for hold in decided.holds if hold.subject == subject)
    return hold


def reason_of(decided: Plan, subject: str) -> Reason:
    return hold_of(decided, subject).reason


def asked(world: World, policy: Policy, *names: str, times: float = 1) -> Plan:
    """One tick in which requests arrive for ``names``."""
    for name in names:
        world.ask(name, times)
    return world.tick(policy)


def grown_old(world: World, policy: Policy, seconds: float = 60) -> World:
    """The same world after a quiet while, when nobody is young any more."""
    world.run(policy, seconds)
    return world


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
    assert hold_of(decided, "a") == Hold("a", Reason.LARGER_THAN_BUDGET, f"needs 4 GiB on {GPU}")


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
    assert reason_of(asked(world, policy, "a"), "a") is Reason.NO_ROOM
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


# --- pins


def test_a_pinned_model_comes_by_itself_and_survives_pressure() -> None:
    world = gpu_world(guest("p", 6), guest("b", 6, waits=True))
    policy = policy_of(models={"p": {"pin": True}})
    assert world.tick(policy).actions == (Load("p", Reason.PINNED, brings=("p",)),)
    grown_old(world, policy)
    decided = asked(world, policy, "b", times=1000)
    assert decided.actions == ()
    assert hold_of(decided, "b") == Hold(
        "b", Reason.NO_ROOM, "memory is taken by pinned models (1) or by loads under way"
    )


def test_a_pinned_model_evicts_whatever_it_costs() -> None:
    world = gpu_world(here("a", 10), guest("p", 5))
    policy = policy_of(
        models={"p": {"pin": True}}, churn={"evictions": 0}, residency={"minimum": "1h"}
    )
    assert unloads(world.tick(policy)) == ["a"]


@pytest.mark.parametrize(
    ("clock", "pinned"),
    [
        ("mon 20:59", False),
        ("mon 21:00", True),
        ("tue 04:59", True),
        ("tue 05:00", False),
        ("tue 22:00", False),
    ],
)
def test_a_night_pin_follows_its_own_time_zone(clock: str, pinned: bool) -> None:
    """Monday from 22:00 to 06:00 in Berlin, an hour east of UTC in December."""
    night = {"days": ["mon"], "from": "22:00", "to": "06:00", "timezone": "Europe/Berlin"}
    policy = policy_of(models={"p": {"pin": [night]}})
    day, time = clock.split()
    hours, minutes = map(int, time.split(":"))
    world = gpu_world(guest("p"))
    world.now_s = MONDAY_S + ("mon", "tue").index(day) * 86400 + hours * HOUR_S + minutes * 60
    assert loads(world.tick(policy)) == (["p"] if pinned else [])


def test_a_model_may_leave_when_its_window_closes() -> None:
    noon = {"from": "00:00", "to": "12:00"}
    policy = policy_of(models={"p": {"pin": [noon], "idle_unload": "1h"}})
    world = gpu_world(here("p"))
    world.tick(policy)
    world.wait(11 * HOUR_S)
    assert world.tick(policy).actions == ()
    world.wait(HOUR_S)
    assert unloads(world.tick(policy)) == ["p"]


# --- failures


def begun_loads(error_class: ErrorClass, times: int = 1) -> list[int]:
    """Seconds at which loads begin of a model whose first loads fail at once."""
    world = gpu_world(guest("a", load_s=0.0, fails=times, error_class=error_class))
    return [second for second in range(400) if loads(asked(world, policy_of(), "a"))]


@pytest.mark.parametrize(
    ("error_class", "first_s"),
    [(ErrorClass.CONFIG, 30), (ErrorClass.INITIALISATION, 10), (ErrorClass.MEMORY, 60)],
)
def test_the_class_of_an_error_decides_how_long_it_is_waited(
    error_class: ErrorClass, first_s: int
) -> None:
    begun = begun_loads(error_class)
    assert begun == [0, 1 + first_s]


def test_the_wait_grows_with_each_failure() -> None:
    begun = begun_loads(ErrorClass.INITIALISATION, times=4)
    waits = [later - earlier for earlier, later in pairwise(begun)]
    assert waits == [11, 21, 41, 81]


def test_the_hold_of_a_failing_model_says_why_and_until_when() -> None:
    world = gpu_world(guest("a", load_s=0.0, fails=1))
    asked(world, policy_of(), "a")
    failed_at_s = world.now_s
    decided = asked(world, policy_of(), "a")
    assert decided.holds == (
        Hold("a", Reason.BACKING_OFF, "a failed 1 times: it broke", failed_at_s + 10),
    )


def test_a_policy_may_be_more_patient_or_less() -> None:
    world = gpu_world(guest("a", load_s=0.0, fails=9))
    policy = policy_of(loads={"backoff": {"initialisation": {"first": "2s", "max": "3s"}}})
    begun = [bool(loads(asked(world, policy, "a"))) for _ in range(11)]
    assert begun == [True, False, False, True, False, False, False, True, False, False, False]


def test_a_model_that_stays_well_is_forgiven() -> None:
    world = gpu_world(guest("a", load_s=0.0, fails=2))
    for _ in range(60):
        asked(world, policy_of(), "a")
    assert world.history.models["a"].failures == 2
    world.run(policy_of(), 61)
    assert world.history.models["a"].failures == 0


def test_forgiveness_takes_as_long_as_the_policy_says() -> None:
    policy = policy_of(loads={"forgive": "5s"})
    world = gpu_world(guest("a", load_s=0.0, fails=1))
    for _ in range(20):
        asked(world, policy, "a")
    assert world.history.models["a"].failures == 0


def test_changed_files_end_a_backoff() -> None:
    world = gpu_world(guest("a", load_s=0.0, fails=1))
    asked(world, policy_of(), "a")
    assert reason_of(asked(world, policy_of(), "a"), "a") is Reason.BACKING_OFF
    world.guests["a"].revision = "2"
    assert loads(asked(world, policy_of(), "a")) == ["a"]


def test_an_absent_triton_is_no_fault_of_the_model() -> None:
    begun = begun_loads(ErrorClass.UNAVAILABLE, times=3)
    assert begun == [0, 2, 4, 6]


def test_a_failing_model_disturbs_no_other() -> None:
    world = gpu_world(here("a", 4), guest("bad", 2, fails=99, waits=True), guest("c", 4))
    policy = policy_of(loads={"concurrent": 1})
    world.ask("bad", 5)
    for _ in range(200):
        decided = asked(world, policy, "a", "c")
        assert unloads(decided) == []
    assert world.residents() == {"a", "c"}
    assert world.guests["bad"].fails > 90


# --- restarts, and somebody else's hand


def test_what_was_resident_comes_back_after_a_restart_in_order_of_worth() -> None:
    policy = policy_of(loads={"concurrent": 1})
    world = gpu_world(here("a", 3), here("b", 3), here("c", 3))
    for times, name in ((9, "b"), (3, "c"), (1, "a")):
        asked(world, policy, name, times=times)
    world.wait(HOUR_S)
    world.restart()
    order: list[str] = []
    reasons = set()
    for _ in range(12):
        decided = world.tick(policy)
        order += loads(decided)
        reasons |= {load.reason for load in decided.loads}
    assert order == ["b", "c", "a"]
    assert reasons == {Reason.RESTORED}


def test_what_is_restored_takes_free_room_only() -> None:
    policy = policy_of()
    world = grown_old(gpu_world(here("a", 6)), policy)
    world.restart()
    world.guests["b"] = here("b", 6)
    decided = world.tick(policy)
    assert decided.actions == ()
    assert reason_of(decided, "a") is Reason.NO_ROOM


def test_restoring_is_given_up_after_the_horizon() -> None:
    policy = policy_of(horizon="1m")
    world = grown_old(gpu_world(here("a", 6)), policy)
    world.restart()
    world.guests["b"] = here("b", 6)
    holds = [bool(world.tick(policy).holds) for _ in range(62)]
    assert holds == [True] * 61 + [False]


def test_what_somebody_else_unloads_is_not_brought_back() -> None:
    policy = policy_of()
    world = grown_old(gpu_world(here("a")), policy)
    world.unload("a")
    assert world.run(policy, 20) == 0
    assert world.residents() == set()


def test_devices_over_their_budget_are_relieved_of_the_least_worth() -> None:
    policy = policy_of(8 * GIB)
    world = gpu_world(here("a", 4), here("b", 4))
    asked(world, policy, "a")
    world.guests["c"] = here("c", 3, load_s=20)
    decided = asked(world, policy, "c")
    assert decided.actions == (Unload("b", Reason.OVER_BUDGET),)


def test_a_device_that_pins_overfill_is_named() -> None:
    world = gpu_world(here("p", 6))
    decided = world.tick(policy_of(4 * GIB, models={"p": {"pin": True}}))
    assert decided.actions == ()
    assert hold_of(decided, GPU) == Hold(
        GPU, Reason.OVER_BUDGET, "pinned models and loads exceed the budget by 2 GiB"
    )


def test_memory_lost_to_others_is_not_promised() -> None:
    world = gpu_world(guest("a", 5))
    world.foreign[GPU] = 6 * GIB
    policy = policy_of(restart_above="100%")
    assert hold_of(asked(world, policy, "a"), "a") == Hold(
        "a", Reason.DEVICE_OVERUSED, "memory is used by more than the models accounted for"
    )
    world.foreign[GPU] = 5 * GIB
    assert loads(world.tick(policy)) == ["a"]


def test_a_restart_is_advised_above_the_limit_of_lost_memory() -> None:
    world = gpu_world(here("a", 2))
    world.foreign[GPU] = 3 * GIB
    assert world.tick(policy_of(restart_above="4GiB")).holds == ()
    assert hold_of(world.tick(policy_of(restart_above="2GiB")), GPU) == Hold(
        GPU, Reason.RESTART_ADVISED, "3 GiB used beyond the models; limit 2 GiB"
    )


def test_no_restart_is_advised_for_what_may_be_a_resident_of_unknown_size() -> None:
    world = gpu_world(here("a", 2), here("b", 4, known_size=False))
    assert world.tick(policy_of(restart_above="2GiB")).holds == ()


def test_no_restart_is_advised_while_models_move() -> None:
    world = gpu_world(here("a", 2), guest("b", 1, load_s=30))
    world.foreign[GPU] = 3 * GIB
    policy = policy_of(restart_above="2GiB")
    asked(world, policy, "b")
    assert world.guests["b"].state is LOADING
    assert world.tick(policy).holds == ()


# --- sick models


def test_a_sick_model_heals_by_unload_and_load_though_it_is_pinned() -> None:
    policy = policy_of(models={"p": {"pin": True}})
    world = grown_old(gpu_world(here("p", unload_s=2)), policy)
    world.sicken("p")
    assert world.tick(policy).actions == (Unload("p", Reason.SICK),)
    world.run(policy, 10)
    assert world.residents() == {"p"}
    assert not world.guests["p"].sick


def test_a_sick_model_comes_back_though_nobody_asks_for_it() -> None:
    world = grown_old(gpu_world(here("a")), policy_of())
    world.sicken("a")
    reasons = [load.reason for _ in range(10) for load in world.tick(policy_of()).loads]
    assert reasons == [Reason.HEALED]
    assert world.residents() == {"a"}


def test_a_stuck_unload_is_loaded_over() -> None:
    policy = policy_of(unloads={"stuck": "15s"})
    world = grown_old(gpu_world(here("a", 6, load_s=1.0)), policy)
    world.sicken("a", hangs=True)
    begun_s = world.now_s
    assert unloads(world.tick(policy)) == ["a"]
    while not loads(world.tick(policy)):
        assert world.guests["a"].state is UNLOADING
    assert world.now_s - begun_s == 17
    assert world.residents() == {"a"}
    assert world.reserved(policy, GPU) == 6 * GIB


def test_a_model_that_keeps_dying_is_left_alone_for_a_while() -> None:
    policy = policy_of()
    world = grown_old(gpu_world(here("a")), policy)
    healed = 0
    for _ in range(120):
        if world.guests["a"].state is READY and not world.guests["a"].sick:
            world.sicken("a")
        healed += len(unloads(world.tick(policy)))
    assert 2 <= healed <= 6
    assert reason_of(world.tick(policy), "a") is Reason.BACKING_OFF


def test_a_stuck_victim_is_loaded_over_to_get_its_memory_back() -> None:
    policy = policy_of(models={"p": {"pin": True}})
    world = grown_old(gpu_world(here("a", 10)), policy)
    has_died_before = replace(world.history.models["a"], failures=1)
    world.history = replace(world.history, models={"a": has_died_before})
    world.sicken("a", hangs=True)
    assert reason_of(world.tick(policy), "a") is Reason.BACKING_OFF
    world.guests["p"] = guest("p", 5)
    assert world.tick(policy).actions == (Unload("a", Reason.EVICTED, for_model="p"),)
    world.run(policy, 60)
    assert world.residents() == {"p"}


def test_callers_of_a_sick_member_leave_and_come_back_with_it() -> None:
    world = gpu_world(here("m"), here("e", 0, steps=("m",)))
    policy = policy_of(models={"e": {"pin": True}})
    grown_old(world, policy)
    world.sicken("m")
    assert unloads(world.tick(policy)) == ["e", "m"]
    world.run(policy, 10)
    assert world.residents() == {"e", "m"}


# --- ensembles and callers


def ensemble(name: str, *steps: str, **traits: object) -> Guest:
    return guest(name, 0, steps=steps, load_s=0.1, unload_s=0.1, **traits)


def test_an_ensemble_brings_its_steps() -> None:
    world = gpu_world(ensemble("e", "s", "t"), guest("s"), guest("t"))
    assert asked(world, policy_of(), "e").actions == (
        Load("e", Reason.DEMANDED, brings=("s", "t", "e")),
    )


def test_a_pinned_ensemble_is_loaded_as_one_and_not_step_by_step() -> None:
    world = gpu_world(ensemble("z", "a", "b"), guest("a"), guest("b"))
    decided = world.tick(policy_of(models={"z": {"pin": True}}))
    assert loads(decided) == ["z"]
    assert decided.holds == ()


def test_steps_of_a_pinned_ensemble_that_cannot_come_are_of_no_use_alone() -> None:
    world = gpu_world(ensemble("z", "a", "b"), guest("a", 6), guest("b", 6))
    decided = world.tick(policy_of(models={"z": {"pin": True}}))
    assert decided.actions == ()
    assert [(h.subject, h.reason) for h in decided.holds] == [("z", Reason.LARGER_THAN_BUDGET)]


def test_an_ensemble_and_its_steps_take_one_load_slot() -> None:
    world = gpu_world(ensemble("e", "s", "t"), guest("s"), guest("t"), guest("a"), guest("b"))
    policy = policy_of(loads={"concurrent": 2})
    asked(world, policy, "e")
    decided = asked(world, policy, "a", "b")
    assert loads(decided) == ["a"]
    assert reason_of(decided, "b") is Reason.WAITING_FOR_LOAD_SLOT


def test_a_member_that_is_pinned_itself_stays_when_its_ensemble_leaves() -> None:
    world = gpu_world(ensemble("d", "s", "t", state=READY), here("s"), here("t"))
    policy = policy_of(models={"d": {"idle_unload": "5m"}, "s": {"pin": True}})
    world.tick(policy)
    world.wait(HOUR_S)
    assert world.tick(policy).actions == (Unload("d", Reason.IDLE, takes=("t",)),)


def test_steps_that_are_asked_for_themselves_come_with_their_ensemble() -> None:
    world = gpu_world(ensemble("z", "a", "b"), guest("a"), guest("b"))
    asked(world, policy_of(loads={"concurrent": 1}), "z")
    world = gpu_world(ensemble("z", "a", "b"), guest("a"), guest("b"))
    world.ask("a", 10)
    assert loads(asked(world, policy_of(), "z", "a")) == ["z"]


def test_an_ensemble_and_its_steps_come_back_as_one_after_a_restart() -> None:
    world = gpu_world(ensemble("z", "a", state=READY), here("a"))
    grown_old(world, policy_of())
    world.restart()
    assert world.tick(policy_of()).actions == (Load("z", Reason.RESTORED, brings=("a", "z")),)


def test_members_are_counted_once() -> None:
    steps = ("s", "s")
    world = gpu_world(ensemble("d", "e", "s"), ensemble("e", *steps), guest("s", 6))
    assert loads(asked(world, policy_of(7 * GIB), "d")) == ["d"]


def test_a_shared_member_is_loaded_by_one_of_its_ensembles_only() -> None:
    world = gpu_world(ensemble("d", "s", "x"), ensemble("e", "s"), guest("s", 4), guest("x", 5))
    policy = policy_of(9 * GIB)
    decided = asked(world, policy, "d", "e")
    assert loads(decided) == ["e"]
    assert hold_of(decided, "d") == Hold("d", Reason.WAITING_FOR_LOAD_SLOT, "s under way")
    world.run(policy, 10)
    assert world.residents() == {"d", "e", "s", "x"}


def test_an_ensemble_leaves_with_the_members_only_it_needs() -> None:
    world = gpu_world(
        ensemble("d", "own", "shared", state=READY),
        ensemble("e", "shared", state=READY),
        here("own"),
        here("shared"),
    )
    policy = policy_of(models={"d": {"idle_unload": "5m"}})
    world.tick(policy)
    world.wait(HOUR_S)
    assert world.tick(policy).actions == (Unload("d", Reason.IDLE, takes=("own",)),)
    world.run(policy, 5)
    assert world.residents() == {"e", "shared"}


def test_a_member_asked_for_on_its_own_stays_when_its_ensemble_leaves() -> None:
    world = gpu_world(ensemble("d", "s", "t", state=READY), here("s"), here("t"))
    policy = policy_of(models={"d": {"idle_unload": "5m"}})
    world.tick(policy)
    world.wait(HOUR_S)
    assert asked(world, policy, "s").actions == (Unload("d", Reason.IDLE, takes=("t",)),)


def test_a_member_of_a_resident_ensemble_is_nobodys_victim() -> None:
    world = gpu_world(ensemble("e", "s", state=READY), here("s", 9), guest("new", 5, waits=True))
    policy = policy_of(models={"e": {"pin": True}})
    grown_old(world, policy)
    decided = asked(world, policy, "new", times=1000)
    assert decided.actions == ()
    assert reason_of(decided, "new") is Reason.NO_ROOM


def test_a_member_that_a_planned_load_needs_is_nobodys_victim() -> None:
    world = gpu_world(
        here("s", 4), here("z", 4), ensemble("e", "s", "t"), guest("t", 1), guest("new", 4)
    )
    policy = policy_of(9 * GIB, models={"e": {"weight": 1000}})
    grown_old(world, policy)
    decided = asked(world, policy, "e", "new", times=5)
    assert loads(decided) == ["e"]
    assert unloads(decided) == ["z"]


def test_a_victim_leaves_behind_what_its_successor_shares_with_it() -> None:
    world = gpu_world(
        ensemble("d", "s", "x", state=READY),
        here("s", 4),
        here("x", 4),
        ensemble("e", "s", "y", waits=True),
        guest("y", 5),
    )
    grown_old(world, policy_of())
    decided = asked(world, policy_of(), "e", times=9)
    assert decided.actions == (Unload("d", Reason.EVICTED, takes=("x",), for_model="e"),)


def test_requests_of_an_ensemble_are_not_counted_again_at_its_steps() -> None:
    world = gpu_world(ensemble("e", "s", state=READY), here("s"))
    asked(world, policy_of(), "e", "s")
    assert world.history.models["e"].uses == 1
    assert world.history.models["s"].uses == 0


def test_declared_callees_are_loaded_before_their_caller() -> None:
    world = gpu_world(guest("bls"), guest("a"), ensemble("e", "s"), guest("s"))
    policy = policy_of(models={"bls": {"calls": ["a", "e"]}})
    assert asked(world, policy, "bls").actions == (
        Load("bls", Reason.DEMANDED, first=("a", "e"), brings=("a", "s", "e", "bls")),
    )


def test_a_pin_holds_for_what_the_pinned_one_calls() -> None:
    world = gpu_world(here("bls"), here("a", 9), guest("b", 5, waits=True))
    policy = policy_of(models={"bls": {"calls": ["a"], "pin": True}})
    grown_old(world, policy)
    assert asked(world, policy, "b", times=99).actions == ()


def test_stale_steps_need_room_for_a_second_copy() -> None:
    def tried(gib: int, *, stale: bool) -> list[str]:
        world = gpu_world(ensemble("e", "s", "t"), here("s", 4, stale=stale), guest("t", 1))
        return loads(asked(world, policy_of(gib * GIB), "e"))

    assert tried(8, stale=False) == ["e"]
    assert tried(8, stale=True) == []
    assert tried(9, stale=True) == ["e"]


def test_the_second_copy_of_a_stale_step_is_counted_while_it_loads() -> None:
    world = gpu_world(
        ensemble("e", "s"), here("s", 4, stale=True, load_s=20), guest("b", 2), guest("c", 1)
    )
    world.measured = False
    policy = policy_of(9 * GIB, loads={"concurrent": 4})
    asked(world, policy, "e")
    assert reason_of(asked(world, policy, "b"), "b") is Reason.NO_ROOM
    assert loads(asked(world, policy, "c")) == ["c"]


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
