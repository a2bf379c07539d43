"""The journal's files, on a real disk that fills up, goes away and comes back."""

import gzip
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from daemon.journal import CURRENT, JournalWriter, open_journal
from policies.journal import JournalError, Tick, read
from tests.bench.journal_size import Traffic

KIB = 1 << 10
ROTATE_BYTES = 256 * KIB


@pytest.fixture(scope="module")
def ticks() -> list[Tick]:
    """A minute and a half of traffic: a keyframe of 50 KB, then changes of 9 KB each."""
    return list(Traffic(Random(7)).ticks(90))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def a_writer(
    directory: Path,
    rotate_bytes: int = ROTATE_BYTES,
    keep_bytes: int = 1 << 30,
    compress: bool = True,
) -> JournalWriter:
    return JournalWriter(
        directory,
        rotate_bytes=rotate_bytes,
        keep_bytes=keep_bytes,
        keyframe_every=100,
        compress=compress,
    )


def write(writer: JournalWriter, ticks: list[Tick]) -> None:
    for tick in ticks:
        writer.write(tick)
    writer.close()


def told(path: Path) -> list[Tick]:
    return list(read(open_journal(path)))


def rotated(directory: Path) -> list[Path]:
    return sorted(directory.glob("journal-*"), key=lambda path: path.name.split("-")[2])


def total_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


# --- writing and rotating ------------------------------------------------------------------


def test_a_tick_can_be_read_as_soon_as_it_is_written(directory: Path, ticks: list[Tick]) -> None:
    writer = a_writer(directory)
    for count, tick in enumerate(ticks[:3], 1):
        writer.write(tick)
        assert told(directory / CURRENT) == ticks[:count]
    writer.close()


def test_ticks_come_back_in_order_across_rotations(directory: Path, ticks: list[Tick]) -> None:
    writer = a_writer(directory)
    write(writer, ticks)
    assert (writer.problem, writer.lost_lines) == (None, 0)
    assert len(rotated(directory)) >= 3
    assert told(directory) == ticks


def test_rotated_files_are_packed_and_nothing_else_is_left(
    directory: Path, ticks: list[Tick]
) -> None:
    write(a_writer(directory), ticks)
    assert {path.suffix for path in rotated(directory)} == {".gz"}
    with gzip.open(rotated(directory)[0]) as file:
        assert ROTATE_BYTES <= len(file.read()) < ROTATE_BYTES + 50 * KIB


def test_every_rotated_file_can_be_read_alone(directory: Path, ticks: list[Tick]) -> None:
    write(a_writer(directory), ticks)
    files = [*rotated(directory), directory / CURRENT]
    assert [tick for file in files for tick in told(file)] == ticks


def test_without_compression_rotated_files_stay_as_they_are(
    directory: Path, ticks: list[Tick]
) -> None:
    write(a_writer(directory, compress=False), ticks)
    assert {path.suffix for path in rotated(directory)} == {".jsonl"}
    assert told(directory) == ticks


def test_the_oldest_are_deleted_to_stay_within_the_bound(
    directory: Path, ticks: list[Tick]
) -> None:
    keep_bytes = 4 * 128 * KIB
    writer = a_writer(directory, rotate_bytes=128 * KIB, keep_bytes=keep_bytes)
    for _ in range(4):
        for tick in ticks:
            writer.write(tick)
    writer.close()
    assert total_bytes(directory) <= keep_bytes
    kept = told(directory)
    assert 0 < len(kept) < 4 * len(ticks)
    assert kept == (4 * ticks)[-len(kept) :]


def test_a_bound_too_small_to_rotate_in_is_refused(directory: Path) -> None:
    with pytest.raises(ValueError, match=r"keep_bytes is 399; it must be at least .* 400"):
        a_writer(directory, rotate_bytes=100, keep_bytes=399)
    with pytest.raises(ValueError, match="rotate_bytes is 0; it must be at least 1"):
        a_writer(directory, rotate_bytes=0)


# --- what former runs left -----------------------------------------------------------------


