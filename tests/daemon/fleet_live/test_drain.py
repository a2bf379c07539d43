"""A pod that leaves, asked by each protocol, by the gateway and past it; all servers are real."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from policies.places import Places
from simulations.testbed.installation import find
from simulations.testbed.repository import ModelSpec
from tests.daemon.gateway.fleet import Fleet, Member, fleet
from tests.daemon.gateway.test_fleet_live import answered, streamed
from tests.daemon.gateway.traffic import BODY
from tests.daemon.gossip.mosquitto import Mosquitto
from tests.daemon.pod import eventually

SPECS = [ModelSpec(f"m{at:02}", 8, load_s=0.1, compute_ms=1, hint=True) for at in range(18)]
MODELS = [spec.name for spec in SPECS]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto.start(tmp_path) as running:
        yield running


@pytest.fixture
def running(tmp_path: Path, broker: Mosquitto) -> Iterator[Fleet]:
    settings = {"REMORA_GOSSIP": broker.url, "REMORA_LEAVE_DEADLINE": "30s"}
    with fleet(find(), tmp_path, SPECS, pods=2, balance=0, settings=settings) as started:
        yield started


def test_a_pod_that_leaves_sends_elsewhere_what_it_lacks(running: Fleet, broker: Mosquitto) -> None:
    drained, other = running.members
    eventually(lambda: set(drained.state()["gossip"]["peers"]) == {other.name}, 30)
    broker.say(f"remora/drain/{drained.name}", "{}", "-r")
    eventually(lambda: drained.state()["leaving"] is not None, 30)
    eventually(lambda: "\nremora_leaving 1.0\n" in drained.pod.get("/metrics"), 30)

    # The gateway still knows both, and sends each its half: by each protocol some of either.
    places = Places.of(member.address for member in running.members)
    models = sorted(MODELS, key=lambda model: (places.first(model), model))
    for model in models[0::3]:
        assert asked(running.http, model) == (200, False)
    for model in models[1::3]:
        assert answered(running.grpc, model) == 2.0
    for model in models[2::3]:
        assert streamed(running.grpc, model) == 2.0
    assert (drained.pod.ready(), other.pod.ready()) == (set(), set(MODELS))
    page = drained.pod.get("/metrics")
    for protocol in ("http", "grpc", "stream"):
        assert f'outcome="sent_elsewhere",protocol="{protocol}"' in page, protocol

    # Past the gateway nobody could send it on, so it is served here.
    assert asked(straight(drained), MODELS[0]) == (200, False)
    assert drained.pod.ready() == {MODELS[0]}

    broker.say(f"remora/drain/{drained.name}", "", "-r")
    eventually(lambda: drained.state()["leaving"] is None, 30)
    assert asked(running.http, MODELS[0]) == (200, False)

    with ThreadPoolExecutor(1) as hook:
        leaving = hook.submit(drained.leave)
        eventually(lambda: drained.state()["leaving"] is not None, 30)
        # What stays connected to a pod that goes is let go of, and is served until then.
        eventually(lambda: asked(straight(drained), MODELS[0]) == (200, True), 30)
        said = leaving.result(60)
    assert (said["out"], said["held_here_alone"]) == (True, [])

    running.tell([other])
    drained.end()
    eventually(lambda: other.state()["gossip"]["peers"] == {}, 30)
    other.pod.unload_by_hand(MODELS[1])
    with ThreadPoolExecutor(1) as hook:
        leaving = hook.submit(other.leave)
        eventually(lambda: other.state()["leaving"] is not None, 30)
        # The last pod has nobody to send it to.
        assert asked(running.http, MODELS[1]) == (200, False)
        assert leaving.result(60)["out"]


def straight(member: Member) -> str:
    """The pod's own port for HTTP, as behind a plain Service."""
    return f"{member.ip}:{member.http_port}"


def asked(address: str, model: str) -> tuple[int, bool]:
    """Status, and whether the server ends the connection."""
    with closing(HTTPConnection(address, timeout=60)) as connection:
        connection.request("POST", f"/v2/models/{model}/infer", BODY)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("connection") == "close"
