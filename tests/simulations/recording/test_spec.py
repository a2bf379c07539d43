"""What the arguments mean, and what is said of those that mean nothing."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from simulations.recording.command import command
from simulations.recording.errors import BadSpec, NotInstalled
from simulations.recording.spec import RecordSpec, Span, duration_s

NOW_S = 1_760_000_000.0


def span(since: str, until: str = "now", step_s: float = 60.0) -> Span:
    return RecordSpec("http://host", since=since, until=until, step_s=step_s).span(NOW_S)


def test_times_are_iso_or_epoch_seconds_or_before_now() -> None:
    assert span("-7d") == Span(1_759_395_200_000, 60_000, 10_080)
    assert span("1759999000").from_ms == 1_759_999_000_000
    assert span("2025-10-09T08:00:00Z").from_ms == span("2025-10-09 08:00").from_ms
    assert span("2025-10-09T10:00:00+02:00").from_ms == span("2025-10-09T08:00").from_ms
    assert span("-1h", "-30m").to_ms == 1_759_998_200_000


def test_the_range_holds_whole_steps_only() -> None:
    assert span("-150s").steps == 2
    assert span("-150s").to_ms == 1_759_999_970_000


def test_durations_are_said_as_in_prometheus() -> None:
    assert duration_s("step", "1h30m") == 5400
    assert duration_s("step", "250ms") == 0.25
    assert duration_s("step", "15") == 15


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"url": "host:9090"}, "must be http"),
        ({"step_s": 0.0}, "at least 1 ms"),
        ({"step_s": float("nan")}, "at least 1 ms"),
        ({"step_s": 0.0015}, "whole milliseconds"),
        ({"query": " "}, "query is empty"),
        ({"labels": ("model", "")}, "labels are empty"),
        ({"kind": "gauge"}, "counter or rate"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(
    arguments: dict[str, object], problem: str
) -> None:
    with pytest.raises(BadSpec, match=problem):
        RecordSpec(**{"url": "http://host", **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["yesterday", "-3 days", "-", "inf", "nan"])
def test_a_time_that_is_none_is_named(text: str) -> None:
    with pytest.raises(BadSpec, match=r"from is .*(ISO 8601|such as 30s)"):
        span(text)


def test_a_range_without_a_step_is_refused() -> None:
    with pytest.raises(BadSpec, match="not one step of 60 s"):
        span("-30s")
    with pytest.raises(BadSpec, match="not one step"):
        span("now", "-1h")


def test_credentials_are_no_part_of_the_source() -> None:
    spec = RecordSpec("https://me:secret@host:9090/prefix/?token=x", token="y")
    assert spec.source == "https://host:9090/prefix"
    assert not {"secret", "x", "y"} & {str(each) for each in spec.identity().values()}


def test_the_target_must_be_called_parquet(tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match=r"must end in \.parquet"):
        command("http://host", tmp_path / "recording.csv")


def test_without_the_extra_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("simulations.recording.")]:
        if name.rpartition(".")[2] in ("record", "fetching", "server"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("simulations.recording.record", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_api_client", None)
    out = Console(file=io.StringIO())
    with pytest.raises(NotInstalled, match=r"needs prometheus_api_client.*remora\[record\]"):
        command("http://host", tmp_path / "recording.parquet", console=out)