def test_a_former_run_is_rotated_away_not_overwritten(directory: Path, ticks: list[Tick]) -> None:
    write(a_writer(directory), ticks[:5])
    write(a_writer(directory), ticks[5:9])
    assert len(rotated(directory)) == 1
    assert told(rotated(directory)[0]) == ticks[:5]
    assert told(directory) == ticks[:9]


def test_a_line_torn_by_a_crash_costs_that_line_only(directory: Path, ticks: list[Tick]) -> None:
    write(a_writer(directory), ticks[:5])
    os.truncate(directory / CURRENT, (directory / CURRENT).stat().st_size - 40)
    write(a_writer(directory), ticks[5:9])
    assert told(directory) == ticks[:4] + ticks[5:9]


def test_an_empty_file_of_a_former_run_is_not_kept(directory: Path, ticks: list[Tick]) -> None:
    write(a_writer(directory), [])
    write(a_writer(directory), ticks[:2])
    assert rotated(directory) == []
    assert told(directory) == ticks[:2]


def test_packing_that_a_crash_interrupted_is_done_again(directory: Path, ticks: list[Tick]) -> None:
    write(a_writer(directory, compress=False), ticks)
    first, second, *_ = rotated(directory)
    first.with_name(f"{first.name}.gz.tmp").write_bytes(b"half")
    second.with_name(f"{second.name}.gz").write_bytes(gzip.compress(second.read_bytes()))
    assert told(directory) == ticks
    write(a_writer(directory), [])
    assert {path.suffix for path in rotated(directory)} == {".gz"}
    assert told(directory) == ticks


# --- trouble -------------------------------------------------------------------------------


