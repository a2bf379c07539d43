"""Reads /proc: which processes a session holds, and how much memory is theirs alone.

Owns the formats of /proc. Knows nothing of Triton. A process that ends while it is read is simply
not there: that is the ordinary end of a process, not an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def session_members(session: int) -> list[int]:
    """The living processes of `session`, in order; zombies hold nothing and are left out.

    A process whose first thread is a zombie lives as long as another of its threads: until then
    its sockets stay open.
    """
    return [pid for pid in sorted(_pids()) if _is_member(pid, session)]


def command_line(pid: int) -> list[str]:
    """The arguments of `pid`; empty when it has ended."""
    arguments = _read(PROC / str(pid) / "cmdline")
    return arguments.rstrip("\0").split("\0") if arguments else []


def private_bytes(pid: int) -> int | None:
    """Anonymous memory of `pid`, which no other process shares; None when it has ended.

    Not the unique set size: a library's clean pages count there as private until a second process
    maps them, so that loading one model would seem to shrink another. `smaps_rollup` is exact;
    `statm` is the kernel's running estimate of the same thing, for systems without the former.
    """
    rollup = _read(PROC / str(pid) / "smaps_rollup")
    if rollup:
        return _anonymous_bytes(rollup)
    pages = _read(PROC / str(pid) / "statm").split()
    return (int(pages[1]) - int(pages[2])) * PAGE_BYTES if pages else None


def _anonymous_bytes(rollup: str) -> int:
    line = next(line for line in rollup.splitlines() if line.startswith("Anonymous:"))
    return int(line.split()[1]) * 1024


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _is_member(pid: int, session: int) -> bool:
    # The command's name comes second, in parentheses, and may itself hold spaces and parentheses.
    fields = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
    if not fields or int(fields[3]) != session:
        return False
    state, threads = fields[0], int(fields[17])
    return state not in "ZX" or threads > 1


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
