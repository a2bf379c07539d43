"""The host's memory as a device: how much of it Triton may really have.

Owns the reading of control groups. A limit counts only where Triton runs under it too:
in a pod each container has its own, and then the ``host_memory`` setting must say.
"""

from pathlib import Path


def limit_bytes(root: Path = Path("/")) -> int | None:
    """The memory limit of our control group, if a Triton runs in that same group."""
    own = _group(root / "proc/self/cgroup")
    if not own or not _triton_shares(own, root):
        return None
    unified, classic = root / "sys/fs/cgroup", root / "sys/fs/cgroup/memory"
    limits = [
        limit
        for path in (
            *_upwards(unified, own, "memory.max"),
            *_upwards(classic, own, "memory.limit_in_bytes"),
        )
        if (limit := _limit(path)) is not None
    ]
    return min(limits, default=None)


def _group(path: Path) -> str:
    """Our memory group: the v1 controller's line where there is one, else the v2 line."""
    try:
        rows = [line.strip().split(":", 2) for line in path.read_text().splitlines()]
    except OSError:
        return ""
    groups = {row[1]: row[2] for row in rows if len(row) == 3}
    return next((g for names, g in groups.items() if "memory" in names.split(",")), "") or (
        groups.get("", "")
    )


def _triton_shares(group: str, root: Path) -> bool:
    for name in (root / "proc").glob("[0-9]*/comm"):
        try:
            # A process may call itself what it likes, in bytes of no encoding too.
            is_triton = name.read_text(errors="replace").strip() == "tritonserver"
        except OSError:
            continue
        if is_triton and _group(name.with_name("cgroup")) == group:
            return True
    return False


def _upwards(mount: Path, group: str, file: str) -> list[Path]:
    """The file in the group and in every group above it: the tightest limit binds."""
    inner = mount / group.strip("/")
    return [folder / file for folder in (inner, *inner.parents) if folder.is_relative_to(mount)]


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    # Unlimited is the word max in version 2, and an absurdly large number in version 1.
    return int(text) if text.isdigit() and int(text) < 2**60 else None
