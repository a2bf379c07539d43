"""Where a real gateway sends requests, before pods that only say who they are."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2

from tests.daemon.gateway.doubles import Front, grpc_front, http_front
from tests.daemon.pod import eventually

MODELS = [f"model-{at}" for at in range(40)]
PATHS = (
    "",
    "/infer",
    "/generate",
    "/generate_stream",
    "/config",
    "/ready",
    "/stats",
    "/trace/setting",
    "/infer?a=/b",
    "/versions/3",
    "/versions/3/infer",
    "/versions/12/ready",
)
BY_NAME = (
    ("ModelReady", service_pb2.ModelReadyRequest),
    ("ModelMetadata", service_pb2.ModelMetadataRequest),
    ("ModelConfig", service_pb2.ModelConfigRequest),
    ("ModelStatistics", service_pb2.ModelStatisticsRequest),
)
# Above the default of --body-cap.
TOO_LARGE_BYTES = 40 * 2**20


@pytest.fixture(scope="module")
def by_http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with http_front(tmp_path_factory.mktemp("http"), 3, "--balance=0") as front:
        yield front


@pytest.fixture(scope="module")
def by_grpc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with grpc_front(tmp_path_factory.mktemp("grpc"), 3, "--balance=0") as front:
        yield front


@pytest.fixture(autouse=True)
def willing(request: pytest.FixtureRequest) -> None:
    """Every test finds doubles that answer and have seen nothing."""
    for name in ("by_http", "by_grpc"):
        if name in request.fixturenames:
            for door in request.getfixturevalue(name).doors:
                door.conduct = "answer"
                door.seen.clear()


def infer(model: str, size_bytes: int = 8) -> bytes:
    request = service_pb2.ModelInferRequest(
        model_name=model, id="a", raw_input_contents=[b"\0" * size_bytes]
    )
    written: bytes = request.SerializeToString()
    return written


def http_home(front: Front, model: str) -> str:
    return front.http(f"/v2/models/{model}/infer")[1]


def test_all_of_a_model_s_paths_lead_to_one_pod(by_http: Front) -> None:
    for model in MODELS[:6]:
        assert len({by_http.http(f"/v2/models/{model}{path}")[1] for path in PATHS}) == 1


def test_a_model_has_one_pod_whatever_its_clients_speak(by_http: Front, by_grpc: Front) -> None:
    homes = {model: http_home(by_http, model) for model in MODELS}
    assert homes == {model: by_grpc.grpc("ModelInfer", infer(model)) for model in MODELS}
    assert set(Counter(homes.values())) == {"0", "1", "2"}


def test_all_of_a_model_s_methods_lead_to_one_pod(by_grpc: Front) -> None:
    for model in MODELS[:6]:
        homes = {by_grpc.grpc(name, kind(name=model).SerializeToString()) for name, kind in BY_NAME}
        setting = service_pb2.TraceSettingRequest(model_name=model)
        homes |= {
            by_grpc.grpc("TraceSetting", setting.SerializeToString()),
            by_grpc.grpc("ModelInfer", infer(model)),
            by_grpc.stream(infer(model), infer("another"), infer(model)),
        }
        assert len(homes) == 1


def test_a_name_that_comes_after_the_tensors_is_found(by_grpc: Front) -> None:
    tensors = service_pb2.ModelInferRequest(raw_input_contents=[b"\0" * 4096])
    name = service_pb2.ModelInferRequest(model_name=MODELS[0])
    late = tensors.SerializeToString() + name.SerializeToString()
    assert by_grpc.grpc("ModelInfer", late) == by_grpc.grpc("ModelInfer", infer(MODELS[0]))


def test_a_message_above_the_limit_passes_only_with_its_model_named(by_grpc: Front) -> None:
    model = MODELS[0]
    large = infer(model, TOO_LARGE_BYTES)
    with pytest.raises(grpc.RpcError) as refused:
        by_grpc.grpc("ModelInfer", large)
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    home = by_grpc.grpc("ModelInfer", infer(model))
    assert by_grpc.grpc("ModelInfer", large, remora_model=model) == home


def test_what_names_no_model_is_answered_by_any_pod(by_http: Front) -> None:
    for path in ("/v2", "/v2/health/ready", "/v2/models/stats", "/v2/repository/index"):
        assert len({by_http.http(path)[1] for _ in range(40)}) > 1, path


def test_a_message_that_is_none_is_left_to_the_pod(by_grpc: Front) -> None:
    assert by_grpc.grpc("ModelInfer", b"\xff\xff\xff") in {"0", "1", "2"}


def test_loading_and_unloading_is_refused(by_http: Front, by_grpc: Front) -> None:
    assert by_http.http("/v2/repository/models/resnet/load")[0] == 403
    with pytest.raises(grpc.RpcError) as refused:
        by_grpc.grpc("RepositoryModelUnload", b"")
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert not any(door.seen for door in (*by_http.doors, *by_grpc.doors))


def test_a_request_that_broke_while_it_was_executed_is_sent_once(by_http: Front) -> None:
    for door in by_http.doors:
        door.conduct = "break"
    assert by_http.http("/v2/models/resnet/infer")[0] == 503
    assert sum(len(door.seen) for door in by_http.doors) == 1


def test_no_client_can_ask_for_retries(by_http: Front) -> None:
    for door in by_http.doors:
        door.conduct = "break"
    asked = {"x-envoy-retry-on": "reset,5xx", "x-envoy-max-retries": "3"}
    assert by_http.http("/v2/models/resnet/infer", b"{}", **asked)[0] == 503
    assert sum(len(door.seen) for door in by_http.doors) == 1


def test_a_pod_that_sends_elsewhere_costs_nobody_an_answer(by_http: Front) -> None:
    homes = {model: http_home(by_http, model) for model in MODELS}
    by_http.doors[0].conduct = "elsewhere"
    answers = {model: by_http.http(f"/v2/models/{model}/infer") for model in MODELS}
    assert {status for status, _, _ in answers.values()} == {200}
    for model, (_, pod, _) in answers.items():
        assert pod == homes[model] if homes[model] != "0" else pod != "0"


def test_all_requests_of_a_model_go_to_the_same_next_pod(by_http: Front) -> None:
    by_http.doors[0].conduct = "elsewhere"
    for model in MODELS[:10]:
        assert len({http_home(by_http, model) for _ in range(5)}) == 1


def test_a_grpc_pod_that_sends_elsewhere_costs_nobody_an_answer(by_grpc: Front) -> None:
    by_grpc.doors[1].conduct = "elsewhere"
    answers = {by_grpc.grpc("ModelInfer", infer(model)) for model in MODELS}
    assert answers == {"0", "2"}
    assert by_grpc.doors[1].seen


def test_when_every_pod_sends_elsewhere_the_client_hears_the_last(by_http: Front) -> None:
    for door in by_http.doors:
        door.conduct = "elsewhere"
    assert by_http.http("/v2/models/resnet/infer")[0] == 503
    assert all(door.seen for door in by_http.doors)


def seen_by(front: Front, count: int) -> bool:
    return sum(len(door.seen) for door in front.doors) == count


@pytest.mark.parametrize(("balance", "pods"), [(0, 1), (300, 2)])
def test_a_hot_model_spills_to_its_next_pod_where_a_pod_s_share_is_limited(
    tmp_path: Path, balance: int, pods: int
) -> None:
    """Of nine at once before six pods, one may have half: ceil(300 % of the mean)."""
    with http_front(tmp_path, 6, f"--balance={balance}") as front, ThreadPoolExecutor(9) as pool:
        for door in front.doors:
            door.released.clear()
        asked = []
        for number in range(9):
            asked.append(pool.submit(http_home, front, "hot"))
            eventually(partial(seen_by, front, number + 1), 10)
        for door in front.doors:
            door.released.set()
        assert len({one.result() for one in asked}) == pods
