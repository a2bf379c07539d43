"""What a request names, in Triton's own notations."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from daemon.frontdoor.naming import (
    DENIED,
    GATED,
    PLAIN,
    SERVICE,
    STREAM,
    Malformed,
    Named,
    is_denied,
    named_by_path,
    parsed,
)

REPEATABLE = settings(derandomize=True, database=None, deadline=None, max_examples=200)


@pytest.mark.parametrize("verb", ["", "/infer", "/generate", "/generate_stream", "/config"])
@pytest.mark.parametrize("version", ["", "3"])
@pytest.mark.parametrize("query", ["", "?", "?a=/b"])
def test_models_own_pages_need_the_model(verb: str, version: str, query: str) -> None:
    versions = f"/versions/{version}" if version else ""
    path = f"/v2/models/bert-large.v2{versions}{verb}{query}"
    assert named_by_path(path) == Named("bert-large.v2", version)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v2",
        "/v2/health/ready",
        "/v2/models",
        "/v2/models/stats",
        "/v2/models/a/ready",
        "/v2/models/a/stats",
        "/v2/models/a/versions/1/ready",
        "/v2/models/a/trace/setting",
        "/v2/models//infer",
        "/v2/models/a/infer/",
        "/v2/models/a/b/infer",
        "/v2/models/a/versions//infer",
        "/v2/models/../models/a/infer",
        "//v2/models/a/infer",
        "/V2/models/a/infer",
        "/v2/repository/index",
        "/metrics",
    ],
)
def test_other_pages_are_answered_whatever_is_loaded(path: str) -> None:
    assert named_by_path(path) is None
    assert not is_denied(path)


@pytest.mark.parametrize("name", ["%61", "a%2fb", "%2e%2e", "..", "a;b", "a@b", "a'b", "a b"])
def test_name_is_taken_as_it_is_written(name: str) -> None:
    assert named_by_path(f"/v2/models/{name}/infer") == Named(name)


@pytest.mark.parametrize("verb", ["load", "unload", "load?x", "unload?unload_dependents=1"])
def test_loads_and_unloads_are_known_by_their_paths(verb: str) -> None:
    assert is_denied(f"/v2/repository/models/a/{verb}")
    assert named_by_path(f"/v2/repository/models/a/{verb}") is None


def test_every_method_of_tritons_service_has_one_treatment() -> None:
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    methods = {SERVICE + method.name for method in service.methods}
    treated = [STREAM, *GATED, *DENIED, *PLAIN]
    assert len(treated) == len(set(treated))
    assert methods <= set(treated)


@pytest.mark.parametrize(
    "message",
    [
        service_pb2.ModelInferRequest(model_name="a", model_version="2", id="x"),
        service_pb2.ModelMetadataRequest(name="a", version="2"),
        service_pb2.ModelConfigRequest(name="a", version="2"),
    ],
)
def test_every_gated_message_names_its_model_alike(message: object) -> None:
    request = parsed(message.SerializeToString())  # type: ignore[attr-defined]
    assert (request.model_name, request.model_version) == ("a", "2")


def test_fields_may_come_in_any_order_and_the_last_one_counts() -> None:
    parts = [service_pb2.ModelInferRequest(model_version="2", raw_input_contents=[b"x"])]
    parts += [service_pb2.ModelInferRequest(model_name=name) for name in "ab"]
    request = parsed(b"".join(part.SerializeToString() for part in parts))
    assert (request.model_name, request.model_version) == ("b", "2")


@REPEATABLE
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_called_malformed(message: bytes) -> None:
    try:
        request = parsed(message)
    except Malformed:
        return
    request.model_name.encode()


@REPEATABLE
@given(st.text(max_size=60).map(lambda tail: "/v2/models/" + tail) | st.text(max_size=60))
def test_any_path_is_one_thing_at_most(path: str) -> None:
    named = named_by_path(path)
    assert named is None or not is_denied(path)
    if named is not None:
        assert named.model in path
        assert "/" not in named.model + named.version
