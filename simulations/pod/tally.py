"""What a simulated pod's run comes to: waits, failures, cold starts, memory and stays.

Owns the counting, as `simulations.outcome` defines it. Refuses to know why things happen.

A cold start is one absence of a model in which it was asked for. Its visible seconds are those
in which somebody waited: until it was READY, or the last one had given up.
"""

from array import array
from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.snapshot import ModelState
from simulations.outcome import Outcome, Stay
from simulations.pod.place import Place
from simulations.pod.servers import Request


class Cold(NamedTuple):
    """What was not there when it was asked for, as `simulations.outcome` has it."""

    requests: float = 0.0
    starts: int = 0
    visible_s: float = 0.0


class Tally:
    """Everything counted so far. Waits stand in the order of arrivals, whenever they ended."""

    def __init__(self, *, keep_stays: bool) -> None:
        self.arrived = 0
        self.notes: Counter[str] = Counter()
        self._wait_s = array("d")
        self._weights: list[NDArray[np.float64]] = []
        self._failed = 0.0
        self._cold_requests = 0.0
        self._cold_starts = 0
        self._visible_cold_s = 0.0
        self._load_s = 0.0
        self._loads = self._prewarms = self._used_prewarms = self._evictions = 0
        self._reserved_bytes = 0
        self._memory_s = array("d", [0.0])
        self._memory_bytes = array("d", [0.0])
        self._keep_stays = keep_stays
        self._stays: list[Stay] = []
        self._began_s: dict[str, float] = {}
        self._ready_s: dict[str, float] = {}

    @property
    def reserved_bytes(self) -> int:
        return self._reserved_bytes

    @property
    def cold_so_far(self) -> Cold:
        return Cold(self._cold_requests, self._cold_starts, self._visible_cold_s)

    # Requests.

    def expect(self, weight: NDArray[np.float64]) -> None:
        """More arrivals, which will be told of by their number."""
        self.arrived += len(weight)
        self._wait_s.frombytes(np.full(len(weight), np.nan).tobytes())
        self._weights.append(weight)

    def served(self, request: Request, wait_s: float) -> None:
        self._wait_s[request.number] = wait_s

    def failed(self, request: Request, why: str) -> None:
        self._failed += request.weight
        self.notes[f"failed: {why}"] += request.weight  # type: ignore[assignment]

    def cold(self, place: Place, weight: float) -> None:
        """A request did not find its model ready."""
        self._cold_requests += weight
        if not place.missed_before:
            self._cold_starts += 1
        place.missed_before = True
        self.asked(place)

    def asked(self, place: Place) -> None:
        if place.unused:
            place.unused = False
            self._used_prewarms += 1

    def waits(self, place: Place, at_s: float) -> None:
        """Somebody begins to wait for the model."""
        if place.wanted_since_s is None:
            place.wanted_since_s = at_s

    def waits_no_more(self, place: Place, at_s: float) -> None:
        """The model serves, or the last one who waited for it has given up."""
        if place.wanted_since_s is not None:
            self._visible_cold_s += at_s - place.wanted_since_s
            place.wanted_since_s = None

    # Models.

    def load_begins(self, place: Place, at_s: float, reason: str) -> None:
        self._loads += 1
        self.notes[f"load: {reason}"] += 1
        # A load over a dead process ends the stay before it.
        self._leave(place, at_s)
        self._began_s[place.name] = at_s
        place.unused = not place.missed_before
        self._prewarms += place.unused

    def copy_begins(self, reason: str) -> None:
        """A model that serves is loaded anew; its stay goes on."""
        self._loads += 1
        self.notes[f"load: {reason}, beside"] += 1

    def copy_ends(self, took_s: float) -> None:
        self._load_s += took_s

    def is_there(self, place: Place) -> None:
        """The model was resident before the run began."""
        self._began_s[place.name] = self._ready_s[place.name] = 0.0

    def load_ends(self, place: Place, at_s: float, took_s: float, *, well: bool) -> None:
        """took_s: how long it was really under way, the queue for a channel left out."""
        self._load_s += took_s
        if well:
            self._ready_s[place.name] = at_s
        else:
            self._leave(place, at_s)

    def unload_begins(self, reason: str, *, evicted: bool) -> None:
        self._evictions += evicted
        self.notes[f"unload: {reason}"] += 1

    def gone(self, place: Place, at_s: float) -> None:
        """The model has left memory, by our act or by Triton's end."""
        self._leave(place, at_s)
        place.unused = False

    def reserve(self, at_s: float, more_bytes: int) -> None:
        if not more_bytes:
            return
        self._reserved_bytes += more_bytes
        if self._memory_s[-1] == at_s:
            self._memory_bytes[-1] = self._reserved_bytes
        else:
            self._memory_s.append(at_s)
            self._memory_bytes.append(self._reserved_bytes)

    def _leave(self, place: Place, at_s: float) -> None:
        began_s = self._began_s.pop(place.name, None)
        ready_s = self._ready_s.pop(place.name, at_s)
        if self._keep_stays and began_s is not None:
            self._stays.append(Stay(place.name, began_s, ready_s, at_s))

    # The end.

    def outcome(
        self,
        policy: str,
        budget_bytes: int,
        duration_s: float,
        request_s: float,
        places: list[Place],
        at_s: float,
    ) -> Outcome:
        for place in places:
            if place.state is not ModelState.UNLOADED:
                self._leave(place, at_s)
        wait_s = np.frombuffer(self._wait_s, np.float64) if self.arrived else np.empty(0)
        weight = np.concatenate(self._weights) if self._weights else np.empty(0)
        served = ~np.isnan(wait_s)
        return Outcome(
            policy=policy,
            budget_bytes=budget_bytes,
            duration_s=duration_s,
            requests=float(weight.sum()),
            cold_requests=self._cold_requests,
            cold_starts=self._cold_starts,
            visible_cold_s=self._visible_cold_s,
            load_s=self._load_s,
            loads=self._loads,
            prewarms=self._prewarms,
            used_prewarms=self._used_prewarms,
            evictions=self._evictions,
            failed=self._failed,
            wait_s=wait_s[served] + request_s,
            wait_weight=weight[served],
            served=served,
            memory_s=np.array(self._memory_s),
            memory_bytes=np.array(self._memory_bytes),
            stays=tuple(sorted(self._stays, key=lambda stay: (stay.from_s, stay.model))),
            notes={name: float(self.notes[name]) for name in sorted(self.notes)},
        )
