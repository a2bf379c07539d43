"""Measures a model's footprint: what a device's use grew by around a load that ran alone.

Owns the waiting for a quiet moment on both sides of a load. Refuses to know how use is
read; it is told, once a tick.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# Gauges are as old as Triton's refresh interval; somewhat more than one of them is waited.
SETTLE_INTERVALS = 1.25
# Less than this is the noise of allocators and of other processes.
NOISE_BYTES = 4 * 2**20


@dataclass(slots=True)
class _Load:
    before: Mapping[str, int]
    ended_at_s: float | None = None
    alone: bool = True


class Measuring:
    """Follows loads and unloads; answers with the growth once it can be trusted."""

    def __init__(self, refresh_s: float) -> None:
        """refresh_s: how often the gauges are refreshed."""
        self._settle_s = SETTLE_INTERVALS * refresh_s
        self._used: Mapping[str, int] = {}
        self._quiet_since_s: float | None = None
        self._moving: set[str] = set()
        self._loads: dict[str, _Load] = {}

    def began(self, name: str, *, is_load: bool) -> None:
        """A load or an unload of ``name`` begins; it spoils every measurement under way."""
        for load in self._loads.values():
            load.alone = False
        # Use is known only while nothing moves, so this one begins alone.
        if is_load and self._used:
            self._loads[name] = _Load(self._used)
        self._moving.add(name)
        self._quiet_since_s = None
        self._used = {}

    def ended(self, name: str, now_s: float, *, well: bool) -> None:
        self._moving.discard(name)
        load = self._loads.get(name)
        if load is not None and well:
            load.ended_at_s = now_s
        else:
            self._loads.pop(name, None)

    def observe(self, used: Mapping[str, int], now_s: float) -> dict[str, dict[str, int]]:
        """Takes in the devices' use in bytes; returns growth by model and device."""
        if self._moving:
            return {}
        measured = {}
        for name, load in list(self._loads.items()):
            if not load.alone:
                del self._loads[name]
            elif load.ended_at_s is not None and now_s - load.ended_at_s >= self._settle_s:
                measured[name] = _growth(load.before, used)
                del self._loads[name]
        if self._quiet_since_s is None:
            self._quiet_since_s = now_s
        # A reading taken right after a change still shows the world before it.
        if now_s - self._quiet_since_s >= self._settle_s:
            self._used = used
        return {name: growth for name, growth in measured.items() if growth}


def _growth(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    return {
        device: grown
        for device, amount in after.items()
        if device in before and (grown := amount - before[device]) > NOISE_BYTES
    }
