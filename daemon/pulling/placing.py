"""Puts what was brought into the model repository, so that a reader sees all of it or nothing.

Everything is written in a folder of this run's own below STAGING, brought safely to the disk and
renamed into place; what is removed is renamed away first. Whatever is found below STAGING when a
pull begins was left by one that died. Owns the repository's lock. Knows no source.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from daemon.pulling.offers import Refused

# Triton lists it in its index while it is there, for it lists every folder.
STAGING = ".remora"
LOCK = ".remora.lock"

_CHUNK_BYTES = 2**20

Say = Callable[[str], None]


class Place:
    """A model repository that this process alone writes to, as far as pulls go."""

    def __init__(self, root: Path, run: Path) -> None:
        self.root = root
        self._run = run

    def scratch(self) -> Path:
        """A new folder to write in, on the repository's own file system."""
        folder = self._run / uuid.uuid4().hex
        folder.mkdir(parents=True)
        return folder

    def put_folder(self, folder: Path, target: Path) -> None:
        """Raises Refused where ``target`` came to be meanwhile."""
        _sync_below(folder)
        target.parent.mkdir(exist_ok=True)
        if os.path.lexists(target):
            raise Refused(f"{target} came to be while it was being brought")
        try:
            os.rename(folder, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise Refused(f"{target} came to be while it was being brought") from None
        _sync(target.parent)
        _sync(target.parent.parent)

    def put_file(self, file: Path, target: Path) -> None:
        """In the place of what is there."""
        _sync(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)
        _sync(target.parent)

    def remove(self, target: Path) -> None:
        grave = self.scratch() / "removed"
        os.rename(target, grave)
        _sync(target.parent)
        if grave.is_dir():
            shutil.rmtree(grave)


@contextmanager
def repository(root: Path, say: Say) -> Iterator[Place]:
    """Holds the repository against other pulls, and clears what dead ones have left."""
    with open(root / LOCK, "ab") as lock:
        _take(lock.fileno(), root, say)
        staging = root / STAGING
        _clear(staging)
        try:
            yield Place(root, staging / uuid.uuid4().hex)
        finally:
            _clear(staging)


def _take(lock: int, root: Path, say: Say) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        say(f"another pull is at work in {root}; waiting for it")
    except OSError as error:
        # Renames alone keep every version whole; only the work may be done twice.
        say(f"{root} knows no file locks ({error.strerror}); pulls at once may disturb each other")
        return
    fcntl.flock(lock, fcntl.LOCK_EX)


def _clear(staging: Path) -> None:
    """Removes what lies there, and the folder itself.

    Each part is renamed before it is removed: where locks do not reach another machine, a pull at
    work there must fail to put it in place, rather than put what is being removed.
    """
    if not staging.is_dir():
        return
    for left in list(staging.iterdir()):
        grave = staging / f"{uuid.uuid4().hex}.removed"
        with suppress(FileNotFoundError):
            os.rename(left, grave)
            shutil.rmtree(grave, ignore_errors=True)
    with suppress(OSError):
        staging.rmdir()


def _sync_below(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