@contextmanager
def a_disk_that_ends_after(size_bytes: int) -> Iterator[None]:
    """No file can grow beyond this; the kernel writes what fits, then refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_lines_and_writing_resumes_when_there_is_room(
    directory: Path, ticks: list[Tick]
) -> None:
    writer = a_writer(directory)
    writer.write(ticks[0])
    whole_bytes = (directory / CURRENT).stat().st_size
    with a_disk_that_ends_after(whole_bytes + 100):
        writer.write(ticks[1])
        assert (directory / CURRENT).stat().st_size == whole_bytes + 100, "a torn line"
        assert "File too large" in (writer.problem or "")
        writer.write(ticks[2])
    assert writer.lost_lines == 2
    writer.write(ticks[3])
    writer.write(ticks[4])
    assert (writer.problem, writer.lost_lines) == (None, 2)
    writer.close()
    assert told(directory) == [ticks[0], *ticks[3:5]]


def test_a_directory_that_cannot_be_made_is_a_problem_until_it_can(
    directory: Path, ticks: list[Tick]
) -> None:
    directory.write_text("in the way")
    writer = a_writer(directory)
    assert str(directory) in (writer.problem or "")
    writer.write(ticks[0])
    assert writer.lost_lines == 1
    directory.unlink()
    writer.write(ticks[1])
    assert (writer.problem, writer.lost_lines) == (None, 1)
    writer.close()
    assert told(directory) == ticks[1:2]


def test_a_directory_that_was_deleted_is_made_again(directory: Path, ticks: list[Tick]) -> None:
    writer = a_writer(directory)
    writer.write(ticks[0])
    shutil.rmtree(directory)
    write(writer, ticks[1:])
    assert told(directory) == ticks[1:]


def test_a_file_that_cannot_be_rotated_away_stops_growing(
    directory: Path, ticks: list[Tick]
) -> None:
    writer = a_writer(directory)
    now = datetime.now(UTC)
    stamps = [now + timedelta(seconds=later) for later in range(-1, 30)]
    obstacles = [directory / f"journal-{at:%Y%m%dT%H%M%SZ}-000001.jsonl" for at in stamps]
    for obstacle in obstacles:
        obstacle.mkdir()
    for tick in ticks:
        writer.write(tick)
    assert (directory / CURRENT).stat().st_size < ROTATE_BYTES + 50 * KIB
    assert writer.lost_lines > 0
    assert "Is a directory" in (writer.problem or "")
    for obstacle in obstacles:
        obstacle.rmdir()
    kept = ticks[: len(ticks) - writer.lost_lines]
    write(writer, ticks[:3])
    assert writer.problem is None
    assert told(directory) == kept + ticks[:3]


def test_packing_that_fails_is_told_and_tried_again(directory: Path, ticks: list[Tick]) -> None:
    obstacle = directory / "journal-0.gz.tmp"
    obstacle.mkdir(parents=True)
    writer = a_writer(directory)
    write(writer, ticks)
    assert writer.problem is not None
    assert obstacle.name in writer.problem
    assert writer.lost_lines == 0
    obstacle.rmdir()
    again = a_writer(directory)
    write(again, [])
    assert again.problem is None
    assert {path.suffix for path in rotated(directory)} == {".gz"}
    assert told(directory) == ticks


def test_the_bound_holds_while_packing_fails(directory: Path, ticks: list[Tick]) -> None:
    (directory / "journal-0.gz.tmp").mkdir(parents=True)
    write(a_writer(directory, rotate_bytes=100 * KIB, keep_bytes=400 * KIB), ticks)
    assert total_bytes(directory) <= 400 * KIB


# --- opening -------------------------------------------------------------------------------


def test_a_directory_can_be_read_while_it_is_written(directory: Path, ticks: list[Tick]) -> None:
    writer = a_writer(directory)
    for tick in ticks[:40]:
        writer.write(tick)
    reading = read(open_journal(directory))
    seen = list(islice(reading, 10))
    write(writer, ticks[40:])
    seen.extend(reading)
    assert seen == ticks


def test_a_file_that_a_listing_misses_while_it_is_packed_is_told_all_the_same(
    directory: Path, ticks: list[Tick], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(a_writer(directory), ticks)
    oldest, complete = rotated(directory)[0], Path.iterdir
    missing = iter([oldest])

    def listing(path: Path) -> Iterator[Path]:
        missed = next(missing, None)
        return (each for each in complete(path) if each != missed)

    monkeypatch.setattr(Path, "iterdir", listing)
    assert told(directory) == ticks


def test_rotated_files_are_told_in_the_order_of_their_sequence(directory: Path) -> None:
    directory.mkdir()
    # The clock was set back between the two.
    (directory / "journal-20250102T000000Z-000009.jsonl").write_text("first\n")
    (directory / "journal-20250101T000000Z-000010.jsonl").write_text("second\n")
    (directory / "journal.jsonl.bak").write_text("another's\n")
    assert list(open_journal(directory)) == ["first\n", "second\n"]


def test_a_packed_file_that_ends_early_gives_the_beginning(
    directory: Path, ticks: list[Tick]
) -> None:
    write(a_writer(directory), ticks)
    packed = rotated(directory)[0]
    whole = told(packed)
    os.truncate(packed, packed.stat().st_size // 2)
    cut = told(packed)
    assert 0 < len(cut) < len(whole)
    assert cut == whole[: len(cut)]


def test_a_packed_file_that_is_damaged_is_an_error(directory: Path, ticks: list[Tick]) -> None:
    write(a_writer(directory), ticks)
    packed = rotated(directory)[0]
    content = bytearray(packed.read_bytes())
    content[-5] ^= 0xFF
    packed.write_bytes(content)
    with pytest.raises(JournalError, match=rf"{packed.name} is damaged: CRC check failed"):
        told(packed)


def test_bytes_that_are_no_text_are_never_taken_for_a_name(
    directory: Path, ticks: list[Tick]
) -> None:
    write(a_writer(directory), ticks[:2])
    current = directory / CURRENT
    current.write_bytes(current.read_bytes().replace(b"resnet", b"\xffesnet", 1))
    with pytest.raises(JournalError, match="line 1: not JSON"):
        told(current)


def test_a_path_that_is_not_there_is_an_error(directory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        told(directory)
