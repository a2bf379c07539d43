"""Two real sidecars beside two real Tritons, over a real broker."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from daemon.gossip.messages import PodState, decoded
from simulations.testbed.installation import find
from simulations.testbed.repository import ModelSpec
from tests.daemon.gossip.mosquitto import Mosquitto
from tests.daemon.pod import QUICK, Pod, eventually, pod

MODELS = [ModelSpec(name, 40, load_s=0.3, compute_ms=2, hint=True) for name in "abc"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto.start(tmp_path) as running:
        yield running


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(
    stack: ExitStack, broker: Mosquitto, folder: Path, name: str, more: str = "", place: str = ""
) -> Pod:
    (folder / name).mkdir()
    settings = {
        "REMORA_GOSSIP": broker.url,
        "REMORA_POD": name,
        "REMORA_GOSSIP_PLACE": place,
        "REMORA_LEAVE_NOTICE": "3s",
        "REMORA_LEAVE_DEADLINE": "6s",
    }
    policy = QUICK.format(budget=200) + more
    running = pod(find(), folder / name, MODELS, policy, settings=settings)
    return stack.enter_context(running)


def gossip(running: Pod) -> Any:
    return running.get("/v1/state")["gossip"]


def footprint_told(broker: Mosquitto, pod: str, model: str) -> int | None:
    """What stands at the broker of the model's footprint."""
    (said,) = broker.standing(f"remora/pods/{pod}")
    learned = decoded(PodState, said).learned.get(model)
    return learned.footprint_bytes if learned else None


def residents(running: Pod, peer: str) -> list[str] | None:
    known = gossip(running)["peers"].get(peer)
    return known["residents"] if known else None


def test_sidecars_tell_each_other_what_they_hold_and_have_learned(
    stack: ExitStack, broker: Mosquitto, tmp_path: Path
) -> None:
    one = start(stack, broker, tmp_path, "one")
    # A load is measured against what was used before it, which has to have been seen.
    eventually(lambda: one.get("/v1/state")["ticks"] > 10, 20)
    one.demand("a")
    eventually(lambda: one.ready() == {"a"}, 20)
    eventually(lambda: one.get("/v1/state")["models"]["a"]["footprint_source"] == "measured", 20)
    # What was learned is told with the figures that drift.
    eventually(lambda: footprint_told(broker, "one", "a") is not None, 40)

    two = start(stack, broker, tmp_path, "two")
    model = two.get("/v1/state")["models"]["a"]
    assert model["footprint_source"] == "peer", "known before its first load"
    assert model["load_s"] > 0
    assert residents(two, "one") == ["a"]

    two.demand("b")
    eventually(lambda: residents(one, "two") == ["b"], 20)
    page = one.get("/metrics")
    assert "\nremora_gossip_peers 1.0\n" in page
    assert "\nremora_gossip_connected 1.0\n" in page

    broker.kill()
    eventually(lambda: "gossip" in one.get("/v1/state")["problems"], 10)
    one.demand("c")
    eventually(lambda: one.ready() == {"a", "c"}, 20)
    broker.restart()
    eventually(lambda: residents(two, "one") == ["a", "c"], 30)
    eventually(lambda: "gossip" not in one.get("/v1/state")["problems"], 10)

    broker.say("remora/drain/two", "{}", "-r")
    eventually(lambda: gossip(one)["peers"]["two"]["leaving"], 10)
    two.stop_sidecar()
    assert "leaving: SIGTERM" in two.log
    eventually(lambda: gossip(one)["peers"] == {}, 10)
    assert one.log.count("going on alone") == 1
    assert "Traceback" not in one.log + two.log


def test_what_a_pod_holds_alone_is_loaded_by_another_before_it_goes(
    stack: ExitStack, broker: Mosquitto, tmp_path: Path
) -> None:
    routed = "scaling: {routing: by-model}\n"
    one = start(stack, broker, tmp_path, "one", routed, "10.0.0.1:9482")
    for model in "ab":
        one.demand(model)
    eventually(lambda: one.ready() == {"a", "b"}, 20)
    two = start(stack, broker, tmp_path, "two", routed, "10.0.0.2:9482")
    eventually(lambda: gossip(one)["peers"].get("two", {}).get("place") == "10.0.0.2:9482", 20)
    broker.say("remora/drain/one", "{}", "-r")
    eventually(lambda: two.ready() == {"a", "b"}, 30)
    assert one.ready() == {"a", "b"}, "who leaves keeps what it has"
    assert "handed_over" in two.log
    two.demand("c")
    eventually(lambda: "c" in two.ready(), 20)
    assert "Traceback" not in one.log + two.log
