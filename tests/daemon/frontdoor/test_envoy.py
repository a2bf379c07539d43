"""Envoy's bootstrap: what the options change, and that a real Envoy takes it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from daemon.cli import app
from daemon.frontdoor.envoy import template
from simulations.testbed.envoy import find_envoy
from tests.daemon.frontdoor.envoy_front import self_signed

REFUSED = [
    (("--host", "everywhere"), "--host: 'everywhere'; allowed: an IP address"),
    (("--http-port", "0"), "--http-port: '0'; allowed: a port from 1 to 65535"),
    (("--grpc-port", "65536"), "--grpc-port: '65536'; allowed: a port from 1 to 65535"),
    (("--admin-port", "-1"), "--admin-port: '-1'; allowed: a port from 1 to 65535, or 0 for none"),
    (("--grpc-port", "9480"), "--grpc-port: '9480'; allowed: a port that no other listener has"),
    (("--admin-port", "9481"), "--admin-port: '9481'; allowed: a port that no other listener has"),
    (("--triton-http", "8000"), "--triton-http: '8000'; allowed: HOST:PORT"),
    (("--triton-grpc", "triton:"), "--triton-grpc: 'triton:'; allowed: HOST:PORT"),
    (("--door-http", "127.0.0.1:99999"), "--door-http: '127.0.0.1:99999'; allowed: HOST:PORT"),
    (("--door-grpc", ":9411"), "--door-grpc: ':9411'; allowed: HOST:PORT"),
    (("--body-cap", "much"), "--body-cap: 'much'; allowed: an amount of memory"),
    (("--body-cap", "0"), "--body-cap: '0'; allowed: from 1B to 2GiB"),
    (("--body-cap", "600MiB"), "--body-cap: '600MiB'; allowed: from 1B to 2GiB, and not above"),
    (("--memory", "32MiB"), "--memory: '32MiB'; allowed: from 64MiB to 1024TiB"),
    (("--access-log-sample", "1.5"), "--access-log-sample: '1.5'; allowed: a share"),
    (("--tls-key", "key.pem"), "--tls-certificate: ''; allowed: a path"),
    (("--tls-certificate", "all.pem"), "--tls-key: ''; allowed: a path"),
]
TAKEN = [
    (),
    ("--admin-port", "0"),
    ("--host", "::", "--triton-http", "[::1]:8000", "--triton-grpc", "localhost:8001"),
    ("--access-log", "/dev/null", "--access-log-sample", "0"),
    ("--access-log", "/dev/null", "--access-log-sample", "1", "--admin-port", "0"),
    ("--body-cap", "1B", "--memory", "64MiB"),
    ("--body-cap", "2GiB", "--memory", "1024TiB"),
]


def config(*words: str) -> Any:
    outcome = CliRunner().invoke(app, ["envoy-config", *words])
    assert outcome.exit_code == 0, outcome.output
    return yaml.safe_load(outcome.output)


def validate(folder: Path, bootstrap: Any) -> str:
    """What a real Envoy says of `bootstrap` without serving it; warnings included."""
    path = folder / "envoy.yaml"
    path.write_text(yaml.safe_dump(bootstrap))
    words = [str(find_envoy()), "--mode", "validate", "-c", str(path), "-l", "warning"]
    ended = subprocess.run(
        [*words, "--disable-hot-restart"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


def named(bootstrap: Any, kind: str, name: str) -> Any:
    return next(each for each in bootstrap["static_resources"][kind] if each["name"] == name)


def endpoint(bootstrap: Any, cluster: str) -> tuple[str, str, int]:
    """How a cluster finds its host, and where."""
    found = named(bootstrap, "clusters", cluster)
    address = found["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    socket = address["socket_address"]
    return found["type"], socket["address"], socket["port_value"]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_a_bad_option_is_refused_with_its_value_and_what_is_allowed(
    words: tuple[str, ...], message: str
) -> None:
    outcome = CliRunner().invoke(app, ["envoy-config", *words])
    assert outcome.exit_code == 1
    assert message in outcome.output


def test_without_options_it_prints_the_template_in_deploy() -> None:
    assert config() == template()


@pytest.mark.parametrize("words", TAKEN, ids=" ".join)
def test_a_real_envoy_takes_what_is_printed(words: tuple[str, ...], tmp_path: Path) -> None:
    assert "deprecated" not in validate(tmp_path, config(*words))


def test_every_address_goes_where_it_is_told() -> None:
    found = config(
        *("--host", "127.0.0.9", "--http-port", "1", "--grpc-port", "2", "--admin-port", "3"),
        *("--triton-http", "10.0.0.1:4", "--triton-grpc", "triton.local:5"),
        *("--door-http", "[::1]:6", "--door-grpc", "127.0.0.1:7"),
    )
    listeners = [
        named(found, "listeners", name)["address"]["socket_address"] for name in ("http", "grpc")
    ]
    assert [(each["address"], each["port_value"]) for each in listeners] == [
        ("127.0.0.9", 1),
        ("127.0.0.9", 2),
    ]
    admin = found["admin"]["address"]["socket_address"]
    assert (admin["address"], admin["port_value"]) == ("127.0.0.1", 3)
    assert endpoint(found, "triton_http") == ("STATIC", "10.0.0.1", 4)
    assert endpoint(found, "triton_grpc") == ("STRICT_DNS", "triton.local", 5)
    assert endpoint(found, "activator_http") == ("STATIC", "::1", 6)
    assert endpoint(found, "activator_grpc") == ("STATIC", "127.0.0.1", 7)


def test_the_body_cap_holds_on_every_listener_and_on_the_hop() -> None:
    listeners = config("--body-cap", "5MiB")["static_resources"]["listeners"]
    caps = [
        host["request_body_buffer_limit"]
        for each in listeners
        for host in each["filter_chains"][0]["filters"][0]["typed_config"]["route_config"][
            "virtual_hosts"
        ]
    ]
    assert caps == [5 * 2**20] * 4
    ranges = [
        header["range_match"]["start"]
        for each in listeners
        for host in each["filter_chains"][0]["filters"][0]["typed_config"]["route_config"][
            "virtual_hosts"
        ]
        for route in host["routes"]
        for header in route["match"].get("headers", ())
    ]
    assert ranges == [5 * 2**20 + 1]


def test_no_request_is_retried_that_triton_may_have_executed() -> None:
    """After a reset only the hop does, behind which nothing is executed, and streams do: theirs
    have headers before anything is, and Envoy retries nothing after those."""
    retried = {
        (listener["name"] + route["match"].get("path", ""), reason)
        for listener in template()["static_resources"]["listeners"]
        for host in listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"][
            "virtual_hosts"
        ]
        for route in host["routes"]
        for reason in route.get("route", {}).get("retry_policy", {}).get("retry_on", "").split(",")
    }
    unsafe = {"reset", "5xx", "gateway-error", "cancelled", "unavailable", "internal"}
    assert {listener for listener, reason in retried if reason in unsafe} == {
        "hop_http",
        "hop_grpc",
        "grpc/inference.GRPCInferenceService/ModelStreamInfer",
    }


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_real_envoy_takes_a_certificate_for_both_protocols(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    found = config("--tls-certificate", str(certificate), "--tls-key", str(key))
    assert "deprecated" not in validate(tmp_path, found)
    assert {
        name: named(found, "listeners", name)["filter_chains"][0]["transport_socket"][
            "typed_config"
        ]["common_tls_context"]["alpn_protocols"]
        for name in ("http", "grpc")
    } == {"http": ["http/1.1"], "grpc": ["h2"]}
