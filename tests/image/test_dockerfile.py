"""What the image's build is given, as far as it shows without a build: `make image` makes one."""

from __future__ import annotations

import subprocess
import tomllib

from tests.image.__main__ import extras, subcommands
from tests.image.build import ROOT
from tests.image.dockerfile import context, instructions, stages


def test_all_of_the_wheel_and_nothing_else_enters_the_build() -> None:
    given = {str(path) for path in context(ROOT)}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wanted = wheel["targets"]["wheel"]
    packages = tuple(f"{name}/" for name in wanted["packages"])
    assert given == {
        *(name for name in tracked if name.startswith(packages)),
        *wanted["force-include"],
        *("LICENSE", "README.md", "pyproject.toml", "requirements.txt", "requirements-dev.txt"),
    }


def test_both_stages_stand_on_one_base() -> None:
    assert {each.base for each in stages((ROOT / "Dockerfile").read_text())} == {"python:3.11-slim"}


def test_a_comment_within_an_instruction_is_none_of_it() -> None:
    (one,) = instructions("ENV A=1 \\\n    # why\n    B=2\n")
    assert (one.name, one.words()) == ("ENV", ["A=1", "B=2"])


def test_what_deploy_runs_has_its_libraries_locked() -> None:
    """`remora fleet`, `remora pull`, gossip and questions to Prometheus, by their extras."""
    assert {"fleet", "pull", "run", "leave"} == {name for (name,) in subcommands()}
    assert set(extras()) == {"fleet", "gossip", "prometheus", "registry"}
