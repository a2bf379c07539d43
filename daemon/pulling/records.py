"""What a pull has brought, written beside it: in each version's folder, and in the model's own.

A version and its record come in one rename, so whatever has a record is whole and ours, and what
has none is somebody else's and never touched. Triton and its backends pass over the file.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from daemon.pulling.offers import RECORD, VERSION


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    def text(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


class BroughtFile(_Record):
    bytes: int
    sha256: str


class BroughtVersion(_Record):
    """origin: in words. mark: of the release, as its source told it. files: by path."""

    origin: str
    mark: str
    files: Mapping[str, BroughtFile]

    def is_whole(self, folder: Path) -> bool:
        return all(_size(folder / path) == file.bytes for path, file in self.files.items())


class BesideFile(_Record):
    """One file of the model's folder. mark: as its source told it; bytes: its size.

    sha256: of what stands there, and of what stood there before: a pull that dies between the
    record and the file must still know its own.
    """

    mark: str
    bytes: int
    sha256: tuple[str, ...]


class Beside(_Record):
    files: Mapping[str, BesideFile] = {}


def brought_versions(folder: Path) -> dict[int, BroughtVersion]:
    """Those of the model in ``folder`` that a pull has brought."""
    found = {}
    for path in numbered(folder):
        try:
            found[int(path.name)] = BroughtVersion.model_validate_json((path / RECORD).read_bytes())
        except (OSError, ValidationError):
            # Somebody else's; a record that cannot be read proves nothing.
            continue
    return found


def numbered(folder: Path) -> list[Path]:
    """All versions of the model in ``folder``, whoever brought them."""
    try:
        return [path for path in folder.iterdir() if VERSION.fullmatch(path.name)]
    except FileNotFoundError:
        return []


def brought_beside(folder: Path) -> Beside:
    try:
        return Beside.model_validate(json.loads((folder / RECORD).read_bytes()))
    except (OSError, ValueError):
        return Beside()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
