"""What files tell of models, laid over what is drawn for them.

Owns how a size that is known becomes a load time, by the same law that sizes are drawn under.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from simulations.workloads.catalogue import Profile, drawn

_START_S = 1.0
_BYTES_PER_S = 2e9


def load_s(size_bytes: float) -> float:
    """Seconds that a load takes where nobody measured it."""
    return _START_S + size_bytes / _BYTES_PER_S


def catalogue(
    names: Sequence[str],
    seed: int,
    *,
    size_bytes: Mapping[str, int] | None = None,
    service_s: Mapping[str, float] | None = None,
) -> dict[str, Profile]:
    """A profile for each name: as drawn, but for sizes and service times that are known."""
    profiles = drawn(names, seed)
    for name, size in (size_bytes or {}).items():
        profiles[name] = replace(profiles[name], size_bytes=size, load_s=load_s(size))
    for name, service in (service_s or {}).items():
        profiles[name] = replace(profiles[name], service_s=service)
    return profiles
