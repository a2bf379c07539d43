"""What is known of the files that models were loaded from."""

from pathlib import Path

import pytest

from daemon.learned import LearnedStore
from daemon.repository import OnDisk
from daemon.triton import restricted
from daemon.versions import Versions
from policies.snapshot import ErrorClass, LoadFailure

CONFIG = '{"name": "a", "backend": "python", "version_policy": {"latest": {"num_versions": 1}}}'
BROKE = LoadFailure(50.0, ErrorClass.INITIALISATION, "it broke")


def on_disk(*served: str, kept: tuple[str, ...] = (), **digests: str) -> dict[str, OnDisk]:
    """Model ``a`` with these versions; digests by v1, v2 and rest where they are no plain ones."""
    rest = digests.get("rest", "config")
    versions = {v: digests.get(f"v{v}", f"files of {v}") for v in (*served, *kept)}
    parts = " ".join((rest, *(versions[v] for v in served)))
    return {"a": OnDisk("a", versions=versions, rest=rest, served=served, revision=parts)}


@pytest.fixture
def store(tmp_path: Path) -> LearnedStore:
    return LearnedStore(tmp_path / "learned.json")


@pytest.fixture
def versions(store: LearnedStore) -> Versions:
    """Version 1 of ``a`` has been loaded."""
    known = Versions(store)
    known.looked(on_disk("1"), 0.0)
    known.began("a", ["a"])
    known.loaded("a")
    return known


def again(store: LearnedStore, tmp_path: Path) -> Versions:
    """After a restart of the sidecar."""
    store.save()
    return Versions(LearnedStore(tmp_path / "learned.json"))


def test_changed_files_are_outdated_since_they_last_changed(versions: Versions) -> None:
    assert versions.outdated_since_s("a") is None
    versions.looked(on_disk("2", kept=("1",)), 10.0)
    versions.looked(on_disk("2", kept=("1",), v2="more of 2"), 15.0)
    versions.looked(on_disk("2", kept=("1",), v2="more of 2"), 20.0)
    assert versions.outdated_since_s("a") == 15.0
    assert versions.is_unsettled(70.0)
    assert not versions.is_unsettled(80.0)


def test_removed_version_is_no_change(store: LearnedStore) -> None:
    versions = Versions(store)
    versions.looked(on_disk("1", "2"), 0.0)
    versions.began("a", ["a"])
    versions.loaded("a")
    versions.looked(on_disk("2"), 10.0)
    assert versions.outdated_since_s("a") is None


def test_what_nobody_saw_being_loaded_is_taken_for_what_lies_there(store: LearnedStore) -> None:
    versions = Versions(store)
    versions.looked(on_disk("1"), 0.0)
    assert versions.outdated_since_s("a") is None
    versions.saw(["a"], [])
    versions.looked(on_disk("1", rest="other"), 10.0)
    versions.saw(["a"], [])
    assert versions.outdated_since_s("a") == 10.0
    versions.saw([], ["a"])
    assert versions.outdated_since_s("a") is None


def test_files_that_change_during_a_load_are_outdated_after_it(versions: Versions) -> None:
    versions.began("a", ["a"])
    versions.looked(on_disk("1", v1="newer"), 10.0)
    versions.loaded("a")
    assert versions.outdated_since_s("a") == 10.0


def test_what_was_loaded_is_known_after_a_restart(
    versions: Versions, store: LearnedStore, tmp_path: Path
) -> None:
    later = again(store, tmp_path)
    later.looked(on_disk("2", kept=("1",)), 100.0)
    later.saw(["a"], [])
    assert later.outdated_since_s("a") == 100.0
    assert versions.outdated_since_s("a") is None


def test_refused_files_leave_what_is_known_of_the_copy_that_serves(
    versions: Versions, store: LearnedStore, tmp_path: Path
) -> None:
    versions.looked(on_disk("2"), 10.0)
    versions.began("a", ["a"])
    versions.failed("a", BROKE, beside=True, went_back=False)
    assert versions.outdated_since_s("a") == 10.0
    later = again(store, tmp_path)
    later.looked(on_disk("2"), 100.0)
    assert later.failure("a") == BROKE
    later.looked(on_disk("2", v2="mended"), 110.0)
    assert later.failure("a") is None


def test_swap_can_go_back_to_versions_that_are_as_they_were(
    versions: Versions, store: LearnedStore, tmp_path: Path
) -> None:
    versions.looked(on_disk("2", kept=("1",)), 10.0)
    versions.swaps("a", ("1",), CONFIG)
    versions.saw([], ["a"])
    later = Versions(LearnedStore(tmp_path / "learned.json"))
    later.looked(on_disk("2", kept=("1",)), 20.0)
    assert later.fallback("a") == (1,)
    later.looked(on_disk("2", kept=("1",), v1="written over"), 30.0)
    assert later.fallback("a") == ()
    later.looked(on_disk("2"), 40.0)
    assert later.fallback("a") == ()


def test_what_went_back_is_still_outdated_and_forgets_that_when_new_files_come_in(
    versions: Versions,
) -> None:
    disk = on_disk("2", kept=("1",))
    versions.looked(disk, 10.0)
    versions.swaps("a", ("1",), CONFIG)
    versions.saw([], ["a"])
    versions.began("a", ["a"])
    versions.failed("a", BROKE, beside=False, went_back=False)
    versions.began("a", ["a"])
    versions.loaded("a", (1,))
    assert versions.outdated_since_s("a") == 10.0
    assert versions.is_swapped("a")
    versions.looked(on_disk("3", kept=("1", "2")), 90.0)
    versions.began("a", ["a"])
    versions.loaded("a")
    assert versions.outdated_since_s("a") is None
    assert not versions.is_swapped("a")


def test_what_cannot_go_back_does_not_try_it_again(versions: Versions) -> None:
    versions.looked(on_disk("2", kept=("1",)), 10.0)
    versions.swaps("a", ("1",), CONFIG)
    versions.began("a", ["a"])
    versions.failed("a", BROKE, beside=False, went_back=True)
    assert versions.fallback("a") == ()


def test_roll_back_keeps_the_whole_configuration_but_for_its_versions(versions: Versions) -> None:
    versions.swaps("a", ("1",), CONFIG)
    found = versions.restricted("a", (1,))
    assert found == restricted(CONFIG, (1,))
    assert found is not None
    assert '"backend": "python"' in found
    assert '"specific": {"versions": ["1"]}' in found
    assert "latest" not in found
