"""When a pod speaks, as timelines."""

from dataclasses import replace

import pytest

from daemon.gossip.messages import MOST_LEARNED, PodState
from daemon.gossip.telling import Telling
from daemon.learned import LearnedStore
from daemon.telemetry import Latest
from policies.history import History, ModelHistory
from policies.pace import Pace
from policies.snapshot import HOST
from tests.daemon.gossip.podlike import MIB, snapshot_of, telemetry_of

PACE = Pace(change_s=1.0, drift_s=15.0, heartbeat_s=60.0, expiry_s=190.0)


class Pod:
    """A pod whose ticks are given."""

    def __init__(self) -> None:
        self.store = LearnedStore(None)
        self.telemetry = telemetry_of("")
        self.peers = 0
        self.telling = Telling(
            "run", "pod", PACE, self.telemetry, lambda: self.peers, self.store.get, {"c": 9}.get
        )

    def at(self, now_s: float, residents: str, used: int = 64 * MIB) -> PodState | None:
        """A tick, and what is said after it."""
        snapshot = snapshot_of(residents, now_s)
        host = replace(snapshot.devices[HOST], used_bytes=used)
        snapshot = replace(snapshot, devices={HOST: host})
        latest = self.telemetry.latest
        self.telemetry.took(Latest(latest.policy, snapshot, latest.plan))
        self.telling.took(snapshot)
        return self.telling.due(now_s)


@pytest.fixture
def pod() -> Pod:
    return Pod()


def test_nothing_is_said_before_anything_is_known() -> None:
    telemetry = telemetry_of("")
    empty = snapshot_of("", 0.0, models=())
    telemetry.latest = Latest(telemetry.latest.policy, empty, telemetry.latest.plan)
    store = LearnedStore(None)
    telling = Telling("run", "pod", PACE, telemetry, lambda: 0, store.get, lambda _: None)
    assert telling.due(0.0) is None


def test_a_change_of_residents_is_said_at_once_but_once_a_second_at_most(pod: Pod) -> None:
    first = pod.at(0.0, "a")
    assert first is not None
    assert first.residents == {"a": 0}
    assert pod.at(0.4, "ab") is None
    assert pod.at(0.8, "abc") is None
    second = pod.at(1.0, "abc")
    assert second is not None
    assert second.residents == {"a": 1, "b": 1, "c": 0}
    assert second.sequence == first.sequence + 1
    assert pod.at(3.0, "abc") is None


def test_in_a_large_fleet_the_first_change_is_said_at_once_and_the_next_later(pod: Pod) -> None:
    pod.peers = 299
    assert pod.at(0.0, "a") is not None
    assert pod.at(30.0, "ab") is not None
    assert pod.at(31.0, "abc") is None
    assert pod.at(39.9, "abc") is None
    assert pod.at(40.0, "abc") is not None


def test_that_a_pod_leaves_is_said_at_once_however_large_the_fleet_is(pod: Pod) -> None:
    pod.peers = 999
    assert pod.at(0.0, "a") is not None
    pod.telling.leaving = True
    said = pod.at(0.3, "a")
    assert said is not None
    assert said.leaving


def test_everything_is_said_once_a_heartbeat(pod: Pod) -> None:
    assert pod.at(0.0, "a")
    assert [at for at in range(1, 181) if pod.at(float(at), "a")] == [60, 120, 180]


def test_headroom_that_drifts_is_told_seldom_and_only_when_it_has_moved(pod: Pod) -> None:
    assert pod.at(0.0, "a", used=64 * MIB)
    assert pod.at(14.0, "a", used=900 * MIB) is None
    told = pod.at(15.0, "a", used=900 * MIB)
    assert told is not None
    assert told.headroom[HOST] < 1024 * MIB
    assert pod.at(31.0, "a", used=901 * MIB) is None


def test_leaving_is_said_at_once(pod: Pod) -> None:
    assert pod.at(0.0, "a")
    pod.telling.leaving = True
    said = pod.at(1.0, "a")
    assert said is not None
    assert said.leaving


def test_what_the_broker_did_not_take_is_said_again_with_a_new_number(pod: Pod) -> None:
    first = pod.at(0.0, "a")
    pod.telling.said_nothing()
    again = pod.at(0.1, "a")
    assert first is not None
    assert again is not None
    assert again.sequence > first.sequence


def test_what_was_learned_of_residents_comes_first(pod: Pod) -> None:
    for number, name in enumerate("cba"):
        pod.store.learn_footprint(name, {HOST: (number + 1) * MIB}, float(number), "r" * 40)
    said = pod.at(10.0, "c")
    assert said is not None
    assert list(said.learned) == ["c", "a", "b"]
    assert said.learned["c"] == (MIB, None, True, 9)


def test_what_was_learned_of_files_that_are_gone_is_not_told(pod: Pod) -> None:
    pod.store.learn_footprint("a", {HOST: MIB}, 0.0, "before")
    pod.store.learn_footprint("b", {HOST: MIB}, 0.0, "now")
    snapshot = snapshot_of("ab", 0.0)
    models = {name: replace(each, revision="now") for name, each in snapshot.models.items()}
    latest = pod.telemetry.latest
    pod.telemetry.latest = Latest(latest.policy, replace(snapshot, models=models), latest.plan)
    said = pod.telling.due(0.0)
    assert said is not None
    assert list(said.learned) == ["b"]


def test_what_was_learned_is_bounded() -> None:
    pod = Pod()
    names = [f"m{n}" for n in range(MOST_LEARNED + 50)]
    for name in names:
        pod.store.learn_load_time(name, 1.0, 0.0)
    latest = pod.telemetry.latest
    pod.telemetry.latest = Latest(latest.policy, snapshot_of("", 0.0, names), latest.plan)
    said = pod.telling.due(0.0)
    assert said is not None
    assert len(said.learned) == MOST_LEARNED


def test_what_residents_are_asked_is_told_with_all_else(pod: Pod) -> None:
    latest = pod.telemetry.latest
    pasts = {name: ModelHistory(fast_rate=1.5, rate_at_s=0.0) for name in "ab"}
    pasts["c"] = ModelHistory(fast_rate=0.0001, rate_at_s=0.0)
    plan = replace(latest.plan, history=History(models=pasts))
    pod.telemetry.took(replace(latest, plan=plan))
    first = pod.at(0.0, "ac")
    assert first is not None
    assert first.asked == {"a": 4096}, "5,400 an hour; b is not here, and nobody asks for c"
    assert first.place == "pod"
