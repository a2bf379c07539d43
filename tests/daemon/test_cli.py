"""The commands, as a person runs them."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from daemon.cli import app
from daemon.journal import JournalWriter
from policies.source import effective, parse
from tests.policies.test_replay import POLICY, recorded

BROKEN = [
    ("budget: 120%", "budget: '120%'; allowed: a percentage above 0% up to 100%, or an amount"),
    ("budgt: 1GiB", "budgt: unknown key; allowed: budget, churn"),
    ("horizon: 5 parsecs", "horizon: '5 parsecs'; allowed: a duration above 0s up to 366d"),
    ("residency: {hysteresis: -1}", "residency.hysteresis: -1; allowed: a number from 0 up to 100"),
    ("loads: {concurrent: 0}", "loads.concurrent: 0; allowed: a whole number from 1 up to 64"),
    ("models: {a: {weight: 0}}", "models.a.weight: 0; allowed: a number above 0"),
    ("models: {a: {pin: [{days: [today]}]}}", "models.a.pin.0.days.0: 'today'; allowed: mon, tue"),
    ("models: {a: {pin: [{timezone: X/Y}]}}", "pin.0.timezone: 'X/Y'; allowed: a name of the IANA"),
    ("models: {a: {footprint: big}}", "models.a.footprint: 'big'; allowed: an amount of memory"),
    ("preset: fast", "preset: 'fast'; allowed: balanced, latency-first, frugal"),
    ("tick: 0s", "tick: '0s'; allowed: a duration from 50ms to 1h"),
    ("budget: 1GiB\nbudget: 2GiB", "policy.yaml:2: budget: written twice; allowed: each key once"),
    ("- a", "(file): list ['a']; allowed: a mapping of keys to values"),
    ("a: [", "allowed: well-formed YAML"),
    ("models: {a: {calls: [b]}, b: {calls: [a]}}", "models.a.calls: a -> b -> a; allowed: calls"),
]


def run(*words: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(app, list(words))
    return outcome.exit_code, outcome.output


def test_it_says_which_version_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "remora-1.2.3.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.4\nName: remora\nVersion: 1.2.3\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert run("--version") == (0, "1.2.3\n")


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_check_names_file_key_value_and_what_is_allowed(
    text: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    code, output = run("check", str(file))
    assert code == 1
    assert f"{file}:" in output
    assert message in output


def test_check_prints_a_policy_that_means_the_same(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("preset: frugal\nmodels: {'b*': {weight: 2}, bert: {pin: true}}\n")
    code, output = run("check", str(file))
    assert code == 0
    assert effective(parse(output)) == effective(parse(file.read_text()))
    assert yaml.safe_load(output)["residency"]["idle_unload"] == 900


def test_check_of_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    code, output = run("check", str(tmp_path / "none.yaml"))
    assert code == 1
    assert "none.yaml: (file): No such file or directory; allowed: a readable YAML file" in output


def journal(folder: Path) -> Path:
    writer = JournalWriter(folder, rotate_bytes=10_000, keep_bytes=1_000_000, keyframe_every=4)
    for tick in recorded(POLICY):
        writer.write(tick)
    writer.close()
    return folder


def test_replay_of_an_unchanged_journal_finds_nothing(tmp_path: Path) -> None:
    code, output = run("replay", str(journal(tmp_path / "journal")))
    assert (code, output) == (0, "10 ticks decided again, no divergence\n")


def test_replay_by_another_policy_shows_the_first_difference(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("loads: {concurrent: 3}")
    code, output = run("replay", str(journal(tmp_path / "journal")), "--policy", str(other))
    assert code == 1
    assert output.startswith("tick 2 at 1970-01-01T00:16:41.000+00:00: actions differ\n")
    assert "  now: load a (demanded)" in output


@pytest.mark.parametrize("content", ["", "nonsense\n", '{"v": 99}\n'])
def test_replay_of_what_is_no_journal_says_so(content: str, tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    file.write_text(content)
    code, output = run("replay", str(file))
    assert code == 1
    assert str(file) in output


def test_leave_without_a_sidecar_says_so() -> None:
    code, output = run("leave", "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "http://127.0.0.1:9: no sidecar answers there" in output


def test_explain_without_a_sidecar_says_so() -> None:
    code, output = run("explain", "a", "--url", "http://127.0.0.1:9")
    assert code == 1
    assert output.startswith("http://127.0.0.1:9: no sidecar answers there")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--http-port", "0"), "--http-port (REMORA_HTTP_PORT): '0'; allowed: a port from 1"),
        (("--triton-timeout", "soon"), "--triton-timeout (REMORA_TRITON_TIMEOUT): 'soon'"),
        (("--policy", "none.yaml"), "none.yaml: (file): No such file or directory"),
    ],
)
def test_run_with_wrong_settings_says_which(words: tuple[str, ...], message: str) -> None:
    code, output = run("run", *words)
    assert code == 1
    assert message in output
