"""A model's folder as Triton has it, on this machine or in a bucket.

Owns the way through fsspec. Credentials, region and endpoint of a bucket come from the environment
as every S3 client reads them. Refuses to follow links: they could lead anywhere.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fsspec

from daemon.pulling.offers import (
    CONFIG,
    RECORD,
    VERSION,
    Offer,
    Refused,
    Release,
    RemoteFile,
    Unreachable,
    checked,
    newest,
    told,
)

_S3: Mapping[str, Any] = {
    # A second look must be a look, so nothing that was listed is remembered.
    "skip_instance_cache": True,
    "use_listings_cache": False,
    # Parts that are fetched at once lie in memory: ten of 50 MiB each unless told otherwise.
    "default_block_size": 8 * 2**20,
    "max_concurrency": 4,
}


class Folder:
    """A `Source`: CONFIG and other files, and a folder for each version."""

    def __init__(self, url: str, keep: int) -> None:
        """keep: how many versions are offered, the newest."""
        self._url = url.rstrip("/")
        self._keep = keep
        self._files = Files(self._url)

    def offer(self) -> Offer:
        found = self._files.listed()
        numbers = {int(top) for path in found for top in [_top(path)] if VERSION.fullmatch(top)}
        if not numbers:
            raise Unreachable(f"{self._url} holds no version: no folder with a number for a name")
        versions = {
            number: Release(f"{self._url}/{number}", _below(f"{number}/", found.values()))
            for number in newest(numbers, self._keep)
        }
        beside = (
            file
            for path, file in found.items()
            if not VERSION.fullmatch(path.split("/")[0]) and not path.startswith(".")
        )
        return Offer(versions, tuple(sorted(beside, key=lambda f: (f.path != CONFIG, f.path))))

    def fetch(self, file: RemoteFile, target: Path) -> None:
        self._files.fetch(file.origin, target)


class Files:
    """All files below one URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        with told(url):
            options = _S3 if url.startswith("s3://") else {}
            self._system, self._root = fsspec.core.url_to_fs(url, **options)

    def listed(self) -> Mapping[str, RemoteFile]:
        """By path below the URL. Raises PullError."""
        with told(self._url):
            entries = self._system.find(self._root, detail=True)
        if not entries:
            raise Unreachable(f"{self._url}: nothing is there")
        return {file.path: file for file in map(self._file, entries.values()) if file}

    def fetch(self, origin: str, target: Path) -> None:
        with told(self._url):
            self._system.get_file(origin, str(target))

    def _file(self, entry: Mapping[str, Any]) -> RemoteFile | None:
        name = str(entry["name"])
        parts = name.split("/")
        # A folder that a pull has filled, or that a Triton serves from, holds more than the model;
        # and an empty name at the end is a bucket's marker of an empty folder.
        if entry["type"] == "directory" or parts[-1] in ("", RECORD) or "__pycache__" in parts:
            return None
        path = checked(name.removeprefix(self._root.rstrip("/") + "/"))
        if entry.get("islink") or entry["type"] != "file":
            raise Refused(
                f"{self._url} offers {path!r}, which is a link or no file; allowed: files"
            )
        mark = entry.get("ETag") or entry.get("mtime") or entry.get("LastModified")
        return RemoteFile(path, name, entry["size"], str(mark))


def _top(path: str) -> str:
    top, below, _ = path.partition("/")
    return top if below else ""


def _below(folder: str, files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(file.path.removeprefix(folder), file.origin, file.size_bytes, file.mark)
        for file in files
        if file.path.startswith(folder)
    )
