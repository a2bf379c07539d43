"""Settings: every one is told of in the table, and a wrong one is told exactly."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from daemon.settings import Settings, SettingsError, flag, table, variable

MIB = 2**20


def with_setting(name: str, value: Any) -> Settings:
    return Settings(**{name: value})


def test_the_defaults_are_good() -> None:
    settings = Settings()
    assert settings.triton_timeout_s == 2.0
    assert settings.metrics_interval_s == 2.0
    assert settings.host_memory_bytes is None
    assert settings.journal_keep_bytes == 1024 * MIB
    assert 0 < settings.journal_rotate_bytes < settings.journal_keep_bytes


@pytest.mark.parametrize("name", ["triton_timeout", "metrics_interval"])
@pytest.mark.parametrize(
    ("written", "seconds"), [("500ms", 0.5), ("2s", 2.0), ("3", 3.0), ("0.25", 0.25), ("1m", 60.0)]
)
def test_durations_are_read_with_their_unit_or_in_seconds(
    name: str, written: str, seconds: float
) -> None:
    assert getattr(with_setting(name, written), f"{name}_s") == seconds


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("4GiB", 4096 * MIB),
        ("4Gi", 4096 * MIB),
        ("4GB", 4 * 10**9),
        ("4294967296", 4096 * MIB),
        ("34359738368", 32768 * MIB),
    ],
)
def test_sizes_are_read_with_their_unit_or_in_bytes_as_the_downward_api_gives_them(
    written: str, amount: int
) -> None:
    settings = Settings(host_memory=written, journal_keep=written)
    assert settings.host_memory_bytes == amount
    assert settings.journal_keep_bytes == amount


WRONG = (
    *(
        (name, value, "a duration above 0s, as 2s or 500ms")
        for name in ("triton_timeout", "metrics_interval", "leave_deadline", "leave_notice")
        for value in ("0", "0s", "-1s", "soon", "", "2GiB", "nan", "inf", "²", "1e999", "2 s x")
    ),
    *(
        (name, value, "an amount of memory above 0, as 32MiB or 1GiB")
        for name in ("host_memory", "journal_rotate", "journal_keep")
        for value in ("0", "-1", "much", "4s", "nan", "²", "0.2", "1.2.3")
    ),
    *(("http_port", value, "a port from 1 to 65535") for value in (0, -1, 65536)),
    ("journal_keep", "63MiB", "at least four times --journal-rotate, 16MiB"),
    ("leave_notice", "2.9s", "3s or more"),
    ("leave_deadline", "5s", "above --leave-notice, 5s"),
    *(
        ("envoy_admin", value, "HOST:PORT, as 127.0.0.1:9490")
        for value in ("9490", ":9490", "127.0.0.1", "127.0.0.1:0", "http://a:1/x", "a:65536", "a:b")
    ),
)


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_wrong_setting_names_flag_variable_value_and_what_is_allowed(
    name: str, value: Any, allowed: str
) -> None:
    with pytest.raises(SettingsError) as error:
        with_setting(name, value)
    dashes = name.replace("_", "-")
    told = f"--{dashes} (REMORA_{name.upper()}): {str(value)!r}; allowed: {allowed}"
    assert str(error.value) == told


@pytest.mark.parametrize("name", ["journal_rotate", "journal_keep"])
def test_an_empty_size_is_wrong_where_there_must_be_one(name: str) -> None:
    with pytest.raises(SettingsError, match="''"):
        with_setting(name, "")


def test_the_table_has_every_setting_once_with_its_meaning() -> None:
    rows = table(Settings)
    assert [(row[0], row[1]) for row in rows] == [
        (flag(each.name), variable(each.name)) for each in fields(Settings)
    ]
    assert len(set(rows)) == len(rows)
    assert all(meaning.endswith(".") for *_, meaning in rows)


def test_the_table_shows_defaults_as_they_would_be_written() -> None:
    defaults = {row[0]: row[2] for row in table(Settings)}
    assert defaults["--triton-grpc"] == "127.0.0.1:8001"
    assert defaults["--http-port"] == "9400"
    assert defaults["--log-format"] == "text"
    assert defaults["--state-directory"] == str(Path("/var/lib/remora"))
    assert defaults["--policy"] == defaults["--token"] == defaults["--host-memory"] == ""


def test_the_token_has_no_place_in_an_error() -> None:
    with pytest.raises(SettingsError) as error:
        Settings(token="s3cret", http_port=0)
    assert "s3cret" not in str(error.value)
