"""Pods that hear of each other bring in, keep and let go what the fleet needs, each alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from policies.actions import Plan, Reason
from policies.explain import explain, in_words
from policies.peers import Copies
from policies.policy import Policy
from tests.policies.flock import ROUTED, Flock, Member
from tests.policies.timeline import asked, here, hold_of, loads, reason_of, unloads
from tests.policies.world import GIB, READY, World, gpu_world, guest, policy_of

MODELS = tuple(f"m{n}" for n in range(12))
HOME, NEXT = Copies(warm=1, rank=0, asked=3600), Copies(warm=1, rank=1, ahead=1)


def routed(**wishes: Any) -> Policy:
    return policy_of(scaling=ROUTED, **wishes)


def flock_of(policy: Policy, *pods: str | tuple[str, ...], gib: float = 1.0) -> Flock:
    """Pods of 10 GiB that all know the same models, each with its residents."""
    flock = Flock(policy)
    for residents in pods:
        flock.join(pod_of(residents, gib))
    return flock


def pod_of(residents: str | tuple[str, ...], gib: float = 1.0) -> World:
    return gpu_world(
        *(here(name, gib) if name in residents else guest(name, gib) for name in MODELS)
    )


def at_home(flock: Flock, member: Member) -> list[str]:
    return [name for name in MODELS if flock.home(name) is member]


def reasons(plans: list[Plan]) -> dict[str, Reason]:
    return {load.model: load.reason for plan in plans for load in plan.loads}


# --- handing over


def test_what_a_leaving_pod_holds_alone_is_loaded_where_its_requests_will_go() -> None:
    flock = flock_of(routed(), MODELS[:6], (), ())
    flock.tick()
    leaving, *staying = flock.members
    leaving.world.leaving = True
    flock.run(30)
    for model in MODELS[:6]:
        assert set(flock.holders(model)) == {"pod-0", flock.home(model).name}
    taken = reasons([*staying[0].decided, *staying[1].decided])
    assert taken == dict.fromkeys(MODELS[:6], Reason.HANDED_OVER)
    assert not [u for plan in leaving.decided for u in plan.unloads]


def test_without_hand_over_models_are_loaded_when_they_are_asked_for() -> None:
    flock = flock_of(routed(fleet={"hand_over": False}), MODELS[:6], ())
    flock.tick()
    flock.members[0].world.leaving = True
    flock.run(30)
    assert flock.members[1].world.residents() == set()


def test_a_pod_that_leaves_takes_in_only_what_requests_wait_for() -> None:
    world = gpu_world(guest("a"), guest("b", waits=True), guest("c", forgotten=True))
    world.leaving = True
    policy = routed(models={"c": {"pin": True}})
    assert loads(asked(world, policy, "a", "b")) == ["b"]
    assert loads(world.tick(policy)) == []


def test_a_pod_that_leaves_makes_room_with_what_others_hold() -> None:
    world = gpu_world(here("shared", 5), here("alone", 5), guest("a", 5, waits=True))
    policy = routed(front_door={"patience": "1s"}, residency={"idle_unload": "30s"})
    world.copies = {"shared": Copies(warm=1), "alone": Copies(), "a": Copies()}
    world.run(policy, 20, {"shared": 5})
    world.leaving = True
    world.run(policy, 120)
    assert world.residents() == {"shared", "alone"}, "idle or not, who leaves keeps what it has"
    world.ask("a")
    assert unloads(world.tick(policy, 2)) + unloads(world.tick(policy)) == ["shared"]


def test_a_model_handed_over_takes_the_place_of_what_is_worth_less() -> None:
    worthy = Copies(leaving=1, rank=0, asked=3600)
    for busy, leaves in ((False, ["idle"]), (True, [])):
        world = gpu_world(here("idle", 8), guest("coming", 8))
        policy = routed(residency={"minimum": 0})
        world.copies = {"coming": Copies(rank=0), "idle": Copies(rank=0)}
        world.run(policy, 120, {"idle": 30} if busy else {})
        world.copies["coming"] = worthy
        decided = world.tick(policy)
        assert unloads(decided) == leaves
        if busy:
            assert reason_of(decided, "coming") is Reason.SWAP_DOES_NOT_PAY


def test_a_step_is_handed_over_with_its_ensemble_and_not_for_itself() -> None:
    world = gpu_world(guest("step"), guest("all", 0, steps=("step",)))
    world.copies = {"step": Copies(leaving=1, rank=0), "all": Copies(leaving=1, rank=1)}
    assert loads(world.tick(routed())) == []
    world.copies["all"] = Copies(leaving=1, rank=0)
    assert loads(world.tick(routed())) == ["all"]


# --- a pod that comes


def test_a_new_pod_takes_over_what_is_asked_for_and_now_its_own_and_the_others_let_it_go() -> None:
    policy = routed(fleet={"let_go": "60s"})
    flock = flock_of(policy, (), ())
    every = dict.fromkeys(MODELS, 20.0)
    flock.run(100, every)
    assert all(flock.holders(name) == [flock.home(name).name] for name in MODELS)
    before = {name: flock.home(name) for name in MODELS}
    new = flock.join(pod_of(()))
    own = at_home(flock, new)
    assert own
    most = 0
    for _ in range(40):
        flock.tick()
        most = max(most, len(new.world.visits))
        for name in own:
            assert flock.holders(name), "somebody holds it all the while"
            if name not in new.world.residents():
                assert before[name].name in flock.holders(name), "let go of before it was there"
    assert reasons(new.decided) == dict.fromkeys(own, Reason.INHERITED)
    assert most <= 2, "as many at once as the policy allows"
    flock.run(100, every)
    assert all(flock.holders(name) == [flock.home(name).name] for name in MODELS)
    gone = {u.reason for m in flock.members for plan in m.decided for u in plan.unloads}
    assert gone == {Reason.SPARE}


def test_what_is_inherited_comes_by_what_it_is_worth_and_stays_before_its_first_request() -> None:
    world = gpu_world(*(guest(f"m{n}", 3) for n in range(5)))
    policy = routed(residency={"minimum": 0}, loads={"concurrent": 1})
    world.copies = {f"m{n}": Copies(warm=1, rank=0, asked=2**n) for n in range(5)}
    order = []
    for _ in range(60):
        order += loads(world.tick(policy))
    assert order == ["m4", "m3", "m2"], "there is room for three, and none leaves for another"


def test_what_nobody_asks_for_is_not_inherited() -> None:
    world = gpu_world(guest("a"))
    world.copies = {"a": Copies(warm=2, rank=0)}
    assert loads(world.tick(routed())) == []


def test_who_is_asked_for_comes_before_what_is_inherited() -> None:
    world = gpu_world(*(guest(name) for name in (*"abcd", "wanted")))
    world.copies = dict.fromkeys("abcd", HOME)
    assert len(loads(world.tick(routed(loads={"concurrent": 1})))) == 1
    world.ask("wanted")
    decided = [world.tick(routed(loads={"concurrent": 1})) for _ in range(10)]
    assert [name for plan in decided for name in loads(plan)][:2] == ["wanted", "b"]


# --- a number of copies


def test_the_first_pods_of_a_model_s_order_keep_the_copies_that_the_policy_asks_for() -> None:
    flock = flock_of(routed(models={"m0": {"copies": 2}, "m1": {"copies": 3}}), (), (), (), ())
    flock.run(20)
    assert {name: len(flock.holders(name)) for name in MODELS if flock.holders(name)} == {
        "m0": 2,
        "m1": 3,
    }
    assert flock.home("m0").name in flock.holders("m0")
    first = flock.home("m0")
    first.gone = True
    flock.run(20)
    assert len(flock.holders("m0")) == 2
    assert all(flock.members[n] is not first for n in range(4) if f"pod-{n}" in flock.holders("m0"))


def test_a_copy_that_is_asked_for_makes_room_and_is_not_evicted() -> None:
    world = gpu_world(here("busy", 8), guest("kept", 8, waits=True))
    policy = policy_of(
        models={"kept": {"copies": 2}}, residency={"minimum": 0}, front_door={"patience": "1s"}
    )
    world.copies = {"kept": Copies(warm=0, rank=1), "busy": Copies(rank=0)}
    world.run(policy, 30, {"busy": 5})
    assert world.residents() == {"kept"}
    world.guests["busy"].waits = True
    world.run(policy, 30, {"busy": 5})
    assert world.residents() == {"kept"}
    decided = world.tick(policy)
    assert reason_of(decided, "busy") is Reason.NO_ROOM
    assert "copies that the policy asks for (kept)" in hold_of(decided, "busy").detail
    # Once enough others that come before hold it, it is a model like any other.
    world.copies["kept"] = Copies(warm=2, rank=None, ahead=2)
    world.run(policy, 10, {"busy": 5})
    assert world.residents() == {"busy"}


def test_a_copy_stays_where_it_should_not_be_while_its_home_has_none() -> None:
    policy = routed(models={"m0": {"copies": 1}}, fleet={"let_go": "10s"})
    flock = flock_of(policy, "m0", "m0")
    away = next(m for m in flock.members if m is not flock.home("m0"))
    home = flock.home("m0")
    home.world.guests["m0"] = guest("m0", 11)
    home.world.guests["m0"].state = guest("m0").state
    flock.run(200)
    assert flock.holders("m0") == [away.name], "its home cannot hold it"


def test_a_copy_is_called_for_only_where_a_peer_is_known() -> None:
    world = gpu_world(guest("a"))
    policy = policy_of(models={"a": {"copies": 1}})
    assert loads(world.tick(policy)) == []
    world.copies = {"a": Copies(rank=0)}
    assert loads(world.tick(policy)) == ["a"]


# --- copies to spare


def test_a_copy_that_nobody_needs_is_the_first_to_go_when_memory_is_needed() -> None:
    """`spare` was asked for far more than the others, until its requests went elsewhere."""
    for copies, leaves in ((NEXT, "spare"), (replace(NEXT, ahead=0), "other")):
        world = gpu_world(here("spare", 4), here("other", 4), guest("new", 4, waits=True))
        policy = routed(front_door={"patience": "1s"}, fleet={"let_go": None})
        world.run(policy, 300, {"spare": 5, "other": 0.02})
        world.copies = {"spare": copies}
        world.run(policy, 61)
        world.ask("new")
        assert unloads(world.tick(policy, 2)) + unloads(world.tick(policy)) == [leaves]


def test_a_copy_that_nobody_needs_is_let_go_after_a_while() -> None:
    for let_go, expected in (("120s", set()), (None, {"a"})):
        world = gpu_world(here("a"))
        policy = routed(fleet={"let_go": let_go})
        world.copies = {"a": NEXT}
        world.run(policy, 110, {"a": 1})
        world.run(policy, 110)
        assert world.residents() == {"a"}
        world.run(policy, 20)
        assert world.residents() == expected


@pytest.mark.parametrize(
    "copies",
    [
        pytest.param(HOME, id="its requests come here"),
        pytest.param(replace(NEXT, ahead=0), id="no pod before this one holds it"),
        pytest.param(replace(NEXT, rank=None, warm=0, leaving=1, ahead=0), id="those leave"),
        pytest.param(None, id="no fleet is known"),
    ],
)
def test_a_copy_that_may_be_needed_is_not_let_go(copies: Copies | None) -> None:
    world = gpu_world(here("a"))
    world.copies = {"a": copies}
    world.run(routed(fleet={"let_go": "10s"}), 300)
    assert world.residents() == {"a"}


# --- silence


def test_silence_alone_loads_nothing_and_lets_nothing_go() -> None:
    policy = routed(models={"m[0-5]": {"copies": 1}}, fleet={"let_go": "30s"})
    flock = flock_of(policy, (), (), ())
    flock.run(60, dict.fromkeys(MODELS, 10.0))
    before = {member.name: member.world.residents() for member in flock.members}
    for member in flock.members:
        member.decided.clear()
    flock.hushed = True
    flock.run(300)
    assert {member.name: member.world.residents() for member in flock.members} == before
    assert not [action for m in flock.members for plan in m.decided for action in plan.actions]


def test_one_pod_that_falls_silent_makes_each_of_its_models_load_at_its_new_home_alone() -> None:
    flock = flock_of(routed(), (), (), (), ())
    demand = dict.fromkeys(MODELS, 10.0)
    flock.run(60, demand)
    lost = flock.members[0]
    orphans = at_home(flock, lost)
    lost.gone = True
    for member in flock.members:
        member.decided.clear()
    flock.run(60, demand)
    assert {name: flock.holders(name) for name in MODELS} == {
        name: [flock.home(name).name] for name in MODELS
    }
    loaded = [name for m in flock.members for name in reasons(m.decided)]
    assert sorted(loaded) == sorted(orphans)


# --- what is told of it


def words(world: World, policy: Policy, name: str) -> tuple[str | None, str, Mapping[str, Any]]:
    snapshot = world.snapshot()
    decided = world.tick(policy, 0.0)
    told = explain(policy, snapshot, decided, name)
    assert told is not None
    return told.reason, in_words(told), told.numbers


def test_explain_tells_where_a_model_stands_in_the_fleet() -> None:
    policy = routed(models={"b": {"copies": 2}})
    world = gpu_world(here("a"), here("b"), guest("c", load_s=50), guest("d"), total_bytes=20 * GIB)
    world.copies = {"a": NEXT, "b": Copies(rank=1), "c": HOME, "d": replace(HOME, asked=1)}
    world.run(policy, 70)
    _, spare, numbers = words(world, policy, "a")
    assert "another pod serves its requests" in spare
    assert numbers["spare"] is True
    assert (numbers["copies_elsewhere"], numbers["pods_tried_before"]) == (1, 1)
    assert words(world, policy, "b")[0] == "copies"
    reason, waits, _ = words(world, policy, "d")
    assert reason is None or reason == "inherited", waits
    alone = gpu_world(here("a"))
    assert not {"spare", "copies_wanted"} & words(alone, policy, "a")[2].keys()
    assert alone.guests["a"].state is READY


def test_what_the_fleet_calls_for_is_not_let_go_for_being_idle() -> None:
    policy = routed(residency={"idle_unload": "10s"})
    for copies in (HOME, Copies(leaving=1, rank=0)):
        world = gpu_world(guest("a"))
        world.copies = {"a": copies}
        assert world.run(policy, 100) == 0
        assert world.residents() == {"a"}
