"""The numbered lines of a text file, packed with gzip or not.

Owns what may be wrong with a file before anybody asks what its lines mean: absent, damaged, cut
short, not UTF-8, empty. Refuses to know columns.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from simulations.workloads.arrivals import WorkloadError

_BOM = b"\xef\xbb\xbf"


def unpacked(path: Path) -> BinaryIO:
    """The file's bytes as they were before packing.

    Raises WorkloadError: there is no such file, or it may not be read.
    """
    packed = path.suffix == ".gz"
    try:
        # The buffer saves a call into gzip for every line.
        return io.BufferedReader(gzip.GzipFile(path), 1 << 18) if packed else path.open("rb")
    except OSError as error:
        raise WorkloadError(path, None, f"cannot be read: {error.strerror}") from None


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
        except EOFError:
            problem = "the gzip file is cut short after this line; allowed: a whole one"
            raise WorkloadError(path, number, problem) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            problem = f"the gzip file is damaged after this line: {error}; allowed: a whole one"
            raise WorkloadError(path, number, problem) from None


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
    shown = value if len(value) <= 60 else f"{value[:57]}..."
    return WorkloadError(path, line, f"{column} is {shown!r}; allowed: {allowed}")
