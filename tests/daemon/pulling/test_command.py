"""`remora pull` as a person or a CronJob runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from daemon.cli import app
from tests.daemon.pulling.folders import CONFIG, contents, write

ALLOWED_FROM = (
    "models:/NAME@ALIAS, models:/NAME/VERSION, models:/NAME/STAGE, s3://BUCKET/FOLDER, or the"
    " absolute path of a folder"
)
BROKEN = [
    ("registry: [{from: /a}]", "registry.0.model: missing; allowed: letters, digits, '_', '-'"),
    ("registry: [{model: ../a, from: /a}]", "registry.0.model: '../a'; allowed: letters, digits"),
    ("registry: [{model: .a, from: /a}]", "registry.0.model: '.a'; allowed: letters, digits"),
    ("registry: [{model: a, from: a}]", f"registry.0.from: 'a'; allowed: {ALLOWED_FROM}"),
    ("registry: [{model: a, from: 's3://'}]", "registry.0.from: 's3://'; allowed: models:/NAME@"),
    ("registry: [{model: a, from: 'models:/a'}]", "registry.0.from: 'models:/a'; allowed: models:"),
    ("registry: [{model: a, from: /a, keep: 0}]", "registry.0.keep: 0; allowed: a whole number"),
    ("registry: [{model: a, from: /a, kep: 1}]", "registry.0.kep: unknown key; allowed: config, "),
    (
        "registry: [{model: a, from: /a, config: none}]",
        "registry.0.config: 'TMP/none'; allowed: a file that can",
    ),
    ("registry: []", "registry: []; allowed: a list of one model or more, each once"),
    (
        "registry: [{model: a, from: /a}, {model: a, from: /b}]",
        "allowed: a list of one model or more, e",
    ),
    ("models: []", "registry: missing; allowed: a list"),
]


def run(file: Path, root: Path) -> tuple[int, str]:
    words = ["pull", str(file), "--model-repository", str(root)]
    outcome = CliRunner().invoke(app, words)
    return outcome.exit_code, outcome.output


def registry(directory: Path, *models: str) -> Path:
    """A registry file for these models, each from a folder of its name that may be there or not."""
    entries = [{"model": model, "from": str(directory / "source" / model)} for model in models]
    file = directory / "registry.yaml"
    file.write_text(yaml.safe_dump({"registry": entries}))
    return file


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_a_wrong_file_names_place_value_and_what_is_allowed(
    text: str, message: str, tmp_path: Path, root: Path
) -> None:
    file = tmp_path / "registry.yaml"
    file.write_text(text)
    code, output = run(file, root)
    assert code == 2
    assert f"{file}:" in output
    assert message.replace("TMP", str(tmp_path)) in output
    assert contents(root) == {}


def test_a_file_or_a_repository_that_is_not_there_is_told(tmp_path: Path, root: Path) -> None:
    code, output = run(tmp_path / "none.yaml", root)
    assert (code, "a readable YAML file" in output) == (2, True)
    code, output = run(registry(tmp_path, "m"), tmp_path / "none")
    assert (code, "allowed: a folder that is there" in output) == (2, True)


def test_mlflow_without_an_address_is_told(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = tmp_path / "registry.yaml"
    file.write_text("registry: [{model: m, from: 'models:/m@a'}]")
    code, output = run(file, root)
    assert code == 2
    assert output.startswith("MLFLOW_TRACKING_URI: '', for models:/m@a; allowed: the http:// or")


def test_one_models_trouble_is_no_others(tmp_path: Path, root: Path) -> None:
    write(tmp_path / "source", {"a/1/model.py": "a", "c/1/model.py": "c"})
    file = registry(tmp_path, "a", "b", "c")
    code, output = run(file, root)
    assert code == 1
    assert f"b: {tmp_path}/source/b: nothing is there" in output
    assert output.endswith("1 of 3 models not brought\n")
    assert contents(root) == {"a/1/model.py": "a", "c/1/model.py": "c"}
    write(tmp_path / "source", {"b/1/model.py": "b"})
    code, output = run(file, root)
    assert code == 0
    assert output.splitlines() == [
        "a: unchanged, with version 1",
        f"b: version 1 brought, 1 B, from {tmp_path}/source/b/1",
        "c: unchanged, with version 1",
    ]


def test_a_configuration_of_ones_own_lies_beside_the_registry_file(
    tmp_path: Path, root: Path
) -> None:
    write(tmp_path, {"source/m/1/model.py": "m", "source/m/config.pbtxt": "theirs {"})
    write(tmp_path, {"own.pbtxt": CONFIG})
    file = tmp_path / "registry.yaml"
    file.write_text(f"registry: [{{model: m, from: {tmp_path}/source/m, config: own.pbtxt}}]")
    assert run(file, root)[0] == 0
    assert contents(root) == {"m/1/model.py": "m", "m/config.pbtxt": CONFIG}


def test_a_full_disk_is_told_and_leaves_nothing_half(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "source", {"m/1/model.py": "m"})

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, output = run(registry(tmp_path, "m"), root)
    assert code == 1
    assert "m: [Errno 28] No space left on device" in output
    assert contents(root) == {}


def test_the_command_line_carries_nothing_of_a_pull_until_it_pulls() -> None:
    heavy = {"mlflow", "fsspec", "s3fs", "botocore", "daemon.pulling.bringing"}
    look = f"import sys, daemon.cli, daemon.run; sys.exit(bool({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
