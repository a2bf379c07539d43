"""Triton itself, as a pod sees it: loads in channels, unloads, memory, and its own accidents.

Owns what is true of the server. Refuses to know who asks it for what, and why.

Facts it lives by: a load that no channel is free for waits inside; a model that is asked to
leave refuses new requests and finishes those it has; an unload of a model whose process has died
never ends, and a load over it heals it; a restart forgets everything.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from policies.snapshot import ErrorClass, ModelState
from simulations.pod.agenda import Agenda, Entry
from simulations.pod.place import Place
from simulations.pod.spec import LoadFault, PodSpec

Loaded = Callable[[float, float, ErrorClass | None], None]
"""Hears the end of a load: when, how long it was under way, and what went wrong."""


@dataclass(slots=True, eq=False)
class _Load:
    """left_s: work that remains as of the latest change of pace. ends: when it will be done.

    beside: of a model that serves meanwhile, and goes on when the load fails.
    """

    place: Place
    left_s: float
    fault: ErrorClass | None
    ended: Loaded
    bytes: int
    beside: bool
    began_s: float = 0.0
    ends: Entry | None = None


@dataclass(slots=True)
class Gauge:
    """Used memory, as old as the latest refresh."""

    interval_s: float | None
    used_bytes: int
    _shown_bytes: int = field(init=False)
    _changed_s: float = float("-inf")

    def __post_init__(self) -> None:
        self._shown_bytes = self.used_bytes

    def add(self, now_s: float, more_bytes: int) -> None:
        self.read(now_s)
        self.used_bytes += more_bytes
        self._changed_s = now_s

    def read(self, now_s: float) -> int | None:
        if self.interval_s is None:
            return None
        refreshed_s = now_s - now_s % self.interval_s if self.interval_s else now_s
        if self._changed_s <= refreshed_s:
            self._shown_bytes = self.used_bytes
        return self._shown_bytes

    def is_settled(self, now_s: float) -> bool:
        return self.read(now_s) in (None, self.used_bytes)


class SimTriton:
    """changed: called after any change of a model's state, with the place and the time."""

    def __init__(
        self,
        pod: PodSpec,
        agenda: Agenda,
        random: np.random.Generator,
        changed: Callable[[Place, float], None],
    ) -> None:
        self.gauge = Gauge(pod.gauge_s, pod.other_bytes)
        self.up = True
        self._pod, self._agenda, self._random = pod, agenda, random
        self._changed = changed
        self._running: list[_Load] = []
        self._queued: deque[_Load] = deque()
        self._paced_s = 0.0
        self._taken: dict[str, int] = {}

    def load(self, place: Place, now_s: float, ended: Loaded, *, goes_back: bool = False) -> None:
        """Begins to load ``place``, over what a dead process of it may have left.

        One that serves gets a second copy, which takes the place of the first when it is loaded.
        goes_back: from the files before those that lie there.
        """
        fault = self._fault(place, now_s)
        if fault is None and place.unusable and not goes_back:
            fault = LoadFault(place.name)
        beside = place.state is ModelState.READY
        work_s = (
            place.profile.load_s * self._jitter(self._pod.load_jitter) + self._pod.load_overhead_s
        )
        error_class = None if fault is None else fault.error_class
        work_s *= 1.0 if fault is None else fault.after
        peak_bytes = round(place.profile.size_bytes * place.profile.peak)
        if beside:
            peak_bytes += self._taken.get(place.name, 0)
        else:
            self._state(place, ModelState.LOADING, now_s)
        place.known = True
        self._queued.append(_Load(place, work_s, error_class, ended, peak_bytes, beside))
        self._start_queued(now_s)

    def begin_with(self, place: Place) -> None:
        """``place`` is there from the start."""
        place.known = True
        self._hold(place, place.profile.size_bytes, 0.0)
        self._state(place, ModelState.READY, 0.0)

    def unload(self, place: Place, now_s: float) -> None:
        """Lets ``place`` go once its requests have ended."""
        self._state(place, ModelState.UNLOADING, now_s)
        place.known = True
        if place.dead:
            return
        idle_s = max(now_s, place.servers.empties_s())
        version = place.version
        takes_s = place.profile.unload_s * self._jitter(self._pod.unload_jitter)
        gone_s = idle_s + takes_s + self._pod.unload_overhead_s

        def gone(at_s: float) -> None:
            if place.version == version and place.state is ModelState.UNLOADING:
                leaked = round(place.profile.size_bytes * self._pod.leak)
                self._hold(place, leaked, at_s)
                self._taken.pop(place.name, None)
                self._state(place, ModelState.UNLOADED, at_s)

        self._agenda.at(gone_s, gone)

    def die(self, place: Place, now_s: float) -> None:
        """The process of ``place`` ends; nobody is told."""
        if place.state is ModelState.READY:
            place.dead = True
            self._hold(place, 0, now_s)
            self._changed(place, now_s)

    def stop(self, places: list[Place], now_s: float) -> None:
        """Triton's process ends with everything in it."""
        self.up = False
        lost, self._running = [*self._running, *self._queued], []
        self._queued.clear()
        for load in lost:
            if load.ends is not None:
                load.ends.call_off()
        self._taken.clear()
        self.gauge.add(now_s, self._pod.other_bytes - self.gauge.used_bytes)
        for place in places:
            place.known = place.dead = False
            place.version += 1
            if place.state is not ModelState.UNLOADED:
                self._state(place, ModelState.UNLOADED, now_s)
        for load in lost:
            took_s = now_s - load.began_s if load.ends is not None else 0.0
            load.ended(now_s, took_s, ErrorClass.UNAVAILABLE)

    def _state(self, place: Place, state: ModelState, now_s: float) -> None:
        place.state = state
        self._changed(place, now_s)

    def _hold(self, place: Place, amount_bytes: int, now_s: float) -> None:
        """``place`` takes so many bytes of the device from now on."""
        before = self._taken.get(place.name, 0)
        self._taken[place.name] = amount_bytes
        if amount_bytes != before:
            self.gauge.add(now_s, amount_bytes - before)

    def _fault(self, place: Place, now_s: float) -> LoadFault | None:
        for fault in self._pod.failures.loads:
            is_due = fault.model == place.name and fault.from_s <= now_s < fault.to_s
            if is_due and (fault.probability >= 1 or self._random.random() < fault.probability):
                return fault
        return None

    def _jitter(self, sigma: float) -> float:
        return float(np.exp(sigma * self._random.standard_normal())) if sigma > 0 else 1.0

    # Loads under way slow each other down, so each change of their number changes their ends.

    def _start_queued(self, now_s: float) -> None:
        self._work_until(now_s)
        while self._queued and len(self._running) < self._pod.channels:
            load = self._queued.popleft()
            load.began_s = now_s
            taken_bytes = self._taken.get(load.place.name, 0) if load.beside else 0
            if self.gauge.used_bytes - taken_bytes + load.bytes > self._pod.device_bytes:
                load.fault = ErrorClass.MEMORY
            else:
                self._hold(load.place, load.bytes, now_s)
            self._running.append(load)
        self._set_ends(now_s)

    def _slowness(self) -> float:
        return 1 + self._pod.load_interference * max(0, len(self._running) - 1)

    def _work_until(self, now_s: float) -> None:
        done_s = (now_s - self._paced_s) / self._slowness()
        for load in self._running:
            load.left_s = max(0.0, load.left_s - done_s)
        self._paced_s = now_s

    def _set_ends(self, now_s: float) -> None:
        for load in self._running:
            ends_s = now_s + load.left_s * self._slowness()
            if load.ends is not None:
                if not self._pod.load_interference:
                    continue
                load.ends.call_off()
            load.ends = self._agenda.at(ends_s, partial(self._end, load))

    def _end(self, load: _Load, now_s: float) -> None:
        self._work_until(now_s)
        self._running.remove(load)
        place = load.place
        if load.beside:
            self._hold(place, place.profile.size_bytes, now_s)
            place.dead &= load.fault is not None
            self._start_queued(now_s)
            load.ended(now_s, now_s - load.began_s, load.fault)
            return
        place.version += 1
        place.dead = False
        if load.fault is None:
            self._hold(place, place.profile.size_bytes, now_s)
            self._state(place, ModelState.READY, now_s)
        else:
            self._hold(place, 0, now_s)
            self._state(place, ModelState.UNLOADED, now_s)
        self._start_queued(now_s)
        load.ended(now_s, now_s - load.began_s, load.fault)
