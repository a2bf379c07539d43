"""What is due, and when: the virtual clock of a simulated pod.

Owns the order of events. Two that are due at the same moment happen in the order in which
they were entered, so that a run depends on nothing but its input.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

FAR_S = float("inf")

Act = Callable[[float], None]


@dataclass(slots=True)
class Entry:
    """Something due at ``at_s``; ``act`` is called with that time, or is None when called off."""

    at_s: float
    act: Act | None

    def call_off(self) -> None:
        self.act = None


@dataclass(slots=True)
class Agenda:
    """now_s: when the latest event was due."""

    now_s: float = 0.0
    _heap: list[tuple[float, int, Entry]] = field(default_factory=list)
    _entered: int = 0

    def at(self, at_s: float, act: Act) -> Entry:
        entry = Entry(at_s, act)
        heappush(self._heap, (at_s, self._entered, entry))
        self._entered += 1
        return entry

    @property
    def next_s(self) -> float:
        """When something is due next, called off or not; `FAR_S` when nothing is."""
        return self._heap[0][0] if self._heap else FAR_S

    def do_next(self) -> None:
        _, _, entry = heappop(self._heap)
        if entry.act is not None:
            self.now_s = entry.at_s
            entry.act(entry.at_s)
