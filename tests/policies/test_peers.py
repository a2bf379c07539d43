"""What a pod makes of all that it hears of its peers."""

from collections.abc import Mapping
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.peers import DEPTH, Copies, Fleet, Peer, per_hour
from policies.places import Places
from tests.policies.drawn import REPEATABLE

MODELS = "abcdefgh"
PLACES = tuple(f"10.0.0.{n}:9482" for n in range(6))
OURS = PLACES[0]


def peer(number: int, residents: str = "", *, leaving: bool = False, **asked: int) -> Peer:
    name = f"pod-{number}"
    return Peer(name, PLACES[number], frozenset(residents), leaving=leaving, asked=asked)


def fleet(*peers: Peer, waits: bool = False) -> Fleet:
    found = Fleet(OURS, waits=waits)
    for each in peers:
        found.heard(each)
    return found


def first_for(model: str, *numbers: int) -> str | None:
    return Places.of(PLACES[n] for n in numbers).first(model)


PEERS = st.builds(
    peer,
    st.integers(1, len(PLACES) - 1),
    st.text(MODELS, max_size=5),
    leaving=st.booleans(),
    a=st.sampled_from((0, 1, 64)),
)
NEWS = st.lists(st.one_of(PEERS, st.sampled_from([f"pod-{n}" for n in range(1, 6)])), max_size=20)


def counted(found: Fleet) -> Mapping[str, Copies | None]:
    """`Fleet.copies`, from all that is known now and nothing that was kept up."""
    peers = found.peers.values()
    if not peers:
        return dict.fromkeys(MODELS)
    staying = [each for each in peers if not each.leaving]
    ours = [] if found.leaving else [OURS]
    places = Places.of([*(each.place for each in staying), *ours])
    told: dict[str, Copies | None] = {}
    for model in MODELS:
        holders = {each.place for each in staying if model in each.residents}
        order = places.heirs(model, DEPTH)
        rank = order.index(OURS) if OURS in order else None
        told[model] = Copies(
            warm=len(holders),
            leaving=sum(model in each.residents for each in peers if each.leaving),
            rank=rank,
            ahead=len(holders.intersection(order[:rank])),
            asked=sum(each.asked.get(model, 0) for each in peers),
        )
    return told


@settings(REPEATABLE, max_examples=30)
@given(news=NEWS, leaves=st.booleans())
def test_what_is_kept_up_is_what_would_be_counted_anew(
    news: list[Peer | str], leaves: bool
) -> None:
    found = fleet()
    for number, each in enumerate(news):
        if isinstance(each, Peer):
            found.heard(each)
        else:
            found.gone(each)
        if number == len(news) // 2:
            found.leave(leaving=leaves)
        assert found.copies(MODELS) == counted(found)


@settings(REPEATABLE, max_examples=30)
@given(news=st.lists(PEERS, max_size=12), turned=st.randoms(use_true_random=False))
def test_the_order_in_which_pods_were_heard_of_makes_no_difference(
    news: list[Peer], turned: Random
) -> None:
    latest = list({each.name: each for each in news}.values())
    before = fleet(*latest).copies(MODELS)
    turned.shuffle(latest)
    assert fleet(*latest).copies(MODELS) == before


def test_a_pod_without_peers_knows_of_no_copies() -> None:
    alone = fleet(peer(1, "a"))
    assert alone.copies("a")["a"] is not None
    alone.gone("pod-1")
    assert alone.copies("a") == {"a": None}


def test_a_model_of_which_nothing_has_changed_keeps_its_object() -> None:
    found = fleet(peer(1, "ab"), peer(2, "b"))
    before = found.copies("ab")
    found.heard(peer(2, ""))
    after = found.copies("ab")
    assert after["a"] is before["a"]
    assert after["b"] != before["b"]


def test_a_pod_that_leaves_is_in_no_order_and_neither_are_its_peers_that_leave() -> None:
    found = fleet(peer(1, "a", leaving=True), peer(2))
    homes = {found.copies(model)[model] for model in MODELS}
    assert {copies.rank for copies in homes if copies} == {0, 1}, "two pods stay"
    found.leave(leaving=True)
    assert {copies.rank for copies in found.copies(MODELS).values() if copies} == {None}


def test_who_waits_for_the_table_goes_on_with_the_old_order() -> None:
    found = fleet(peer(1, "a"), waits=True)
    assert found.copies("a") == {"a": None}, "there is none yet"
    upcoming = found.upcoming
    assert upcoming == Places.of(PLACES[:2])
    found.settle(Places.of([OURS]))
    assert found.copies("a") == {"a": None}, "nor one from when it was alone"
    found.settle(upcoming)
    assert found.upcoming is None
    found.heard(peer(2, "a"))
    moved = [model for model in MODELS if first_for(model, 0, 1, 2) == PLACES[2]]
    assert moved, "some model's home is the new pod"
    for model in moved:
        copies = found.copies(model)[model]
        assert copies is not None
        assert (copies.rank == 0) == (first_for(model, 0, 1) == OURS)
    assert found.copies("a")["a"] is not None
    assert found.copies("a")["a"].warm == 2, "who holds what is known at once"  # type: ignore[union-attr]
    upcoming = found.upcoming
    assert upcoming is not None
    found.settle(upcoming)
    assert all(copies.rank != 0 for m in moved if (copies := found.copies(m)[m]))


def test_a_table_that_is_late_leaves_the_next_one_to_be_built() -> None:
    found = fleet(peer(1), waits=True)
    late = found.upcoming
    found.heard(peer(2))
    assert late is not None
    found.settle(late)
    assert found.upcoming == Places.of(PLACES[:3])


def test_two_pods_of_one_place_are_counted_and_stand_once_in_the_order() -> None:
    double = Peer("other", PLACES[1], frozenset("a"))
    copies = fleet(peer(1, "a"), double).copies("a")["a"]
    assert copies is not None
    assert copies.warm == 2
    assert copies.ahead <= 1


def test_rates_are_told_as_powers_of_two_by_the_hour() -> None:
    rates = (0.0, 0.9 / 3600, 1 / 3600, 3.9 / 3600, 1.0, -1.0, float("inf"))
    assert [per_hour(rate) for rate in rates] == [0, 0, 1, 2, 2048, 0, 2**60]
