"""A day of a whole fleet: real Tritons, sidecars and Envoys, behind the real gateway, which gossip
over a real broker while traffic goes on by HTTP and gRPC."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations.testbed.installation import find
from simulations.testbed.repository import ModelSpec
from tests.daemon.gateway.fleet import Fleet, Member, fleet
from tests.daemon.gateway.traffic import Traffic
from tests.daemon.gossip.mosquitto import Mosquitto
from tests.daemon.pod import eventually

SPECS = [ModelSpec(f"m{at:02}", 8, load_s=0.1, compute_ms=1, hint=True) for at in range(30)]
MODELS = [spec.name for spec in SPECS]
PATIENCE_S = 90.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto.start(tmp_path) as running:
        yield running


@pytest.fixture
def running(tmp_path: Path, broker: Mosquitto) -> Iterator[Fleet]:
    settings = {"REMORA_GOSSIP": broker.url, "REMORA_LEAVE_DEADLINE": "60s"}
    # Copies are counted here: nothing is to spill.
    with fleet(find(), tmp_path, SPECS, balance=0, settings=settings) as started:
        yield started


def test_a_day_of_a_fleet(running: Fleet, broker: Mosquitto) -> None:
    each_model_is_loaded_about_once(running)
    a_dead_broker_loses_nothing(running, broker)
    one_that_comes_takes_its_share(running)
    one_that_leaves_fails_nothing(running)
    one_that_dies_fails_only_what_it_executed(running)
    for member in running.members:
        assert "Traceback" not in member.pod.log, member.name
        assert "nobody hears us" not in member.pod.log, member.name


def each_model_is_loaded_about_once(running: Fleet) -> None:
    with traffic(running, MODELS) as asking:
        until_each_was_asked(asking, 4)
    assert asking.failures == []
    assert all(running.held().get(model) for model in MODELS)
    assert loads(running) <= 1.2 * len(MODELS)
    eventually(lambda: views_agree(running), PATIENCE_S)


def a_dead_broker_loses_nothing(running: Fleet, broker: Mosquitto) -> None:
    held, loaded = running.held(), loads(running)
    with traffic(running, MODELS) as asking:
        broker.kill()
        eventually(lambda: not any(is_connected(m) for m in running.staying()), PATIENCE_S)
        until_each_was_asked(asking, 2)
        broker.restart()
        until_each_was_asked(asking, 2)
        eventually(lambda: all(is_connected(m) for m in running.staying()), PATIENCE_S)
    assert asking.failures == []
    assert {model: pods for model, pods in running.held().items() if pods} == held
    assert loads(running) == loaded
    eventually(lambda: views_agree(running), PATIENCE_S)


def one_that_comes_takes_its_share(running: Fleet) -> None:
    before = running.held()
    with traffic(running, MODELS) as asking:
        came = running.start()
        at = len(running.members) - 1
        running.tell(running.staying())
        # The gateway gathers changes for a second before it hashes anew.
        eventually(lambda: bool(came.pod.ready()), PATIENCE_S)
        until_each_was_asked(asking, 4)
    assert asking.failures == []
    after = running.held()
    moved = {model for model in MODELS if at in after[model]}
    # A quarter of thirty is seven or eight; hashing is even only on the whole.
    assert 1 <= len(moved) <= 15
    assert sum(after[model] != before[model] for model in set(MODELS) - moved) <= 3
    eventually(lambda: views_agree(running), PATIENCE_S)


def one_that_leaves_fails_nothing(running: Fleet) -> None:
    alone = sorted(model for model, pods in running.held().items() if pods == [0])
    # Nobody asks for these meanwhile: that they are warm elsewhere is their peers' doing.
    quiet = alone[:2]
    assert quiet
    with traffic(running, [model for model in MODELS if model not in quiet]) as asking:
        said = running.remove(running.members[0])
        until_each_was_asked(asking, 3)
    assert asking.failures == []
    assert said["out"]
    assert said["held_here_alone"] == []
    held = running.held()
    assert all(held.get(model) for model in alone)
    loaded = loads(running)
    with traffic(running, quiet) as asking:
        until_each_was_asked(asking, 2)
    assert asking.failures == []
    assert loads(running) == loaded, "what nobody asked for while it left was cold after all"


def one_that_dies_fails_only_what_it_executed(running: Fleet) -> None:
    held, at = running.held(), 1
    with traffic(running, MODELS) as asking:
        until_each_was_asked(asking, 1)
        running.members[at].kill()
        until_each_was_asked(asking, 4)
    assert {model for _, model, _ in asking.failures} <= {
        model for model in MODELS if at in held[model]
    }
    # What was executing in it, once per client at most.
    assert len(asking.failures) <= asking.clients
    eventually(lambda: views_agree(running), PATIENCE_S)


def traffic(running: Fleet, models: list[str]) -> Traffic:
    return Traffic(running.http, running.grpc, models)


def until_each_was_asked(asking: Traffic, times: int) -> None:
    before = Counter(asking.sent)
    wanted = asking.models
    eventually(lambda: all(asking.sent[m] - before[m] >= times for m in wanted), PATIENCE_S)


def loads(running: Fleet) -> int:
    return sum(running.loads(model) for model in MODELS)


def is_connected(member: Member) -> bool:
    return bool(member.state()["gossip"]["connected"])


def views_agree(running: Fleet) -> bool:
    """Whether every pod believes of every other what that one's Triton says."""
    members = running.staying()
    truth = {member.name: sorted(member.pod.ready()) for member in members}
    for member in members:
        peers = member.state()["gossip"]["peers"]
        believed = {name: peer["residents"] for name, peer in peers.items()}
        if believed != {name: held for name, held in truth.items() if name != member.name}:
            return False
    return True
