"""What a source offers of one model, and what is believed of it.

Owns the words between sources and the repository on disk, and the checks of names and of recorded
sums: whatever a source says may be meant to do harm. Knows no protocol, and writes nothing.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CONFIG = "config.pbtxt"
SUMS = "SHA256SUMS"
RECORD = ".remora.json"
# Triton passes over a folder that is no number, and over a number with a leading zero.
VERSION = re.compile(r"[1-9][0-9]{0,17}")

_DEEPEST = 32
_PART = re.compile(r"[^/\\\x00-\x1f\x7f]{1,255}")
_SUM = re.compile(r"\\?([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")


class PullError(Exception):
    """Why a model could not be brought as it was wanted; the message says it all."""


class Unreachable(PullError):
    """Its source does not answer, or has no such thing."""


class Refused(PullError):
    """Its source offers what must not be taken, or the repository holds what is not ours."""


@contextmanager
def told(source: str) -> Iterator[None]:
    """Lets no error of a source's library out but as ours. source: what was asked, in words."""
    try:
        yield
    except PullError:
        raise
    except ImportError as error:
        raise Unreachable(f"{source}: {error}; pip install 'remora[registry]' brings it") from None
    # Each file system has errors of its own beside OSError and no base in common, and MLflow lets
    # those of requests, of urllib3 and of its own through.
    except Exception as error:  # noqa: BLE001
        raise Unreachable(f"{source}: {type(error).__name__}: {error}") from None


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file at its source.

    path: where it belongs, below its version's folder or the model's; checked by `checked`.
    origin: where its source finds it.
    size_bytes: None where the source does not tell.
    mark: changes when the file may have changed.
    """

    path: str
    origin: str
    size_bytes: int | None
    mark: str


@dataclass(frozen=True, slots=True)
class Release:
    """One version. origin: where it comes from, in words."""

    origin: str
    files: tuple[RemoteFile, ...]

    @property
    def mark(self) -> str:
        told = sorted((each.path, each.size_bytes, each.mark) for each in self.files)
        return hashlib.sha256(repr((self.origin, told)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Offer:
    """versions: by number. beside: files of the model's own folder, its configuration first."""

    versions: Mapping[int, Release]
    beside: tuple[RemoteFile, ...]


class Source(Protocol):
    """Where a model comes from."""

    def offer(self) -> Offer:
        """What is there now. Raises PullError."""

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Writes it to ``target``, a file that is not there yet. Raises PullError."""


def checked(path: str) -> str:
    """``path`` when it leads down from where it starts, and nowhere else. Raises Refused."""
    parts = path.split("/")
    if len(parts) > _DEEPEST:
        raise Refused(f"it offers a file {len(parts)} folders deep; allowed: up to {_DEEPEST}")
    for part in parts:
        if part in (".", "..", RECORD) or not _PART.fullmatch(part):
            raise Refused(
                f"it offers a file at {path!r}; allowed: a path downwards, of plain names"
            )
    return path


def check_sums(text: str, sums: Mapping[str, str]) -> None:
    """Holds what was brought, sums by path, to the lines of ``sha256sum``. Raises Refused."""
    lines = [line for line in text.splitlines() if line.strip()]
    found = [_SUM.fullmatch(line) for line in lines]
    for line, match in zip(lines, found, strict=True):
        if match is None:
            raise Refused(f"{SUMS}: {line[:80]!r}; allowed: lines as sha256sum writes them")
    wanted = {match[2]: match[1].lower() for match in found if match}
    brought = {path: value for path, value in sums.items() if path != SUMS}
    for path in sorted(wanted.keys() | brought.keys()):
        if path not in brought:
            raise Refused(f"{SUMS} names {path!r}, which is not there")
        if path not in wanted:
            raise Refused(f"{path!r} is not in {SUMS}")
        if wanted[path] != brought[path]:
            raise Refused(f"{path!r} is not what {SUMS} says: sha256 {brought[path]}")


def newest(numbers: Iterable[int], count: int) -> list[int]:
    return sorted(numbers)[-count:]
