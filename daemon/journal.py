"""The journal's files: appending, rotating, packing and bounding them, and opening them again.

Owns a directory and what is in it. Refuses to know what a line says (`policies.journal`)
and never lets a full or missing disk reach the loop: lines are lost and counted, the
trouble is told by `JournalWriter.problem`, and writing goes on with a keyframe.

``journal.jsonl`` is being written. ``journal-<UTC stamp>-<sequence>.jsonl`` was rotated
away and waits to be packed into the same name with ``.gz``. The sequence gives the order;
the stamp, when a file was last written, is for people.
"""

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO, TextIOWrapper
from pathlib import Path
from typing import TextIO

from policies.journal import JournalError, Recorder, Tick

CURRENT = "journal.jsonl"
_ROTATED = re.compile(r"journal-\d{8}T\d{6}Z-(?P<sequence>\d{6,})\.jsonl(\.gz)?")
_UNFINISHED = "journal-*.gz.tmp"
_CHUNK_BYTES = 1 << 20
_GZIP_WINDOW_BITS = 31
_GZIP_LEVEL = 6


class JournalWriter:
    """Writes ticks into ``directory``, at most ``keep_bytes`` of them.

    The loop waits for one write to the page cache per tick; packing and deleting happen
    in a thread of their own. A file that is just being rotated may exceed ``keep_bytes``
    for the moment until the oldest are deleted.

    rotate_bytes: size at which the current file is rotated away.
    keep_bytes: for all files together, the current one at its largest included; at least
        4 × rotate_bytes.
    keyframe_every: lines from one keyframe to the next; each file begins with one.
    compress: pack rotated files with gzip.
    """

    def __init__(
        self,
        directory: Path,
        *,
        rotate_bytes: int,
        keep_bytes: int,
        keyframe_every: int,
        compress: bool = True,
    ) -> None:
        if rotate_bytes < 1:
            raise ValueError(f"rotate_bytes is {rotate_bytes}; it must be at least 1")
        if keep_bytes < 4 * rotate_bytes:
            raise ValueError(
                f"keep_bytes is {keep_bytes}; it must be at least 4 × rotate_bytes, "
                f"{4 * rotate_bytes}"
            )
        self._directory = directory
        self._rotate_bytes = rotate_bytes
        # Room for the current file, and for the packed copy of one while both exist.
        self._keep_rotated_bytes = keep_bytes - 2 * rotate_bytes
        self._compress = compress
        self._recorder = Recorder(keyframe_every)
        self._file: FileIO | None = None
        # How much of the current file is whole lines of ours; None before it is ours.
        self._whole_bytes: int | None = None
        self._lost_lines = 0
        self._write_problem: str | None = None
        self._tidy_problem: str | None = None
        self._tidying = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._tidied: Future[None] | None = None
        try:
            self._reopen()
        except OSError as error:
            self._write_problem = self._trouble(error)

    @property
    def problem(self) -> str | None:
        """What is wrong right now, in words; None when all is well."""
        return self._write_problem or self._tidy_problem

    @property
    def lost_lines(self) -> int:
        """Ticks that could not be written since this writer began."""
        return self._lost_lines

    def write(self, tick: Tick) -> None:
        """Append ``tick``; counts it as lost when the disk refuses it."""
        try:
            self._append(tick)
        except OSError as error:
            self._lost_lines += 1
            self._write_problem = self._trouble(error)
            self._let_go()
        else:
            self._write_problem = None

    def close(self) -> None:
        """Stop writing, and wait until rotated files are packed (call it off the loop)."""
        self._let_go()
        self._tidying.shutdown(wait=True)
        if self._tidied is not None:
            self._tidied.result()

    def _append(self, tick: Tick) -> None:
        if (
            self._file is None
            or self._size_bytes >= self._rotate_bytes
            or os.fstat(self._file.fileno()).st_nlink == 0  # deleted under us
        ):
            self._reopen()
        assert self._file is not None
        line = self._recorder.line(tick).encode() + b"\n"
        _write_whole(self._file, line)
        self._whole_bytes = self._size_bytes + len(line)

    @property
    def _size_bytes(self) -> int:
        return self._whole_bytes or 0

    def _reopen(self) -> None:
        """Make the current file one that may be appended to, beginning with a keyframe.

        What a former run left is rotated away, for its last line may be torn. A line of
        our own that a full disk tore is cut off, so that no line follows on its heels.
        """
        self._let_go()
        self._directory.mkdir(parents=True, exist_ok=True)
        current = self._directory / CURRENT
        present_bytes = current.stat().st_size if current.exists() else 0
        if self._whole_bytes is None or self._size_bytes >= self._rotate_bytes:
            if present_bytes:
                _rotate(self._directory)
            self._tidy_soon()
        elif present_bytes > self._whole_bytes:
            os.truncate(current, self._whole_bytes)
        self._file = FileIO(current, "a")
        self._whole_bytes = os.fstat(self._file.fileno()).st_size

    def _let_go(self) -> None:
        self._recorder.restart()
        if self._file is not None:
            file, self._file = self._file, None
            # The lines are counted already, as written or as lost.
            with suppress(OSError):
                file.close()

    def _tidy_soon(self) -> None:
        if self._tidied is not None and self._tidied.done():
            self._tidied.result()
        self._tidied = self._tidying.submit(self._tidy)

    def _tidy(self) -> None:
        try:
            # Deleting comes first: packing needs room, and the bound holds without it.
            _delete_oldest(self._directory, self._keep_rotated_bytes)
            _finish_packing(self._directory, self._compress)
        except OSError as error:
            self._tidy_problem = self._trouble(error)
        else:
            self._tidy_problem = None

    def _trouble(self, error: OSError) -> str:
        return f"journal in {self._directory}: {error}"


