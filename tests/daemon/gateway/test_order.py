"""Sidecars know to which pod a real gateway sends a model's requests, and to which one next."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2

from policies.places import Places
from tests.daemon.gateway.doubles import Front, found_front, grpc_front, http_front

MODELS = [*(f"model-{at}" for at in range(197)), "resnet-50.v1_2", "A" * 120, "a+b~c"]
SOME = MODELS[:60]


@pytest.fixture(scope="module", params=[("http", 4), ("grpc", 3), ("grpc", 5)], ids=str)
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    protocol, pods = request.param
    folder = tmp_path_factory.mktemp(protocol)
    with found_front(folder, pods, protocol, "--balance=0") as front:
        yield front


def answering(front: Front, model: str) -> str:
    """The place of the pod that answers a request for ``model``."""
    if front.protocol == "http":
        pod = front.http(f"/v2/models/{model}/infer")[1]
    else:
        request = service_pb2.ModelInferRequest(model_name=model)
        pod = front.grpc("ModelInfer", request.SerializeToString())
    return front.places[int(pod)]


def test_a_model_s_requests_go_to_the_first_of_its_order_also_when_a_pod_has_gone(
    found: Front,
) -> None:
    """The gateway finds the pods by one name, and knows each by its address and port."""
    every = range(len(found.places))
    for staying in (every, every[1:], every):
        found.tell(staying)
        places = Places.of(found.places[at] for at in staying)
        homes = {model: places.first(model) for model in MODELS}
        assert {model: answering(found, model) for model in MODELS} == homes
        assert set(homes.values()) == {found.places[at] for at in staying}


@pytest.mark.parametrize("open_front", [http_front, grpc_front])
def test_what_a_pod_will_not_take_goes_to_the_second_of_the_order(
    open_front: Callable[..., AbstractContextManager[Front]], tmp_path: Path
) -> None:
    """Pods that are named one by one, and known by what was written."""
    with open_front(tmp_path, 5, "--balance=0") as front:
        places = Places.of(front.places)
        orders = {model: places.order(model, 2) for model in SOME}
        assert {model: answering(front, model) for model in SOME} == {
            model: first for model, (first, _) in orders.items()
        }
        for at, unwilling in enumerate(front.places):
            front.doors[at].conduct = "elsewhere"
            for model in (model for model in SOME if orders[model][0] == unwilling):
                assert answering(front, model) == orders[model][1]
            front.doors[at].conduct = "answer"


def test_what_a_dead_pod_refuses_goes_to_the_second_of_the_order(tmp_path: Path) -> None:
    with http_front(tmp_path, 3, "--balance=0", dead=1) as front:
        orders = {model: Places.of(front.places).order(model, 2) for model in SOME}
        refused = [model for model in SOME if orders[model][0] == front.places[3]]
        assert refused
        assert {model: answering(front, model) for model in refused} == {
            model: orders[model][1] for model in refused
        }
