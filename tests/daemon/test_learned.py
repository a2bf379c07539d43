"""What was learned survives restarts, crashes, damage and a disk that refuses."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.learned import Learned, LearnedStore
from policies.snapshot import HOST

GPU = "gpu-0"
OTHER = "gpu-1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "learned.json"


def a_store(path: Path | None = None, *sizes: int) -> LearnedStore:
    store = LearnedStore(path)
    for at_s, size in enumerate(sizes, start=100):
        store.learn_footprint("bert", {GPU: size}, at_s, "r1")
    return store


def learned(store: LearnedStore, model: str = "bert") -> Learned:
    value = store.get(model)
    assert value is not None
    return value


def a_file(path: Path, **entry: Any) -> None:
    entries = {"bert": {"learned_at_s": 1.0} | entry, "t5": {"learned_at_s": 2.0, "load_s": 4.0}}
    path.write_text(json.dumps({"version": 1, "models": entries}))


# --- learning ------------------------------------------------------------------------------


def test_nothing_is_known_of_a_model_never_loaded() -> None:
    assert LearnedStore(None).get("bert") is None


def test_the_footprint_is_the_most_of_the_latest_five() -> None:
    assert learned(a_store(None, 30, 50, 10)).footprint_bytes == {GPU: 50}
    value = learned(a_store(None, 99, 30, 50, 10, 20, 40))
    assert value.footprint_bytes == {GPU: 50}
    assert value.samples == 6
    assert value.learned_at_s == 105


def test_of_the_host_which_others_use_too_the_median_counts() -> None:
    store = LearnedStore(None)
    for grown in (50, 900, 52, 48):
        store.learn_footprint("bert", {HOST: grown}, 1.0, None)
    assert learned(store).footprint_bytes == {HOST: 50}


def test_the_most_is_taken_device_by_device() -> None:
    store = LearnedStore(None)
    store.learn_footprint("bert", {GPU: 5, OTHER: 1}, 1.0, None)
    store.learn_footprint("bert", {GPU: 2, OTHER: 3}, 2.0, None)
    assert learned(store).footprint_bytes == {GPU: 5, OTHER: 3}


def test_a_model_that_moved_needs_only_the_device_it_moved_to() -> None:
    store = a_store(None, 70)
    store.learn_footprint("bert", {OTHER: 60}, 200.0, "r1")
    assert learned(store).footprint_bytes == {OTHER: 60}


def test_other_files_make_the_footprints_of_the_old_ones_void() -> None:
    store = a_store(None, 70, 70)
    store.learn_load_time("bert", 8.0, 110.0)
    store.learn_footprint("bert", {GPU: 20}, 200.0, "r2")
    value = learned(store)
    assert (value.footprint_bytes, value.samples, value.revision) == ({GPU: 20}, 1, "r2")
    assert value.load_s == 8.0, "the best guess there is"


def test_a_revision_that_cannot_be_seen_voids_nothing() -> None:
    store = a_store(None, 70)
    store.learn_footprint("bert", {GPU: 20}, 200.0, None)
    value = learned(store)
    assert (value.footprint_bytes, value.revision) == ({GPU: 70}, "r1")


def test_a_load_time_alone_gives_no_footprint() -> None:
    store = LearnedStore(None)
    store.learn_load_time("bert", 8.0, 10.0)
    assert learned(store).footprint_bytes is None
    assert learned(store).load_s == 8.0


def test_load_times_are_averaged_with_three_tenths_for_the_latest() -> None:
    store = LearnedStore(None)
    store.learn_load_time("bert", 10.0, 1.0)
    store.learn_load_time("bert", 20.0, 2.0)
    assert learned(store).load_s == pytest.approx(13.0)
    assert learned(store).learned_at_s == 2.0


@pytest.mark.parametrize("load_s", [-1.0, float("nan"), float("inf")])
def test_a_load_time_that_is_none_is_refused(load_s: float) -> None:
    store = LearnedStore(None)
    with pytest.raises(ValueError, match="Input should be"):
        store.learn_load_time("bert", load_s, 1.0)
    assert store.get("bert") is None


def test_a_negative_footprint_is_refused() -> None:
    store = a_store(None, 70)
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        store.learn_footprint("bert", {GPU: -1}, 1.0, "r1")
    assert learned(store).footprint_bytes == {GPU: 70}


# --- the file ------------------------------------------------------------------------------


def test_a_restart_finds_what_was_saved(path: Path) -> None:
    store = a_store(path, 30, 50)
    store.learn_load_time("bert", 8.0, 110.0)
    store.learn_load_time("t5", 2.5, 111.0)
    store.save()
    again = LearnedStore(path)
    assert (again.get("bert"), again.get("t5")) == (store.get("bert"), store.get("t5"))
    assert again.problem is None
    assert json.loads(path.read_text())["version"] == 1


sizes = st.dictionaries(st.text(max_size=4), st.integers(0, 1 << 50), max_size=3)
times = st.floats(0, 1e12)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.text(max_size=3), sizes, times, st.none() | st.text(max_size=3))))
def test_whatever_was_learned_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, lessons: list[tuple[str, Any, float, str | None]]
) -> None:
    path = tmp_path_factory.mktemp("learned") / "learned.json"
    store = LearnedStore(path)
    for model, by_device, at_s, revision in lessons:
        store.learn_footprint(model, by_device, at_s, revision)
        store.learn_load_time(model, at_s / 3, at_s)
    store.save()
    again = LearnedStore(path)
    assert again.problem is None
    for model, *_ in lessons:
        assert again.get(model) == store.get(model)


def test_a_forgotten_model_stays_forgotten(path: Path) -> None:
    a_store(path, 30).save()
    store = LearnedStore(path)
    store.forget("bert")
    store.forget("never heard of")
    store.save()
    assert LearnedStore(path).get("bert") is None


def test_nothing_new_is_not_written(path: Path) -> None:
    store = a_store(path, 30)
    store.save()
    path.unlink()
    store.save()
    LearnedStore(path).save()
    assert not path.exists()


def test_saving_leaves_nothing_but_the_file(path: Path) -> None:
    a_store(path, 30).save()
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "state" / "learned.json"
    a_store(path, 30).save()
    assert learned(LearnedStore(path)).footprint_bytes == {GPU: 30}


def test_without_a_path_everything_stays_in_memory() -> None:
    store = a_store(None, 30)
    store.save()
    assert store.problem is None
    assert learned(store).footprint_bytes == {GPU: 30}


# --- trouble -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b'{"version":1,"models":{"bert"', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a file of learned values"),
        (b'{"version":1}', "not a file of learned values"),
        (b'{"version":2,"models":{}}', "its version is 2, and this Remora knows 1"),
        (b'{"models":{}}', "its version is None"),
    ],
)
def test_a_file_that_makes_no_sense_is_set_aside(path: Path, content: bytes, why: str) -> None:
    path.write_bytes(content)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    store = LearnedStore(path)
    assert why in (store.problem or "")
    assert "set aside as learned.json.corrupt-20231114T221320Z" in (store.problem or "")
    store.learn_load_time("bert", 1.0, 1.0)
    store.save()
    assert store.problem is None
    aside = path.with_name("learned.json.corrupt-20231114T221320Z")
    assert sorted(path.parent.iterdir()) == [path, aside]
    assert aside.read_bytes() == content


def test_a_file_cut_anywhere_is_set_aside_or_whole(path: Path) -> None:
    a_store(path, 30, 50).save()
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        store = LearnedStore(path)
        assert store.get("bert") is None
        assert "set aside" in (store.problem or "")


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"load_s": -1.0}, "bert.load_s"),
        ({"load_s": float("nan")}, "bert.load_s"),
        ({"load_s": float("inf")}, "bert.load_s"),
        ({"footprints": [{GPU: -5}]}, "bert.footprints.0.gpu-0"),
        ({"footprints": [{GPU: float("nan")}]}, "bert.footprints.0.gpu-0"),
        ({"footprints": "many"}, "bert.footprints"),
        ({"learned_at_s": None}, "bert.learned_at_s"),
        ({"samples": -1}, "bert.samples"),
    ],
)
def test_an_entry_that_makes_no_sense_is_dropped_alone(
    path: Path, entry: dict[str, Any], where: str
) -> None:
    a_file(path, **entry)
    store = LearnedStore(path)
    assert f"dropped {where}: Input should be" in (store.problem or "")
    assert store.get("bert") is None
    assert learned(store, "t5").load_s == 4.0
    store.save()
    assert LearnedStore(path).problem is None


def test_many_dropped_entries_are_told_in_few_words(path: Path) -> None:
    entries = {f"m{i}": {"learned_at_s": -1} for i in range(9)}
    path.write_text(json.dumps({"version": 1, "models": entries}))
    assert (LearnedStore(path).problem or "").endswith("; and 6 more")


def test_a_target_that_cannot_be_written_is_a_problem_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    store = a_store(folder / "learned.json", 30)
    folder.write_text("in the way")
    store.save()
    assert "learned values are not saved" in (store.problem or "")
    folder.unlink()
    store.save()
    assert store.problem is None
    assert learned(LearnedStore(folder / "learned.json")).footprint_bytes == {GPU: 30}


def test_a_file_that_cannot_be_read_is_a_problem_and_not_an_end(path: Path) -> None:
    path.mkdir()
    store = a_store(path, 30)
    assert "cannot be read" in (store.problem or "")
    assert learned(store).footprint_bytes == {GPU: 30}


def test_what_is_learned_while_the_disk_is_busy_is_saved_next_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = a_store(path, 30)
    with monkeypatch.context() as busy:
        busy.setattr(os, "fsync", lambda _: store.learn_load_time("bert", 9.0, 300.0))
        store.save()
    assert learned(LearnedStore(path)).load_s is None
    store.save()
    assert learned(LearnedStore(path)).load_s == 9.0
