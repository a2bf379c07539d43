"""What the sidecar's own hand does to Triton: plans carried out, each action until it is over.

Owns the course of loads, drains and unloads, as a live sidecar goes about them, and what it
learns from them. Refuses to decide, and to know what Triton makes of a call.

The product's invariant is asserted here, where memory is promised: resident models, plus loads
at the policy's peak, plus unloads until they are seen to be over, never exceed the budget.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from policies.actions import Action, Load, Reason, Unload
from policies.policy import Policy
from policies.snapshot import ErrorClass, LoadFailure, ModelState
from simulations.pod.agenda import Agenda
from simulations.pod.door import Door
from simulations.pod.place import Place
from simulations.pod.spec import PodSpec
from simulations.pod.tally import Tally
from simulations.pod.triton import SimTriton

LATEST_LOAD_WEIGHT = 0.3
LATEST_UNLOAD_WEIGHT = 0.3
_LEAST_POLLS = 1e-9


@dataclass(slots=True, eq=False)
class _Task:
    """One action under way. over: Triton's end has ended it, and what is still due is void."""

    action: Action
    names: tuple[str, ...]
    over: bool = False
    called_off: bool = False


@dataclass(slots=True)
class Hand:
    """budget_bytes: what the assertion holds against; None where the policy knows none.

    wake: makes the sidecar look at once. unload_s: what unloads take, averaged as they end.
    """

    policy: Policy
    pod: PodSpec
    agenda: Agenda
    triton: SimTriton
    door: Door
    tally: Tally
    places: Mapping[str, Place]
    budget_bytes: int | None
    wake: Callable[[float], None]
    unload_s: float | None = None
    _tasks: list[_Task] = field(default_factory=list)

    def start(self, action: Action, now_s: float) -> None:
        """Begins ``action``, unless any of its models is already being handled."""
        names = action.brings if isinstance(action, Load) else (action.model, *action.takes)
        names = tuple(dict.fromkeys((*names, action.model)))
        places = [self.places[name] for name in names]
        if any(place.ours is not None or place.copying for place in places):
            return
        task = _Task(action, names)
        self._tasks.append(task)
        if isinstance(action, Load) and action.is_update:
            self._copy(task, action, now_s)
        elif isinstance(action, Load):
            for name in names:
                self._take(self.places[name], ModelState.LOADING, now_s)
            self._assert_within_budget(action.model, now_s)
            self._load_next(task, action, (*action.first, action.model), now_s)
        else:
            self.door.shut(names)
            self._drain(task, action, now_s)

    def begin_with(self, name: str) -> None:
        """``name`` is there from the start, and took no load of ours."""
        place = self.places[name]
        self._reserve(place, place.reserve_bytes, 0.0)
        self._assert_within_budget(name, 0.0)
        self.triton.begin_with(place)
        self.tally.is_there(place)

    def call_off(self, wanted: Iterable[Unload]) -> None:
        """Ends every drain that is not among the unloads ``wanted`` now."""
        still = {(action.model, *action.takes) for action in wanted}
        for task in self._tasks:
            if isinstance(task.action, Unload) and self.places[task.action.model].draining:
                leaving = (task.action.model, *task.action.takes)
                task.called_off |= leaving not in still

    def lost(self, now_s: float) -> None:
        """Triton has ended: whatever was asked of it gets no answer."""
        for task in list(self._tasks):
            if isinstance(task.action, Unload):
                self._end_unload(task, now_s)

    def release(self, place: Place, now_s: float) -> None:
        """Triton has ended, and ``place`` takes nothing any more."""
        self._reserve(place, 0, now_s)

    # What our hand holds, and what that reserves.

    def _take(self, place: Place, state: ModelState, now_s: float) -> None:
        place.ours = state
        if state is ModelState.LOADING:
            self._reserve(place, place.peak_bytes, now_s)

    def _assert_within_budget(self, name: str, now_s: float) -> None:
        reserved_bytes = self.tally.reserved_bytes
        assert self.budget_bytes is None or reserved_bytes <= self.budget_bytes, (
            f"{name}: {reserved_bytes} bytes reserved at {now_s} s, "
            f"of a budget of {self.budget_bytes}"
        )

    def _let_go(self, task: _Task, now_s: float) -> None:
        task.over = True
        self._tasks.remove(task)
        for name in task.names:
            place = self.places[name]
            place.ours_before, place.ours_until_s = place.ours, now_s
            place.ours, place.overdue, place.draining = None, False, False
            self.door.changed(place, now_s)
        self.wake(now_s)

    def _reserve(self, place: Place, amount_bytes: int, now_s: float) -> None:
        more_bytes = amount_bytes - place.reserved_bytes
        place.reserved_bytes = amount_bytes
        self.tally.reserve(now_s, more_bytes)

    # Loads.

    def _copy(self, task: _Task, action: Load, now_s: float) -> None:
        """Loads a second copy of a model that serves. What it calls is here, as it has served."""
        place = self.places[action.model]
        place.copying = True
        self._reserve(place, place.reserve_bytes + place.peak_bytes, now_s)
        self._assert_within_budget(action.model, now_s)
        reads = place.revision

        def begin(at_s: float) -> None:
            if task.over or not self.triton.up or place.state is not ModelState.READY:
                ended(at_s, 0.0, ErrorClass.UNAVAILABLE)
                return
            self.tally.copy_begins(action.reason.value)
            self.triton.load(place, at_s, ended)

        def ended(at_s: float, took_s: float, error_class: ErrorClass | None) -> None:
            self.tally.copy_ends(took_s)
            place.copying = False
            if error_class is not None:
                self._load_failed(task, place, error_class, at_s)
                return
            self._learn_load(place, at_s - now_s)
            place.loaded_revision = reads
            self._reserve(place, place.reserve_bytes, at_s)
            self._let_go(task, at_s)

        self.agenda.at(now_s + self.pod.ask_s, begin)

    def _load_next(self, task: _Task, action: Load, names: tuple[str, ...], now_s: float) -> None:
        """Loads the first of ``names``, and after it the others."""
        place = self.places[names[0]]
        if place.state is ModelState.READY and len(names) > 1:
            self._reserve(place, place.reserve_bytes, now_s)
            self._load_next(task, action, names[1:], now_s)
            return
        reads, goes_back = place.revision, bool(action.versions)
        asked_s = now_s + self.pod.ask_s

        def begin(at_s: float) -> None:
            if task.over or not self.triton.up:
                self._load_failed(task, place, ErrorClass.UNAVAILABLE, at_s)
                return
            self.tally.load_begins(place, at_s, action.reason.value)
            self._watch_deadline(task, place, at_s)
            self.triton.load(place, at_s, ended, goes_back=goes_back)

        def ended(at_s: float, took_s: float, error_class: ErrorClass | None) -> None:
            self.tally.load_ends(place, at_s, took_s, well=error_class is None)
            if error_class is not None:
                place.former &= not goes_back
                self._load_failed(task, place, error_class, at_s)
                return
            self._learn_load(place, at_s - asked_s)
            place.sick = False
            place.former &= goes_back
            place.loaded_revision = -1 if goes_back else reads
            self._reserve(place, place.reserve_bytes, at_s)
            if len(names) > 1:
                self._load_next(task, action, names[1:], at_s)
            else:
                self._let_go(task, at_s)
            self.door.changed(place, at_s)

        self.agenda.at(asked_s, begin)

    def _watch_deadline(self, task: _Task, place: Place, now_s: float) -> None:
        version = place.version

        def late(_at_s: float) -> None:
            if not task.over and place.version == version:
                place.overdue = place.state is ModelState.LOADING
                self.door.touch(place)

        self.agenda.at(now_s + self.policy.loads.timeout_s, late)

    def _load_failed(
        self, task: _Task, place: Place, error_class: ErrorClass, now_s: float
    ) -> None:
        at_s = self.pod.epoch_s + now_s
        place.failure = LoadFailure(at_s, error_class, "injected")
        self.places[task.action.model].failure = place.failure
        self.tally.notes[f"load failed: {error_class.value}"] += 1
        for name in task.names:
            other = self.places[name]
            here = other.state is ModelState.READY
            self._reserve(other, other.reserve_bytes if here else 0, now_s)
        self._let_go(task, now_s)

    def _learn_load(self, place: Place, took_s: float) -> None:
        known_s = took_s if place.load_s is None else place.load_s
        place.load_s = known_s + LATEST_LOAD_WEIGHT * (took_s - known_s)

    # Unloads.

    def _drain(self, task: _Task, action: Unload, now_s: float) -> None:
        """Lets requests inside finish where they are counted, then sends the unload."""
        deadline_s = now_s + self.policy.unloads.drain_s
        places = [self.places[name] for name in task.names]
        for place in places:
            place.ours, place.draining = ModelState.UNLOADING, True

        def look(at_s: float) -> None:
            if task.over:
                return
            inside = not self.pod.through_envoy and not all(
                p.servers.is_empty(at_s) for p in places
            )
            if inside and task.called_off:
                self.tally.notes["drain called off"] += 1
                self._end_unload(task, at_s)
            elif inside and at_s < deadline_s:
                self.agenda.at(at_s + self.pod.drain_poll_s, look)
            else:
                for place in places:
                    place.draining = False
                    place.former = action.reason is Reason.UPDATED
                self.tally.unload_begins(
                    action.reason.value, evicted=action.reason is Reason.EVICTED
                )
                self._unload_next(task, task.names, at_s)

        look(now_s)

    def _unload_next(self, task: _Task, names: tuple[str, ...], now_s: float) -> None:
        """Unloads the first of ``names``, and once it is seen to be gone the others."""
        place = self.places[names[0]]
        if not self.triton.up:
            self._end_unload(task, now_s)
            return
        self.triton.unload(place, now_s)
        stuck_s = now_s + self.policy.unloads.stuck_s

        def look(at_s: float) -> None:
            if task.over:
                return
            if place.state is ModelState.UNLOADED:
                self._unloaded(task, place, names, at_s - now_s, at_s)
            elif at_s > stuck_s:
                self._end_unload(task, at_s)
            else:
                self.agenda.at(self._next_poll_s(place, now_s, at_s), look)

        look(now_s)

    def _next_poll_s(self, place: Place, began_s: float, now_s: float) -> float:
        """When the next look is over: looks that are sure to see nothing are left out."""
        every_s = self.pod.unload_poll_s + self.pod.ask_s
        if place.dead or self.pod.unload_jitter:
            return now_s + every_s
        sure_s = max(place.servers.empties_s(), began_s) + place.profile.unload_s
        polls = max(1, math.ceil((sure_s - now_s) / every_s - _LEAST_POLLS))
        polls_until_stuck = math.ceil(self.policy.unloads.stuck_s / every_s)
        return now_s + min(polls, polls_until_stuck + 1) * every_s

    def _unloaded(
        self,
        task: _Task,
        place: Place,
        names: tuple[str, ...],
        took_s: float,
        now_s: float,
    ) -> None:
        known_s = took_s if self.unload_s is None else self.unload_s
        self.unload_s = round(known_s + LATEST_UNLOAD_WEIGHT * (took_s - known_s), 3)
        place.sick = False
        self._reserve(place, 0, now_s)
        self.tally.gone(place, now_s)
        if len(names) > 1:
            self._unload_next(task, names[1:], now_s)
        else:
            self._end_unload(task, now_s)

    def _end_unload(self, task: _Task, now_s: float) -> None:
        self._let_go(task, now_s)
        self.door.unshut([self.places[name] for name in task.names], now_s)
