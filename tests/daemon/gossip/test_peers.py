"""What is believed of peers, as timelines; the clock is ours and is given."""

from typing import Any

import pytest

from daemon.gossip import peers as module
from daemon.gossip.messages import PodState
from daemon.gossip.peers import Peers
from policies.peers import Fleet, Peer
from policies.snapshot import HOST

EXPIRY_S = 100.0


def state(sequence: int, *residents: str, run: str = "r1", **more: Any) -> PodState:
    return PodState(run=run, sequence=sequence, residents=dict.fromkeys(residents, 5), **more)


@pytest.fixture
def peers() -> Peers:
    return Peers(Fleet("ours"), EXPIRY_S)


def hear(peers: Peers, said: PodState, at_s: float = 0.0, stands_s: float = EXPIRY_S) -> bool:
    return peers.heard("p", said, at_s, stands_s)


def test_a_peer_is_as_its_latest_message_says(peers: Peers) -> None:
    assert hear(peers, state(1, "a", load=0.5, headroom={HOST: 7}))
    assert hear(peers, state(2, "a", "b", load=0.6, leaving=True))
    assert peers.view() == {"p": Peer("p", "p", frozenset("ab"), 0.6, None, leaving=True)}
    assert hear(peers, state(3, "a", place="10.0.0.7:9482", asked={"a": 64}))
    there = Peer("p", "10.0.0.7:9482", frozenset("a"), asked={"a": 64})
    assert peers.view() == {"p": there}


def test_the_fleet_is_told_of_who_comes_changes_and_goes(peers: Peers) -> None:
    hear(peers, state(1, "a"))
    assert peers.fleet.peers == peers.view()
    hear(peers, state(2, "b"))
    assert peers.fleet.peers["p"].residents == {"b"}
    peers.gone("p")
    assert peers.fleet.peers == {}


@pytest.mark.parametrize(("sequence", "why"), [(5, "duplicate"), (4, "old"), (0, "old")])
def test_what_was_said_before_is_counted_and_dropped(peers: Peers, sequence: int, why: str) -> None:
    hear(peers, state(5, "a"))
    assert not hear(peers, state(sequence, "b"))
    assert peers.view()["p"].residents == {"a"}
    assert peers.dropped == {why: 1}


def test_a_duplicate_does_not_keep_a_peer_alive(peers: Peers) -> None:
    hear(peers, state(1), at_s=0)
    hear(peers, state(1), at_s=99)
    assert peers.forget_silent(100) == ["p"]


def test_a_restarted_peer_counts_from_the_start_and_its_life_before_does_not_come_back(
    peers: Peers,
) -> None:
    hear(peers, state(900, "a", run="before"))
    assert hear(peers, state(1, "b", run="after"))
    assert not hear(peers, state(901, "a", run="before"))
    assert peers.view()["p"].residents == {"b"}
    assert peers.dropped == {"old": 1}


def test_silence_means_death_by_our_own_clock(peers: Peers) -> None:
    hear(peers, state(1), at_s=1000)
    assert peers.forget_silent(1099.9) == []
    hear(peers, state(2), at_s=1090)
    assert peers.forget_silent(1189.9) == []
    assert peers.forget_silent(1190) == ["p"]
    assert peers.view() == {}


def test_a_retained_message_lives_for_what_the_broker_leaves_it(peers: Peers) -> None:
    hear(peers, state(1), at_s=0, stands_s=3)
    assert peers.forget_silent(2.9) == []
    assert peers.forget_silent(3) == ["p"]


def test_nobody_can_claim_to_live_for_ever(peers: Peers) -> None:
    hear(peers, state(1), at_s=0, stands_s=1e12)
    assert peers.forget_silent(EXPIRY_S) == ["p"]


def test_a_good_bye_counts_at_once_and_only_once(peers: Peers) -> None:
    hear(peers, state(1))
    assert peers.gone("p")
    assert not peers.gone("p")
    assert len(peers) == 0


def test_the_view_is_in_order_and_the_same_object_while_nothing_changes(peers: Peers) -> None:
    for name in ("c", "a", "b"):
        peers.heard(name, state(1, "m"), 0, EXPIRY_S)
    view = peers.view()
    assert list(view) == ["a", "b", "c"]
    peers.heard("a", state(2, "m"), 1, EXPIRY_S)
    assert peers.view() is view
    peers.heard("a", state(3, "n"), 2, EXPIRY_S)
    assert peers.view()["a"].residents == {"n"}
    assert view["a"].residents == {"m"}, "what a snapshot holds does not change"


@pytest.mark.parametrize(
    ("headroom", "told"),
    [({}, None), ({HOST: 5}, 5), ({HOST: 50, "GPU-a": 3, "GPU-b": 7}, 7), ({"GPU-a": 0}, 0)],
)
def test_headroom_is_that_of_the_emptiest_gpu(
    peers: Peers, headroom: dict[str, int], told: int | None
) -> None:
    hear(peers, state(1, headroom=headroom))
    assert peers.view()["p"].headroom_bytes == told


def test_invented_pods_do_not_fill_our_memory(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PEERS", 3)
    for number in range(10):
        peers.heard(f"p{number}", state(1), 0, EXPIRY_S)
    assert len(peers) == 3
    assert peers.dropped == {"too_many_peers": 7}
    assert peers.heard("p0", state(2), 1, EXPIRY_S), "those who are known go on"
