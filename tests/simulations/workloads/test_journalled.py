"""The sidecar's journal as traffic, and what it learned as a catalogue."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest

from policies.history import History
from policies.journal import Recorder, Tick
from policies.snapshot import Footprint, FootprintSource, Model, Snapshot
from simulations.workloads import journalled
from simulations.workloads.arrivals import WorkloadError, joined
from simulations.workloads.catalogue import drawn
from simulations.workloads.known import load_s

EPOCH_S = 1_770_000_000.0
GIB = 2**30


def tick(at_s: float, *models: Model, unload_s: float | None = None) -> Tick:
    snapshot = Snapshot(
        EPOCH_S + at_s, models={model.name: model for model in models}, unload_s=unload_s
    )
    return Tick({}, snapshot, History(), (), (), History())


def lines(ticks: Sequence[Tick]) -> str:
    recorder = Recorder(keyframe_every=3)
    return "".join(recorder.line(each) + "\n" for each in ticks)


def journal(folder: Path, name: str, *ticks: Tick) -> Path:
    path = folder / name
    text = lines(ticks).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def test_the_arrivals_of_a_tick_come_at_its_time(tmp_path: Path) -> None:
    path = journal(
        tmp_path,
        "journal.jsonl",
        tick(0, Model("a", arrivals=2.0), Model("b")),
        tick(1, Model("a"), Model("b")),
        tick(2.5, Model("a", arrivals=1.0), Model("b", arrivals=4.0)),
        tick(3, Model("b")),
    )
    workload, models = journalled.load(path)
    run = joined(list(workload.runs()))
    assert workload.names == tuple(models) == ("a", "b")
    assert workload.duration_s == 3
    assert run.time_s.tolist() == [0, 2.5, 2.5]
    assert run.model.tolist() == [0, 0, 1]
    assert run.weight.tolist() == [2, 1, 4]


def test_what_the_sidecar_learned_is_the_catalogue(tmp_path: Path) -> None:
    footprint = Footprint({"gpu-0": 3 * GIB}, FootprintSource.MEASURED)
    path = journal(
        tmp_path,
        "journal.jsonl",
        tick(0, Model("a", arrivals=2.0, compute_s=0.5), Model("b"), Model("c", load_s=9.0)),
        tick(
            1,
            Model("a", footprint=footprint, load_s=4.0, arrivals=3.0, compute_s=0.5),
            Model("b", footprint=footprint),
            Model("c"),
            unload_s=0.25,
        ),
    )
    _, models = journalled.load(path, seed=5)
    guessed = drawn(("a", "b", "c"), 5)
    assert models["a"].size_bytes == models["b"].size_bytes == 3 * GIB
    assert (models["a"].load_s, models["c"].load_s) == (4.0, 9.0)
    assert models["b"].load_s == load_s(3 * GIB)
    assert models["a"].service_s == pytest.approx(0.2)
    assert models["b"].service_s == guessed["b"].service_s
    assert models["c"].size_bytes == guessed["c"].size_bytes
    assert {profile.unload_s for profile in models.values()} == {0.25}


def test_the_files_of_a_folder_are_read_oldest_first(tmp_path: Path) -> None:
    journal(tmp_path, "journal.jsonl", tick(4, Model("a", arrivals=5.0)))
    # The stamp is for people; the sequence gives the order.
    journal(tmp_path, "journal-20260131T080000Z-000010.jsonl", tick(3, Model("a", arrivals=4.0)))
    journal(tmp_path, "journal-20260131T090000Z-000009.jsonl.gz", tick(2, Model("a", arrivals=3.0)))
    # A crash left a file beside its packed copy.
    journal(tmp_path, "journal-20260131T090000Z-000009.jsonl", tick(2, Model("a", arrivals=3.0)))
    (tmp_path / "journal-20260131T080000Z-000010.jsonl.gz.tmp").write_bytes(b"half")
    run = joined(list(journalled.load(tmp_path)[0].runs()))
    assert run.weight.tolist() == [3, 4, 5]
    assert run.time_s.tolist() == [0, 1, 2]


def test_a_torn_last_line_and_a_file_cut_short_are_passed_over(tmp_path: Path) -> None:
    path = journal(
        tmp_path, "journal.jsonl", *(tick(t, Model("a", arrivals=1.0)) for t in range(4))
    )
    path.write_bytes(path.read_bytes()[:-10])
    assert len(joined(list(journalled.load(path)[0].runs()))) == 3


def test_time_stands_still_where_the_clock_was_set_back(tmp_path: Path) -> None:
    path = journal(
        tmp_path, "journal.jsonl", *(tick(t, Model("a", arrivals=1.0)) for t in (0, 10, 4, 11))
    )
    assert joined(list(journalled.load(path)[0].runs())).time_s.tolist() == [0, 10, 10, 11]


def test_a_line_that_makes_no_sense_names_its_file_and_line(tmp_path: Path) -> None:
    ticks = [tick(t, Model("a", arrivals=1.0)) for t in range(3)]
    journal(tmp_path, "journal-20260131T080000Z-000001.jsonl", *ticks)
    written = lines(ticks).splitlines()
    current = tmp_path / "journal.jsonl"
    current.write_text("\n".join([written[0], '{"n": 1, "novel": 2}', written[2]]) + "\n")
    with pytest.raises(WorkloadError, match="unknown key 'novel'") as raised:
        journalled.load(tmp_path)
    assert (raised.value.source, raised.value.line) == (current, 2)
    current.write_text("\n".join([written[0], "not json", written[2]]) + "\n")
    with pytest.raises(WorkloadError, match="not JSON") as raised:
        journalled.load(tmp_path)
    assert (raised.value.source, raised.value.line) == (current, 2)


def test_a_folder_without_a_journal_and_a_damaged_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="no tick; allowed: a journal with one or more"):
        journalled.load(tmp_path)
    (tmp_path / "journal-20260131T080000Z-000001.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(WorkloadError, match="damaged in its first line: Not a gzip"):
        journalled.load(tmp_path)
    with pytest.raises(WorkloadError, match="cannot be read"):
        journalled.load(tmp_path / "nowhere.jsonl")
