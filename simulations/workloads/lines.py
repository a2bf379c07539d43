"""The numbered lines of a text file, packed with gzip or not.

Owns what may be wrong with a file before anybody asks what its lines mean: absent, damaged, cut
short, not UTF-8, empty. Refuses to know columns.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from simulations.workloads.arrivals import WorkloadError

_BOM = b"\xef\xbb\xbf"
_GZIP = 16 + zlib.MAX_WBITS
_STEP_BYTES = 64


def unpacked(path: Path) -> BinaryIO:
    """The file's bytes as they were before packing.

    Raises WorkloadError: there is no such file, or it may not be read.
    """
    packed = path.suffix == ".gz"
    try:
        # The buffer saves a call into gzip for every line.
        return io.BufferedReader(gzip.GzipFile(path), 1 << 18) if packed else path.open("rb")
    except OSError as error:
        problem = f"cannot be read: {error.strerror}; allowed: a readable file"
        raise WorkloadError(path, None, problem) from None


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    """Each line with its number, counted from 1, without its end. Blank lines are passed over.

    Raises WorkloadError: a damaged file, with the line that it could be read up to.
    """
    number = 0
    with unpacked(path) as file:
        try:
            for raw in file:
                number += 1
                line = raw.removeprefix(_BOM) if number == 1 else raw
                text = line.decode().rstrip("\r\n")
                if text and not text.isspace():
                    yield number, text
        except UnicodeDecodeError as error:
            problem = f"byte {error.object[error.start]:#04x} is not UTF-8; allowed: UTF-8 text"
            raise WorkloadError(path, number, problem) from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> WorkloadError:
    """The error of a gzip file that ends too early or holds what nobody packed."""
    line = _whole_lines(path)
    where = "after this line" if line else "in its first line"
    what = "cut short" if isinstance(error, EOFError) else "damaged"
    why = "" if isinstance(error, EOFError) else f": {error}"
    problem = f"the gzip file is {what} {where}{why}; allowed: a whole one"
    return WorkloadError(path, line or None, problem)


def _whole_lines(path: Path) -> int:
    """How many lines come out of a damaged gzip file. Where it does not simply end, the step that
    meets the damage gives nothing, and so the steps are small."""
    count, inflate = 0, zlib.decompressobj(_GZIP)
    with path.open("rb") as file, suppress(zlib.error):
        while packed := file.read(_STEP_BYTES):
            while packed:
                count += inflate.decompress(packed).count(b"\n")
                packed = inflate.unused_data
                if inflate.eof:
                    inflate = zlib.decompressobj(_GZIP)
    return count


def fields(path: Path, line: int, text: str) -> list[str]:
    """The comma-separated fields of one line, without what surrounds them.

    Raises WorkloadError: a quotation that does not end in this line.
    """
    try:
        return [field.strip() for field in next(csv.reader([text], strict=True))]
    except csv.Error as error:
        problem = f"{error}; allowed: comma-separated fields, quotations within one line"
        raise WorkloadError(path, line, problem) from None


def wrong(path: Path, line: int, column: str, value: str, allowed: str) -> WorkloadError:
    """The error of one value: which column, what stands there, what may."""
    return WorkloadError(path, line, f"{column} is {_short(value)!r}; allowed: {allowed}")


def listed(columns: Sequence[str]) -> str:
    """The first of a header's columns."""
    return ", ".join(map(_short, columns[:6])) + (", ..." if len(columns) > 6 else "")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
