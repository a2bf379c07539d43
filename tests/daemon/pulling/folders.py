"""Model folders to pull from, and what may be said of the repositories they are pulled to."""

import os
from collections.abc import Mapping
from pathlib import Path

from daemon.pulling.bringing import Bringing
from daemon.pulling.folders import Folder
from daemon.pulling.placing import LOCK, repository

CONFIG = 'backend: "python"\n'


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def pull(source: Path, root: Path, *, keep: int = 2) -> list[str]:
    """Brings the model ``m``; what was said on the way."""
    said: list[str] = []
    with repository(root, said.append) as place:
        Bringing("m", Folder(str(source), keep), keep, place, said.append).bring()
    return said


def contents(root: Path) -> dict[str, str]:
    """Every file that Triton may read, by path; records and the lock apart."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in (".remora.json", LOCK)
    }


def stamps(root: Path) -> dict[str, int]:
    """The time of every file and folder, the root's too."""
    paths = (root, *root.rglob("*"))
    return {str(path): os.stat(path).st_mtime_ns for path in paths}
