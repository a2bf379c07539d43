"""What may be said of the broker, and what is refused before anything starts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon.settings import Settings, SettingsError

URL = "mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"


@pytest.mark.parametrize(
    "url", ["mqtt://broker", "mqtt://broker:1883", "mqtts://broker.ns.svc:8883", "mqtt://[::1]:1"]
)
def test_brokers_are_named_by_a_url(url: str) -> None:
    assert Settings(gossip=url, pod="web-0").pod_name == "web-0"


@pytest.mark.parametrize(
    ("name", "settings", "allowed"),
    [
        *(
            ("gossip", {"gossip": url}, URL)
            for url in (
                "broker",
                "http://broker",
                "mqtt://",
                "mqtt://broker:0",
                "mqtt://broker:99999",
                "mqtt://broker/x",
            )
        ),
        *(("gossip_root", {"gossip_root": root}, "a/b") for root in ("", "/a", "a/", "a+", "#")),
        *(
            ("pod", {"gossip": "mqtt://b", "pod": pod}, "letters, digits")
            for pod in ("a/b", "+", "-a", "x" * 254, "a b")
        ),
        *(
            ("gossip_place", {"gossip_place": place}, "ADDRESS:PORT, [IPV6]:PORT, or a name")
            for place in (":9482", "a b:1", "10.0.0.1:", "fd00::1:9482", "a:123456", "x" * 257)
        ),
        ("gossip_key", {"gossip_certificate": Path("c")}, "both a certificate and its key"),
        ("gossip_ca", {"gossip": "mqtt://b", "gossip_ca": Path("c")}, "--gossip mqtts://HOST"),
        ("gossip_ca", {"gossip_ca": Path("c")}, "--gossip mqtts://HOST"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(
    name: str, settings: dict[str, Any], allowed: str
) -> None:
    with pytest.raises(SettingsError) as error:
        Settings(**settings)
    assert str(error.value).startswith(f"--{name.replace('_', '-')} ")
    assert allowed in str(error.value)


@pytest.mark.parametrize(
    "place", ["10.1.2.3:9482", "[fd00::7]:9482", "triton-0.triton.models:9482", "triton-0"]
)
def test_a_pod_s_place_is_written_as_the_gateway_knows_it(place: str) -> None:
    assert Settings(gossip_place=place).gossip_place == place


def test_a_password_in_the_url_is_refused_and_not_told() -> None:
    with pytest.raises(SettingsError) as error:
        Settings(gossip="mqtt://user:s3cret@broker")
    assert "s3cret" not in str(error.value)


def test_without_a_broker_no_mqtt_is_imported() -> None:
    seen = "import sys, daemon.run, daemon.cli; print('aiomqtt' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
