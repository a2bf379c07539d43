"""What may be said of the Prometheus, and what is refused before anything starts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon.settings import Settings, SettingsError
from policies.source import PolicyError, parse

URL = "http://HOST[:PORT][/PATH]"


@pytest.mark.parametrize(
    "url", ["http://p:9090", "https://p.ns.svc/prefix/", "http://[::1]:9090", "https://p"]
)
def test_a_server_is_named_by_a_url(url: str) -> None:
    assert Settings(prometheus=url).prometheus == url


@pytest.mark.parametrize(
    ("name", "settings", "allowed"),
    [
        *(
            ("prometheus", {"prometheus": url}, URL)
            for url in ("p:9090", "ftp://p", "http://", "http://p:0", "http://p/?a=b")
        ),
        ("prometheus_credentials", {"prometheus_credentials": Path("c")}, "--prometheus"),
        ("prometheus_ca", {"prometheus": "http://p", "prometheus_ca": Path("c")}, "https://"),
        (
            "prometheus_key",
            {"prometheus": "https://p", "prometheus_certificate": Path("c")},
            "both a certificate and its key",
        ),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(
    name: str, settings: dict[str, Any], allowed: str
) -> None:
    with pytest.raises(SettingsError) as error:
        Settings(**settings)
    assert str(error.value).startswith(f"--{name.replace('_', '-')} ")
    assert allowed in str(error.value)


def test_a_password_in_the_url_is_refused_and_not_told() -> None:
    with pytest.raises(SettingsError) as error:
        Settings(prometheus="http://user:s3cret@p")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "prometheus: {query: up}",
            "prometheus.query: 'up'; allowed: PromQL up to 4096 characters, with {window} in it",
        ),
        ("prometheus: {label: 'a b'}", "prometheus.label: 'a b'; allowed: "),
        ("prometheus: {window: 0s}", "prometheus.window: '0s'; allowed: a duration from 1s to 1h"),
        ("prometheus: {history: 60d}", "allowed: a duration from 0s to 31d, as 14d"),
    ],
)
def test_a_wrong_policy_says_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as error:
        parse(text)
    assert message in str(error.value)


def test_without_a_server_nothing_of_it_is_imported() -> None:
    seen = (
        "import sys, daemon.run, daemon.cli;"
        " print({'prometheus_api_client', 'requests', 'urllib3'} & set(sys.modules),"
        " [name for name in sys.modules if 'foresight' in name or 'seeding' in name])"
    )
    ran = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert ran.stdout == "set() []\n"
