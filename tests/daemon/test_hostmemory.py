"""Control groups as they lie in /proc and /sys, on a made-up root."""

import os
from pathlib import Path

import pytest

from daemon.hostmemory import limit_bytes

GIB = 2**30
UNLIMITED_V1 = 9223372036854771712


class Machine:
    """A root folder with processes and limits."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def process(self, pid: int | str, name: bytes, *groups: str) -> None:
        folder = self.root / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "comm").write_bytes(name + b"\n")
        (folder / "cgroup").write_text("".join(f"{line}\n" for line in groups))

    def ours_and_tritons(self, *groups: str) -> None:
        self.process("self", b"remora", *groups)
        self.process(7, b"tritonserver", *groups)

    def v2(self, group: str, text: object) -> None:
        self._write(self.root / "sys/fs/cgroup", group, "memory.max", text)

    def v1(self, group: str, text: object) -> None:
        self._write(self.root / "sys/fs/cgroup/memory", group, "memory.limit_in_bytes", text)

    def _write(self, mount: Path, group: str, file: str, text: object) -> None:
        folder = mount / group.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(f"{text}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_limit_of_version_two_is_read(machine: Machine) -> None:
    machine.ours_and_tritons("0::/pod/app")
    machine.v2("/pod/app", 4 * GIB)
    assert limit_bytes(machine.root) == 4 * GIB


def test_the_limit_of_version_one_is_read(machine: Machine) -> None:
    machine.ours_and_tritons("5:cpu,cpuacct:/x", "4:memory:/pod/app", "1:name=systemd:/y")
    machine.v1("/pod/app", 4 * GIB)
    assert limit_bytes(machine.root) == 4 * GIB


def test_where_both_versions_are_mounted_memory_is_with_version_one(machine: Machine) -> None:
    machine.ours_and_tritons("4:hugetlb,memory:/pod/app", "0::/elsewhere")
    machine.v1("/pod/app", 4 * GIB)
    machine.v2("/elsewhere", 1 * GIB)
    assert limit_bytes(machine.root) == 4 * GIB


def test_a_container_that_sees_only_its_own_group_reads_the_mount_itself(machine: Machine) -> None:
    """Version 1 tells the path on the host, which inside the container is not there."""
    machine.ours_and_tritons("4:memory:/kubepods/pod1/abc")
    machine.v1("/", 4 * GIB)
    assert limit_bytes(machine.root) == 4 * GIB


def test_the_root_group_of_a_namespace_has_a_limit_too(machine: Machine) -> None:
    machine.ours_and_tritons("0::/")
    machine.v2("/", 4 * GIB)
    assert limit_bytes(machine.root) == 4 * GIB


@pytest.mark.parametrize(
    ("outer", "middle", "inner", "found"),
    [
        (8 * GIB, 2 * GIB, 4 * GIB, 2 * GIB),
        (1 * GIB, 2 * GIB, "max", 1 * GIB),
        ("max", "max", 3 * GIB, 3 * GIB),
    ],
)
def test_the_tightest_of_nested_limits_binds(
    machine: Machine, outer: object, middle: object, inner: object, found: int
) -> None:
    machine.ours_and_tritons("0::/a/b/c")
    machine.v2("/a", outer)
    machine.v2("/a/b", middle)
    machine.v2("/a/b/c", inner)
    assert limit_bytes(machine.root) == found


def test_a_limit_of_somebody_else_does_not_bind(machine: Machine) -> None:
    machine.ours_and_tritons("0::/a/b")
    machine.v2("/a/b", 4 * GIB)
    machine.v2("/a/other", 1 * GIB)
    machine.v2("/a/b/below", 1 * GIB)
    assert limit_bytes(machine.root) == 4 * GIB


def test_no_limit_is_none(machine: Machine) -> None:
    machine.ours_and_tritons("4:memory:/a", "0::/a")
    machine.v2("/a", "max")
    machine.v1("/a", UNLIMITED_V1)
    assert limit_bytes(machine.root) is None


def test_a_triton_in_another_group_has_a_limit_we_do_not_see(machine: Machine) -> None:
    machine.process("self", b"remora", "0::/pod/sidecar")
    machine.process(7, b"tritonserver", "0::/pod/triton")
    machine.v2("/pod/sidecar", 1 * GIB)
    assert limit_bytes(machine.root) is None


def test_without_a_triton_in_sight_our_own_limit_says_nothing(machine: Machine) -> None:
    machine.process("self", b"remora", "0::/pod/sidecar")
    machine.process(7, b"tritonserver_exporter", "0::/pod/sidecar")
    machine.v2("/pod/sidecar", 1 * GIB)
    assert limit_bytes(machine.root) is None


@pytest.mark.parametrize("ours_last", [True, False])
def test_one_of_several_tritons_in_our_group_is_enough(machine: Machine, ours_last: bool) -> None:
    machine.process("self", b"remora", "0::/a")
    machine.process(7, b"tritonserver", "0::/b" if ours_last else "0::/a")
    machine.process(8, b"tritonserver", "0::/a" if ours_last else "0::/b")
    machine.v2("/a", 4 * GIB)
    assert limit_bytes(machine.root) == 4 * GIB


def test_processes_of_odd_names_and_those_that_end_are_passed_over(machine: Machine) -> None:
    machine.process("self", b"remora", "0::/a")
    machine.process(5, b"\xff\xfe", "0::/a")
    (machine.root / "proc" / "6").mkdir()
    (machine.root / "proc" / "6" / "comm").symlink_to("gone")
    machine.process(7, b"tritonserver", "0::/a")
    machine.v2("/a", 4 * GIB)
    assert limit_bytes(machine.root) == 4 * GIB


def test_a_system_without_control_groups_has_no_limit(machine: Machine) -> None:
    assert limit_bytes(machine.root) is None
    machine.ours_and_tritons("0::/a")
    assert limit_bytes(machine.root) is None


def test_this_system_can_be_asked() -> None:
    found = limit_bytes()
    assert found is None or 0 < found <= os.sysconf("SC_PAGE_SIZE") * 2**40
