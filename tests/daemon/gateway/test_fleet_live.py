"""Three real Tritons with their sidecars and Envoys behind a real gateway, found by name."""

from collections import Counter
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from simulations.testbed.installation import Installation
from simulations.testbed.repository import ModelSpec
from tests.daemon.gateway.fleet import Fleet, fleet
from tests.daemon.gateway.traffic import Traffic
from tests.daemon.pod import eventually

SPECS = [ModelSpec(f"m{at:02}", 8, load_s=0.1, compute_ms=1, hint=True) for at in range(30)]
MODELS = [spec.name for spec in SPECS]
# Tests that count copies want no spilling; the one that wants it says so.
CALM = 0


def until_each_was_asked(traffic: Traffic, times: int) -> None:
    before = Counter(traffic.sent)
    eventually(lambda: all(traffic.sent[m] - before[m] >= times for m in MODELS), 60)


@pytest.fixture
def started(installation: Installation, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """A fleet of `pods` of which the gateway knows `known`."""
    pods, known = request.param
    with fleet(installation, tmp_path, SPECS, pods=pods, known=known, balance=CALM) as running:
        yield running


def traffic(fleet: Fleet) -> Traffic:
    return Traffic(fleet.http, fleet.grpc, MODELS)


@pytest.mark.parametrize("started", [(3, 3)], indirect=True)
def test_a_model_is_loaded_once_in_the_fleet_and_a_dead_pod_s_models_are_served(
    started: Fleet,
) -> None:
    with traffic(started) as first:
        until_each_was_asked(first, 4)
    assert not first.failures
    held = started.held()
    assert {model: len(pods) for model, pods in held.items()} == dict.fromkeys(MODELS, 1)
    assert [started.loads(model) for model in MODELS] == [1] * 30

    with traffic(started) as second:
        until_each_was_asked(second, 1)
        started.members[1].kill()
        until_each_was_asked(second, 4)
    # What was executing in it fails, once per client at most, and nothing else does.
    assert {model for _, model, _ in second.failures} <= {
        model for model in MODELS if held[model] == [1]
    }
    assert len(second.failures) <= second.clients
    assert all(started.loads(model) == 1 for model in MODELS if held[model] != [1]), (
        "a model of another pod moved"
    )


@pytest.mark.parametrize("started", [(4, 3)], indirect=True)
def test_a_pod_that_comes_takes_its_share_and_one_that_goes_costs_no_request(
    started: Fleet,
) -> None:
    with traffic(started) as first:
        until_each_was_asked(first, 2)
    before = started.held()

    with traffic(started) as second:
        started.tell(started.members)
        # Envoy gathers changes for a second before it hashes anew.
        eventually(lambda: bool(started.members[3].pod.ready()), 10)
        until_each_was_asked(second, 4)
    after = started.held()
    came = {model for model in MODELS if 3 in after[model]}
    moved = {model for model in MODELS if set(after[model]) != set(before[model])}
    # Maglev moves a model or so between the others too.
    assert 1 <= len(came) <= 15
    assert len(moved - came) <= 3

    with traffic(started) as third:
        started.tell(started.members[1:])
        until_each_was_asked(third, 4)
    assert [*first.failures, *second.failures, *third.failures] == []


@pytest.mark.parametrize("started", [(2, 2)], indirect=True)
def test_a_stream_loads_its_model_where_its_other_requests_go(started: Fleet) -> None:
    for model in MODELS[:4]:
        assert answered(started.grpc, model) == 2.0
        assert streamed(started.grpc, model) == 2.0
        assert started.loads(model) == 1
    assert streamed(started.grpc, MODELS[5]) == 2.0
    assert answered(started.grpc, MODELS[5]) == 2.0
    assert started.loads(MODELS[5]) == 1


def answered(address: str, model: str) -> float:
    with InferenceServerClient(address) as client:
        return float(client.infer(model, [one()]).as_numpy("Y").ravel()[0])


def streamed(address: str, model: str) -> float:
    answers: Queue[tuple[Any, Any]] = Queue()
    with InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer(model, [one()])
        result, error = answers.get(timeout=20)
        client.stop_stream()
    assert error is None
    return float(result.as_numpy("Y").ravel()[0])


def one() -> InferInput:
    tensor = InferInput("X", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    return tensor


@pytest.mark.parametrize("started", [(2, 2)], indirect=True)
def test_an_outage_of_every_triton_is_a_wait(started: Fleet) -> None:
    with traffic(started) as first:
        until_each_was_asked(first, 2)
    assert first.failures == []
    with traffic(started) as second:
        for member in started.members:
            member.pod.kill_triton()
        eventually(lambda: started.healthy() == 0, 15)
        for member in started.members:
            member.pod.triton.restart()
        until_each_was_asked(second, 3)
    # What was executing fails, once per client at most.
    assert len(second.failures) <= second.clients
