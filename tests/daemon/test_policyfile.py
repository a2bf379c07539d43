"""The last good policy stays in force, whatever happens to its file."""

import logging
import os
from pathlib import Path

import pytest

from daemon.policyfile import PolicyFile
from policies.source import PolicyError, parse

GOOD, BETTER, BROKEN = "tick: 2s\n", "tick: 3s\n", "tick: soon\n"


def write(path: Path, text: str) -> None:
    """Writes as an editor does: a new file in the place of the old one."""
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)
    return path


def test_without_a_file_the_balanced_preset_holds_for_good() -> None:
    file = PolicyFile(None)
    assert file.policy == parse("preset: balanced")
    assert file.reload() is None
    assert file.reload(always=True) is None


def test_an_unchanged_file_is_not_read_again(path: Path) -> None:
    file = PolicyFile(path)
    before = file.policy
    assert file.reload() is None
    assert file.policy is before


def test_a_changed_file_is_taken(path: Path) -> None:
    file = PolicyFile(path)
    write(path, BETTER)
    assert file.reload() is True
    assert file.policy.tick_s == 3.0
    assert file.problem is None
    assert file.reload() is None


def test_a_file_changed_in_place_is_taken(path: Path) -> None:
    file = PolicyFile(path)
    path.write_text(BETTER + "# longer\n")
    assert file.reload() is True
    assert file.policy.tick_s == 3.0


def test_a_broken_file_is_refused_once_and_loudly(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = PolicyFile(path)
    write(path, BROKEN)
    assert file.reload() is False
    assert file.policy.tick_s == 2.0
    assert file.problem is not None
    assert f"{path}:1: tick: 'soon'; allowed:" in file.problem
    [said] = caplog.records
    assert said.levelno == logging.ERROR
    assert file.problem in said.getMessage()

    assert file.reload() is None
    assert len(caplog.records) == 1
    assert file.problem


def test_a_repaired_file_is_taken_and_the_problem_is_over(path: Path) -> None:
    file = PolicyFile(path)
    write(path, BROKEN)
    file.reload()
    write(path, BETTER)
    assert file.reload() is True
    assert file.policy.tick_s == 3.0
    assert file.problem is None


def test_a_deleted_file_leaves_its_policy_in_force(path: Path) -> None:
    file = PolicyFile(path)
    path.unlink()
    assert file.reload() is False
    assert file.policy.tick_s == 2.0
    assert (
        file.problem == f"{path}: (file): No such file or directory; allowed: a readable YAML file"
    )
    assert file.reload() is None
    write(path, BETTER)
    assert file.reload() is True
    assert file.policy.tick_s == 3.0
    assert file.problem is None


def test_a_path_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="allowed: a readable YAML file"):
        PolicyFile(tmp_path / "a\0b")


def test_a_file_that_is_not_text_is_refused(path: Path) -> None:
    file = PolicyFile(path)
    path.write_bytes(b"\xff\xfe\x00")
    assert file.reload() is False
    assert "not UTF-8 text" in str(file.problem)


def test_the_link_swap_of_a_config_map_is_noticed(tmp_path: Path) -> None:
    """The kubelet's way: policy.yaml -> ..data/policy.yaml, ..data -> ..2026_01, swapped whole."""
    for version, text in (("..2026_01", GOOD), ("..2026_02", BETTER)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "policy.yaml").write_text(text)
        os.utime(tmp_path / version / "policy.yaml", (1000, 1000))
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
    file = PolicyFile(tmp_path / "policy.yaml")
    assert file.reload() is None

    (tmp_path / "..data_tmp").symlink_to("..2026_02")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    assert file.reload() is True
    assert file.policy.tick_s == 3.0
    assert file.reload() is None


def test_a_signal_reads_even_what_looks_unchanged(path: Path) -> None:
    file = PolicyFile(path)
    stat = path.stat()
    path.write_text(BETTER)  # the same length, and its time is put back
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.reload() is None
    assert file.reload(always=True) is True
    assert file.policy.tick_s == 3.0


def test_a_signal_says_again_what_is_wrong(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = PolicyFile(path)
    write(path, BROKEN)
    file.reload()
    assert file.reload(always=True) is False
    assert len(caplog.records) == 2
    assert file.policy.tick_s == 2.0


@pytest.mark.parametrize("text", [BROKEN, "no_such_key: 1\n", "- a list\n", "{"])
def test_a_first_policy_that_is_wrong_is_an_error(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(PolicyError, match=str(path)):
        PolicyFile(path)


def test_a_first_policy_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"absent: \(file\): No such file"):
        PolicyFile(tmp_path / "absent")
    with pytest.raises(PolicyError, match="Is a directory"):
        PolicyFile(tmp_path)
