"""The pod's port for the gateway: `remora envoy-config --fleet-port`."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from daemon.cli import app
from tests.daemon.gateway.test_bootstrap import validated


def listeners(*words: str) -> dict[str, Any]:
    outcome = CliRunner().invoke(app, ["envoy-config", *words])
    assert outcome.exit_code == 0, outcome.output
    found = yaml.safe_load(outcome.output)["static_resources"]["listeners"]
    return {each["name"]: each for each in found}


def test_without_a_gateway_there_is_no_such_port() -> None:
    assert "fleet" not in listeners()


def test_it_serves_what_the_two_doors_serve() -> None:
    words = ("--fleet-port", "9482", "--host", "127.0.0.9", "--access-log", "/dev/null")
    found = listeners(*words, "--body-cap", "5MiB")
    address = found["fleet"]["address"]["socket_address"]
    assert (address["address"], address["port_value"]) == ("127.0.0.9", 9482)
    grpc, http = found["fleet"]["filter_chains"]
    assert grpc["filter_chain_match"] == {"application_protocols": ["h2c"]}
    mark = {"key": "x-remora-gateway", "value": "1"}
    for name, chain in (("grpc", grpc), ("http", http)):
        (door,) = found[name]["filter_chains"]
        assert mutations(door)[-1]["append"]["header"] != mark
        # It says besides where the request has come from, when a client's own word is gone.
        assert mutations(chain).pop()["append"]["header"] == mark
        assert chain["filters"] == door["filters"]


def mutations(chain: dict[str, Any]) -> list[Any]:
    (manager,) = chain["filters"]
    stripping = manager["typed_config"]["http_filters"][0]["typed_config"]
    found: list[Any] = stripping["mutations"]["request_mutations"]
    return found


@pytest.mark.parametrize(
    ("port", "message"),
    [
        ("9480", "--fleet-port: '9480'; allowed: a port that no other listener has"),
        ("65536", "--fleet-port: '65536'; allowed: a port from 1 to 65535, or 0 for none"),
    ],
)
def test_a_bad_port_is_refused(port: str, message: str) -> None:
    outcome = CliRunner().invoke(app, ["envoy-config", "--fleet-port", port])
    assert outcome.exit_code == 1
    assert message in outcome.output


def test_a_real_envoy_takes_it(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["envoy-config", "--fleet-port", "9482"])
    assert validated(tmp_path, outcome.output) == ""
