"""The gateway's bootstrap: what the options change, and that a real Envoy takes it."""

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2
from typer.testing import CliRunner

from daemon.cli import app
from daemon.gateway.bootstrap import template
from daemon.gateway.protocol import SERVICE, descriptor_set, naming_fields
from simulations.testbed.envoy import find_envoy

REFUSED = [
    (("--host", "everywhere"), "--host: 'everywhere'; allowed: an IP address"),
    (("--http-port", "0"), "--http-port: '0'; allowed: a port from 1 to 65535"),
    (("--admin-port", "-1"), "--admin-port: '-1'; allowed: a port from 1 to 65535, or 0 for none"),
    (("--grpc-port", "9580"), "--grpc-port: '9580'; allowed: a port that no other listener has"),
    (("--pod", "triton"), "--pod: 'triton'; allowed: HOST:PORT"),
    (("--pod", "a:1", "--pod", "a:1"), "--pod: 'a:1'; allowed: each pod once"),
    (("--balance", "99"), "--balance: '99'; allowed: a percentage from 100 to 10000, or 0"),
    (("--body-cap", "much"), "--body-cap: 'much'; allowed: an amount of memory"),
    (("--body-cap", "2GiB"), "--body-cap: '2GiB'; allowed: from 1B to 2GiB, and not above"),
    (("--memory", "32MiB"), "--memory: '32MiB'; allowed: from 64MiB to 1024TiB"),
]
TAKEN = [
    (),
    ("--admin-port", "0", "--balance", "0"),
    ("--host", "::", "--pod", "[::1]:9482"),
    ("--pod", "pod-0.triton:9482", "--pod", "pod-1.triton:9482"),
    ("--pod", "10.0.0.1:9482", "--pod", "10.0.0.2:9482"),
    ("--body-cap", "1B", "--memory", "64MiB"),
]


def config(*words: str) -> Any:
    outcome = CliRunner().invoke(app, ["gateway-config", *words])
    assert outcome.exit_code == 0, outcome.output
    return yaml.safe_load(outcome.output)


def pods(found: Any) -> Any:
    (cluster,) = found["static_resources"]["clusters"]
    return cluster


def endpoints(found: Any) -> Any:
    return pods(found)["load_assignment"]["endpoints"][0]["lb_endpoints"]


def managers(found: Any) -> list[Any]:
    return [
        listener["filter_chains"][0]["filters"][0]["typed_config"]
        for listener in found["static_resources"]["listeners"]
    ]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_a_bad_option_is_refused_with_its_value_and_what_is_allowed(
    words: tuple[str, ...], message: str
) -> None:
    outcome = CliRunner().invoke(app, ["gateway-config", *words])
    assert outcome.exit_code == 1
    assert message in outcome.output


@pytest.mark.parametrize("words", TAKEN)
def test_a_real_envoy_takes_what_is_written_without_a_warning(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert validated(tmp_path, yaml.safe_dump(config(*words))) == ""


def test_a_real_envoy_takes_the_template_as_it_stands(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "deploy" / "gateway.yaml").read_text()
    assert validated(tmp_path, text) == ""


def validated(folder: Path, bootstrap: str) -> str:
    """What a real Envoy warns of."""
    path = folder / "gateway.yaml"
    path.write_text(bootstrap)
    words = [str(find_envoy()), "--mode", "validate", "-c", str(path), "-l", "warning"]
    ended = subprocess.run(
        [*words, "--disable-hot-restart"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


def test_without_options_the_command_prints_the_template() -> None:
    assert config() == template()


def test_one_name_is_all_its_addresses_and_each_is_hashed_by_itself() -> None:
    found = config("--pod", "triton.models:9482")
    assert pods(found)["cluster_type"]["name"] == "envoy.cluster.dns"
    assert [each.keys() for each in endpoints(found)] == [{"endpoint"}]


def test_several_names_are_a_pod_each_whatever_its_address_is() -> None:
    found = config("--pod", "pod-0.triton:9482", "--pod", "pod-1.triton:9482")
    keys = [
        each["metadata"]["filter_metadata"]["envoy.lb"]["hash_key"] for each in endpoints(found)
    ]
    assert keys == ["pod-0.triton:9482", "pod-1.triton:9482"]


def test_addresses_need_no_name_server() -> None:
    found = pods(config("--pod", "10.0.0.1:9482", "--pod", "10.0.0.2:9482"))
    assert found["type"] == "STATIC"
    assert "cluster_type" not in found


def test_no_request_is_retried_that_triton_may_have_executed() -> None:
    reasons = {
        reason
        for manager in managers(template())
        for host in manager["route_config"]["virtual_hosts"]
        for route in host["routes"]
        for reason in route.get("route", {}).get("retry_policy", {}).get("retry_on", "").split(",")
    }
    assert reasons == {
        "",
        "connect-failure",
        "refused-stream",
        "reset-before-request",
        "retriable-headers",
    }


def test_every_method_that_names_a_model_is_read_save_those_that_are_refused() -> None:
    named = {
        method.name
        for method in SERVICE.methods
        if {"name", "model_name"} & set(method.input_type.fields_by_name)
        and "SharedMemory" not in method.name
    }
    read = {method.rpartition(".")[2] for method in naming_fields()}
    assert read == named - {"RepositoryModelLoad", "RepositoryModelUnload"}


def test_what_envoy_is_told_of_the_protocol_reads_the_names_of_triton_s_own_messages() -> None:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptor_set()).file:
        pool.Add(file)
    for method, field in naming_fields().items():
        request = SERVICE.methods_by_name[method.rpartition(".")[2]].input_type
        written = getattr(service_pb2, request.name)(**{field: "resnet"}).SerializeToString()
        known = GetMessageClass(pool.FindMessageTypeByName(request.full_name))
        assert getattr(known.FromString(written), field) == "resnet"


def test_the_body_cap_holds_for_both_protocols() -> None:
    caps = [
        host["request_body_buffer_limit"]
        for manager in managers(config("--body-cap", "5MiB"))
        for host in manager["route_config"]["virtual_hosts"]
    ]
    assert caps == [5 * 2**20] * 2


def test_the_template_s_descriptor_is_base64_of_today_s() -> None:
    (filter_,) = (
        each for each in managers(template())[1]["http_filters"] if "extraction" in each["name"]
    )
    written = filter_["typed_config"]["descriptor_set"]["inline_bytes"]
    assert base64.b64decode(written, validate=True) == descriptor_set()
