"""What pods with the same view decide together, each of them alone."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.actions import Reason
from policies.copies import is_kept, is_spare, why_called
from policies.history import NOTHING, History
from policies.peers import Copies, Fleet, Peer
from policies.planner import plan
from policies.policy import FleetWishes, Policy
from policies.snapshot import Device, Footprint, FootprintSource, Model, ModelState, Snapshot
from tests.policies.drawn import REPEATABLE, copies
from tests.policies.world import GIB, GPU, MONDAY_S, policy_of

MODELS = tuple("abcdef")
PLACES = tuple(f"10.0.0.{n}:9482" for n in range(5))
FEW = settings(REPEATABLE, max_examples=40)


@dataclass(frozen=True)
class Pod:
    residents: frozenset[str]
    leaving: bool

    def peer(self, number: int) -> Peer:
        place = PLACES[number]
        asked = dict.fromkeys(self.residents, 60)
        return Peer(place, place, self.residents, leaving=self.leaving, asked=asked)


PODS = st.lists(
    st.builds(Pod, st.frozensets(st.sampled_from(MODELS)), st.booleans()),
    min_size=2,
    max_size=len(PLACES),
)


def views(pods: list[Pod]) -> list[dict[str, Copies | None]]:
    """What each pod makes of what all of them say."""
    found = []
    for number, pod in enumerate(pods):
        fleet = Fleet(PLACES[number], pod.leaving)
        for other, each in enumerate(pods):
            if other != number:
                fleet.heard(each.peer(other))
        found.append(dict(fleet.copies(MODELS)))
    return found


def routed(copies: int = 0) -> Policy:
    models = {"*": {"copies": copies}} if copies else {}
    return policy_of(scaling={"routing": "by-model"}, models=models)


@FEW
@given(pods=PODS)
def test_at_most_one_pod_takes_a_model_over_and_one_does_when_only_leaving_ones_hold_it(
    pods: list[Pod],
) -> None:
    seen = views(pods)
    for model in MODELS:
        why = [
            why_called(routed(), Model(model, copies=view[model]))
            for pod, view in zip(pods, seen, strict=True)
            if model not in pod.residents
        ]
        takers = [reason for reason in why if reason is not None]
        assert len(takers) <= 1
        staying = [pod for pod in pods if not pod.leaving]
        is_held = any(model in pod.residents for pod in staying)
        leaves = any(model in pod.residents for pod in pods if pod.leaving)
        if staying and leaves and not is_held:
            assert takers == [Reason.HANDED_OVER]
        assert Reason.HANDED_OVER not in takers or not is_held


@FEW
@given(pods=PODS, number=st.integers(1, 4))
def test_a_number_of_copies_is_called_for_where_it_belongs_and_kept_wherever_it_is(
    pods: list[Pod], number: int
) -> None:
    """Called for by so many pods; and though every pod let go of all that it may, at once, as
    many copies would be left as there are, up to that number."""
    seen, policy = views(pods), routed(number)
    staying = [(pod, view) for pod, view in zip(pods, seen, strict=True) if not pod.leaving]
    for model in MODELS:
        targets = [
            pod
            for pod, view in staying
            if model in pod.residents
            or why_called(policy, Model(model, copies=view[model])) is Reason.COPIES
        ]
        assert len(targets) >= min(number, len(staying))
        holders = [view for pod, view in staying if model in pod.residents]
        kept = [view for view in holders if is_kept(policy, Model(model, copies=view[model]))]
        assert len(kept) >= min(number, len(holders))


@FEW
@given(pods=PODS)
def test_copies_that_are_spared_all_at_once_leave_one(pods: list[Pod]) -> None:
    seen = views(pods)
    for model in MODELS:
        holders = [
            view[model]
            for pod, view in zip(pods, seen, strict=True)
            if model in pod.residents and not pod.leaving
        ]
        spare = [
            is_spare(routed(), Model(model, copies=copies), NOTHING, MONDAY_S, leaving=False)
            for copies in holders
        ]
        assert not holders or not all(spare)


def test_without_a_router_by_model_only_a_number_of_copies_counts() -> None:
    held = Copies(warm=1, leaving=1, rank=0, asked=8)
    model = Model("a", copies=held)
    assert why_called(policy_of(), model) is None
    assert why_called(policy_of(models={"a": {"copies": 1}}), model) is Reason.COPIES
    far = Model("a", copies=Copies(warm=1, rank=3, ahead=1))
    assert not is_spare(policy_of(), far, NOTHING, MONDAY_S, leaving=False)
    assert is_spare(routed(), far, NOTHING, MONDAY_S, leaving=False)


def snapshot_with(found: dict[str, Copies | None], *, leaving: bool = False) -> Snapshot:
    """A GPU that is full of the first half of MODELS, each with its copies."""
    half = len(MODELS) // 2
    models = {
        name: Model(
            name,
            ModelState.READY if at < half else ModelState.UNLOADED,
            Footprint({GPU: 3 * GIB}, FootprintSource.MEASURED),
            load_s=2.0,
            arrivals=float(at % 2),
            waiting=at % 3 % 2,
            copies=found.get(name),
        )
        for at, name in enumerate(MODELS)
    }
    return Snapshot(MONDAY_S, True, {GPU: Device(GPU, 10 * GIB)}, models, leaving=leaving)


COPIES = st.dictionaries(st.sampled_from(MODELS), copies())


@REPEATABLE
@given(found=COPIES, leaving=st.booleans(), turned=st.permutations(MODELS))
def test_what_is_known_of_the_fleet_decides_alike_however_it_is_listed(
    found: dict[str, Copies | None], leaving: bool, turned: list[str]
) -> None:
    snapshot = snapshot_with(found, leaving=leaving)
    other = replace(snapshot, models={name: snapshot.models[name] for name in turned})
    policy = routed(2)
    assert plan(policy, snapshot, History()) == plan(policy, other, History())


@REPEATABLE
@given(found=COPIES)
def test_a_pod_that_leaves_brings_in_nothing_that_no_request_waits_for(
    found: dict[str, Copies | None],
) -> None:
    snapshot = snapshot_with(found, leaving=True)
    decided = plan(routed(1), snapshot, History())
    called = {load.model for load in decided.loads} | {u.for_model for u in decided.unloads}
    assert all(name and snapshot.models[name].waiting for name in called)


@pytest.mark.parametrize("leaving", [False, True])
def test_where_no_fleet_is_known_nothing_that_the_policy_says_of_it_matters(leaving: bool) -> None:
    """Beyond what is decided at once, `tests.policies.test_properties` tries all rules alone."""
    snapshot, history = snapshot_with({}, leaving=leaving), History()
    wished = routed(3).model_copy(update={"fleet": FleetWishes(hand_over=True, let_go_s=0.0)})
    for second in range(200):
        now = replace(snapshot, now_s=MONDAY_S + second)
        decided = plan(wished, now, history)
        assert decided == plan(policy_of(), now, history)
        history = decided.history
