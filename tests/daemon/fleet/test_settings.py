"""The fleet's settings: what is allowed, and what is said of the rest."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from daemon.fleet.command import fleet
from daemon.fleet.settings import PREFIX, FleetSettings, FleetSettingsError
from daemon.settings import table, variable
from tests.daemon.fleet.kubeconfig import write_kubeconfig

PEM = Path("any.pem")


def test_every_setting_is_a_flag_and_a_variable_and_is_explained() -> None:
    rows = table(FleetSettings, PREFIX)
    assert len(rows) == len(fields(FleetSettings))
    assert ("--collect-interval", "REMORA_FLEET_COLLECT_INTERVAL", "5s") in [r[:3] for r in rows]
    assert all(text.endswith(".") for *_, text in rows)


def test_durations_are_read() -> None:
    settings = FleetSettings(collect_interval="500ms", stale="1m")
    assert (settings.collect_interval_s, settings.stale_s) == (0.5, 60.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"collect_interval": "soon"},
            "--collect-interval (REMORA_FLEET_COLLECT_INTERVAL): 'soon'",
        ),
        ({"lease_duration": "0s"}, "--lease-duration (REMORA_FLEET_LEASE_DURATION): '0s'"),
        ({"stale": "9s"}, "at least twice --collect-interval, 5s"),
        ({"http_port": 0}, "--http-port (REMORA_FLEET_HTTP_PORT): '0'; allowed: a whole number"),
        ({"keda_port": 65536}, "--keda-port"),
        ({"collect_concurrency": 0}, "--collect-concurrency"),
        ({"sidecar_ca": PEM, "sidecar_certificate": PEM}, "--sidecar-key"),
        ({"certificate": PEM}, "--key"),
        ({"key": PEM}, "--certificate"),
        ({"sidecar_name": "a"}, "--sidecar-ca"),
        ({"keda_ca": PEM}, "--keda-certificate"),
        ({"prometheus": "http://a:1,b:2"}, "--prometheus (REMORA_FLEET_PROMETHEUS): 'b:2'"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(FleetSettingsError) as caught:
        FleetSettings(**values)
    assert words in str(caught.value)


def test_prometheus_servers_are_compared_without_a_slash() -> None:
    settings = FleetSettings(prometheus=" http://a:9090/, https://b ")
    assert settings.prometheus_servers == ("http://a:9090", "https://b")


def test_outside_a_pod_our_namespace_has_to_be_told() -> None:
    assert FleetSettings(own_namespace="remora").home == "remora"
    with pytest.raises(FleetSettingsError, match="--own-namespace"):
        FleetSettings().home  # noqa: B018


def command(*arguments: str, **environment: str) -> str:
    """What `remora fleet` says of settings with which it cannot start."""
    app = typer.Typer()
    app.command()(fleet)
    result = CliRunner().invoke(app, arguments, env=environment)
    assert result.exit_code == 1
    return result.output


def test_the_command_reads_flags_and_variables() -> None:
    assert "'never'" in command("--stale", "never")
    assert "'never'" in command(**{variable("stale", PREFIX): "never"})


@pytest.mark.parametrize(
    ("flag", "name", "words"),
    [
        ("--policy", "policy.yaml", "scalling"),
        ("--kubeconfig", "absent.yaml", "absent.yaml"),
        ("--sidecar-token", "absent", "absent"),
    ],
)
def test_the_process_says_which_file_is_wrong(
    tmp_path: Path, flag: str, name: str, words: str
) -> None:
    (tmp_path / "policy.yaml").write_text("scalling: {}")
    config = ("--kubeconfig", str(write_kubeconfig(tmp_path, "http://127.0.0.1:1")))
    code = "import typer; from daemon.fleet.command import fleet; typer.run(fleet)"
    ours = [*config, "--own-namespace", "remora", flag, str(tmp_path / name)]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *ours],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
