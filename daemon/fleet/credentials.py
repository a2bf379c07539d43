"""How we show ourselves to sidecars: a token, a client certificate, and whom we believe.

Owns the files and that they are read again when they change; a file that cannot be read any
more leaves what was read last in force.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.fleet.trouble import Trouble

_Mark = tuple[int, int, int] | None


class CredentialsError(ValueError):
    """A file that cannot be used: which, and why."""


@dataclass(frozen=True, slots=True)
class Files:
    """All PEM. Without `ca` sidecars are asked in the clear.

    name: the DNS name that their certificates bear; empty for any that the CA signed, since
        a pod's address is in nobody's certificate.
    """

    ca: Path | None = None
    name: str = ""
    certificate: Path | None = None
    key: Path | None = None
    token: Path | None = None


class Credentials:
    """Raises CredentialsError when the first reading fails: there is no last good one yet."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._trouble = Trouble("cannot read the sidecars' credentials again")
        self._marks = self._look()
        self.headers, self.context = self._read()

    @property
    def scheme(self) -> str:
        return "http" if self.context is None else "https"

    @property
    def name(self) -> str | None:
        return self._files.name or None

    def reload(self) -> None:
        """Takes in files that changed."""
        marks = self._look()
        if marks == self._marks:
            return
        try:
            self.headers, self.context = self._read()
        except CredentialsError as error:
            # The marks stay, so that it is tried again: a renewal writes one file after another.
            self._trouble.began(error)
        else:
            self._marks = marks
            self._trouble.ended()

    def _look(self) -> tuple[_Mark, ...]:
        files = self._files
        return tuple(_mark(each) for each in (files.ca, files.certificate, files.key, files.token))

    def _read(self) -> tuple[Mapping[str, str], ssl.SSLContext | None]:
        return self._token(), self._context()

    def _token(self) -> Mapping[str, str]:
        if self._files.token is None:
            return {}
        try:
            token = self._files.token.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialsError(f"{self._files.token}: {error}") from None
        if not token.isprintable() or not token:
            raise CredentialsError(f"{self._files.token}: one printable token is needed")
        return {"Authorization": f"Bearer {token}"}

    def _context(self) -> ssl.SSLContext | None:
        files = self._files
        if files.ca is None:
            return None
        try:
            context = ssl.create_default_context(cafile=str(files.ca))
            if files.certificate is not None:
                context.load_cert_chain(files.certificate, files.key)
        except (OSError, ssl.SSLError) as error:
            where = f"{files.ca}, {files.certificate}" if files.certificate else str(files.ca)
            raise CredentialsError(f"{where}: {error}") from None
        context.check_hostname = bool(files.name)
        return context


def _mark(path: Path | None) -> _Mark:
    """Identity, size and time of a file; a Secret swaps a link, and so the inode."""
    if path is None:
        return None
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