def open_journal(path: Path) -> Iterator[str]:
    """The lines of a journal file, packed or not, or of all files of a directory in order.

    A directory may be one that is still written to: the listing is taken again after
    each file, so that files rotated away meanwhile are neither missed nor told twice.

    Raises:
        OSError: there is no such path, or it cannot be read.
        JournalError: a packed file is damaged; one that merely ends early is not.
    """
    return _lines_of_directory(path) if path.is_dir() else _lines(path)


# --- files, one at a time ------------------------------------------------------------------


def _rotated(directory: Path) -> list[tuple[int, Path]]:
    """The rotated files and their sequence, oldest first.

    A crash can leave a file beside its packed copy; both are whole, and say the same. A listing
    that is taken just while a file gives way to its packed copy may have neither of them, but
    not twice: so it is taken until two have the same sequences.
    """
    found, before = _listed(directory), None
    while (sequences := {sequence for sequence, _ in found}) != before:
        found, before = _listed(directory), sequences
    return found


def _listed(directory: Path) -> list[tuple[int, Path]]:
    found: list[tuple[int, Path]] = []
    for path in directory.iterdir():
        match = _ROTATED.fullmatch(path.name)
        if match and path.is_file():
            found.append((int(match["sequence"]), path))
    return sorted(found)


def _rotate(directory: Path) -> None:
    current = directory / CURRENT
    written = datetime.fromtimestamp(current.stat().st_mtime, UTC)
    sequence = max((sequence for sequence, _ in _rotated(directory)), default=0) + 1
    current.rename(directory / f"journal-{written:%Y%m%dT%H%M%SZ}-{sequence:06d}.jsonl")


def _finish_packing(directory: Path, compress: bool) -> None:
    """Pack what was rotated away, and clear what a crash left half done."""
    for leftover in directory.glob(_UNFINISHED):
        leftover.unlink(missing_ok=True)
    for _, path in _rotated(directory) if compress else ():
        if path.suffix != ".gz":
            _pack(path)
            path.unlink(missing_ok=True)


def _pack(path: Path) -> None:
    """Put the packed copy of ``path`` beside it, under its name only once it is whole."""
    # Z_FILTERED looks for no short matches: digits are better coded than matched, which
    # is worth 7 % here.
    packing = zlib.compressobj(
        _GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW_BITS, zlib.DEF_MEM_LEVEL, zlib.Z_FILTERED
    )
    unfinished = path.with_name(f"{path.name}.gz.tmp")
    with path.open("rb") as source, unfinished.open("wb") as target:
        while chunk := source.read(_CHUNK_BYTES):
            target.write(packing.compress(chunk))
        target.write(packing.flush())
        target.flush()
        os.fsync(target.fileno())
    unfinished.rename(path.with_name(f"{path.name}.gz"))


def _delete_oldest(directory: Path, keep_bytes: int) -> None:
    files = [(path, path.stat().st_size) for _, path in _rotated(directory)]
    total_bytes = sum(size for _, size in files)
    for path, size in files:
        if total_bytes <= keep_bytes:
            return
        path.unlink(missing_ok=True)
        total_bytes -= size


def _write_whole(file: FileIO, line: bytes) -> None:
    """Write all of ``line``; a disk that is nearly full may take it in pieces."""
    rest = memoryview(line)
    while rest:
        written = file.write(rest)
        assert written  # a blocking file takes something or raises
        rest = rest[written:]


def _lines_of_directory(directory: Path) -> Iterator[str]:
    done = 0
    while True:
        # Opened before the listing is taken: should the current file be rotated away just
        # now, then the listing has it, or it stays readable through what is open here.
        current = _open_if_there(directory / CURRENT)
        after = [(sequence, path) for sequence, path in _rotated(directory) if sequence > done]
        if not after:
            break
        if current:
            current.close()
        sequence, path = after[0]
        rotated = _open_if_there(path)
        if rotated is None:
            continue  # packed or deleted since the listing; the next one tells
        done = sequence
        with rotated:
            yield from _lines_of(rotated, path)
    if current:
        with current:
            yield from _lines_of(current, directory / CURRENT)


def _lines(path: Path) -> Iterator[str]:
    with _open(path) as opened:
        yield from _lines_of(opened, path)


def _open_if_there(path: Path) -> TextIO | None:
    try:
        return _open(path)
    except FileNotFoundError:
        return None


def _open(path: Path) -> TextIO:
    # Bytes that are not UTF-8 travel as surrogates, which the reader refuses; put to
    # rights here they could pass for a name.
    return TextIOWrapper(
        gzip.open(path) if path.suffix == ".gz" else path.open("rb"),
        encoding="utf-8",
        errors="surrogateescape",
        newline="\n",
    )


def _lines_of(opened: TextIO, path: Path) -> Iterator[str]:
    number = 1
    try:
        for line in opened:
            yield line
            number += 1
    except EOFError:
        return  # cut short, as a torn line is
    except (gzip.BadGzipFile, zlib.error) as error:
        raise JournalError(number, f"{path.name} is damaged: {error}") from error
