"""The house itself: what is shipped, what is locked, and what the repository must never say."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from pathspec import GitIgnoreSpec

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("daemon", "policies", "simulations")
LOCKS = ("requirements.txt", "requirements-dev.txt")
# The one file that lies elsewhere in a checkout: in deploy, where operators look.
BOOTSTRAPS = ("daemon/frontdoor/envoy.yaml", "daemon/gateway/gateway.yaml")

LOCK_LINE = re.compile(
    r"""
      [a-z0-9-]+==[\w.]+(\ ;\ [^/@]+)?\ \\      # a pin, perhaps with a marker
    | \ {4}--hash=sha256:[0-9a-f]{64}(\ \\)?    # a hash of one of its files
    | \ *\#[^/@]*                               # who wants it
    """,
    re.VERBOSE,
)
REGISTRY = re.compile(
    r"\b(?:pypi|pythonhosted|anaconda|docker|ghcr|quay|nvcr|gcr|ngc\.nvidia|mcr\.microsoft|npmjs)"
    r"\.(?:org|com|io)\b"
    r"|\b(?:artifactory|charts|index|mirror|nexus|proxy|registry)\.(?:[\w-]+\.)+(?:org|com|net|io)\b"
)
HOME = re.compile(r"(?<![\w.}-])/(?:home|Users|root)/\w")


def kept_files(*folders: str) -> Iterator[str]:
    """Every file that git would not ignore, whether or not this is a git checkout."""
    ignored = GitIgnoreSpec.from_lines((ROOT / ".gitignore").read_text().splitlines())
    for folder, subfolders, names in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        subfolders[:] = [
            name
            for name in subfolders
            if name != ".git" and not ignored.match_file(f"{(here / name).as_posix()}/")
        ]
        for path in (here / name for name in names):
            if ignored.match_file(path) or (ROOT / path).is_symlink():
                continue
            if not folders or path.parts[0] in folders:
                yield path.as_posix()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--quiet", "--wheel-dir", str(folder), str(ROOT)], check=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_the_three_packages_whole_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == {*kept_files(*PACKAGES), *BOOTSTRAPS}
    assert {name.split("/")[0] for name in shipped} == set(PACKAGES)


@pytest.mark.parametrize(
    "data",
    [
        "policies/presets/*.yaml",
        "policies/policy.schema.json",
        "simulations/testbed/model_template.py",
        *BOOTSTRAPS,
    ],
)
def test_the_wheel_brings_its_data(wheel: zipfile.ZipFile, data: str) -> None:
    assert any(fnmatch(name, data) for name in wheel.namelist())


def test_the_wheel_installs_one_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    told = {name.split(".dist-info/")[-1]: name for name in wheel.namelist()}
    commands = wheel.read(told["entry_points.txt"]).decode().split("\n")
    assert [line for line in commands if "=" in line] == ["remora = daemon.cli:main"]
    assert wheel.read(told["licenses/LICENSE"]) == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_holds_only_pins_and_hashes(lock: str) -> None:
    lines = (ROOT / lock).read_text().splitlines()
    assert [line for line in lines if line and not LOCK_LINE.fullmatch(line)] == []


def test_both_locks_agree() -> None:
    shipped, developed = (
        set(re.findall(r"^[a-z0-9-]+==\S+", (ROOT / lock).read_text(), re.MULTILINE))
        for lock in LOCKS
    )
    assert shipped <= developed


def test_no_file_names_a_registry_or_a_home() -> None:
    said = [
        f"{name}: {match[0]}"
        for name in kept_files()
        for pattern in (REGISTRY, HOME)
        for match in pattern.finditer((ROOT / name).read_text(errors="replace"))
    ]
    assert said == []


def test_the_image_runs_as_a_numbered_user_who_is_not_root() -> None:
    last_stage = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)[-1]
    users = re.findall(r"^USER (.+)$", last_stage, re.MULTILINE)
    assert users
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_ci_runs_make_test_and_ends_as_it_ends(tmp_path: Path) -> None:
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\n[ "$*" != test ] || exit 7\n')
    make.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run([ROOT / ".ci/run"], env={**os.environ, "PATH": path}, check=False)
    assert ended.returncode == 7
    assert (tmp_path / "calls").read_text().splitlines()[-1] == "test"


@pytest.mark.parametrize(
    ("module", "line", "kept"),
    [
        ("daemon/cli.py", "def main(): import simulations.reports", True),
        ("policies/planner.py", "from policies import ranking", True),
        ("policies/planner.py", "from daemon import loop", False),
        ("policies/planner.py", "def plan(): from time import monotonic", False),
        ("policies/planner.py", "import urllib.request", False),
        ("policies/planner.py", "import tritonclient.grpc.aio", False),
        ("simulations/reports.py", "from daemon import loop", False),
        ("daemon/loop.py", "from simulations import reports", False),
    ],
)
def test_the_import_contracts_bite(tmp_path: Path, module: str, line: str, kept: bool) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for name in ("daemon/loop.py", "policies/ranking.py", "simulations/reports.py"):
        (tmp_path / name).touch()
    (tmp_path / module).write_text(line)
    lint = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    ended = subprocess.run(lint, cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == (0 if kept else 1), ended.stdout.decode()


def test_the_command_line_imports_simulations_only_when_it_needs_them() -> None:
    look = "import sys, daemon.cli; sys.exit('simulations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], cwd=ROOT, check=False).returncode == 0
