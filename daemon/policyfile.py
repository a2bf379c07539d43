"""The policy file: read at start, and again whenever it changes or SIGHUP comes.

Owns the promise that the last good policy stays in force: a file that cannot be read or
is wrong is refused loudly, and nothing changes.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from policies.policy import Policy
from policies.problems import Problem
from policies.source import PolicyError, parse

log = logging.getLogger("remora.policy")

_Mark = tuple[int, int, int] | None


@dataclass(slots=True)
class PolicyFile:
    """One file, or none: then the preset balanced holds for good."""

    path: Path | None
    policy: Policy = field(init=False)
    problem: str | None = None
    _mark: _Mark = None

    def __post_init__(self) -> None:
        """Raises PolicyError when the first policy is wrong: there is no last good one yet."""
        self._mark = self._look()
        self.policy = self._read()

    def reload(self, *, always: bool = False) -> bool | None:
        """Takes in a changed file: True when it was taken, False when refused, None if unchanged.

        always: read it even where it looks unchanged.
        """
        mark = self._look()
        if self.path is None or (mark == self._mark and not always):
            return None
        self._mark = mark
        try:
            self.policy = self._read()
        except PolicyError as error:
            self.problem = str(error)
            log.error("policy refused, the last good one stays in force:\n%s", error)
            return False
        self.problem = None
        log.info("policy taken from %s", self.path)
        return True

    def _read(self) -> Policy:
        if self.path is None:
            return parse("")
        try:
            text = self.path.read_text("utf-8")
        except UnicodeDecodeError:
            what = "not UTF-8 text"
        except (OSError, ValueError) as error:
            # A path with a NUL byte is a ValueError.
            what = str(error.strerror) if isinstance(error, OSError) else str(error)
        else:
            return parse(text, str(self.path))
        problem = Problem(str(self.path), None, "(file)", what, "a readable YAML file")
        raise PolicyError((problem,))

    def _look(self) -> _Mark:
        """Identity, size and time of the file; a ConfigMap swaps a link, and so the inode."""
        if self.path is None:
            return None
        try:
            stat = self.path.stat()
        except (OSError, ValueError):
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns
