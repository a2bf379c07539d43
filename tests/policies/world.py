"""An imagined Triton, small enough to be believed: what plans are tried on.

Owns its models' true sizes and states, and a clock that moves only when told. It counts
what is reserved by itself, so that `policies.memory` is judged by somebody else. Refuses
to sleep, to draw lots and to forgive: a load that would make a second copy unasked, or a third
one, is an error.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from policies.actions import Action, Plan, Reason, Unload
from policies.history import History
from policies.peers import Copies
from policies.planner import plan
from policies.policy import Policy
from policies.snapshot import (
    Device,
    ErrorClass,
    Footprint,
    FootprintSource,
    LoadFailure,
    Model,
    ModelState,
    Snapshot,
)

GIB = 2**30
MONDAY_S = 1_764_547_200.0  # Monday, 2025-12-01, midnight UTC
NEVER_S = float("inf")
_BEFORE = "those from before"
GPU = "GPU-0"

UNLOADED, LOADING = ModelState.UNLOADED, ModelState.LOADING
READY, UNLOADING = ModelState.READY, ModelState.UNLOADING


@dataclass(slots=True)
class Guest:
    """One model of the imagined repository.

    sizes: true bytes by device; known_size: whether the snapshot tells them.
    fails: how many of its next loads fail. hangs: its next unload never ends.
    waits: whether its requests are held for it (a front door), or lost while it is absent.
    drain_s: how long requests inside take to end once its unload is decided.
    leases: streams open on it.
    served: the revision that it was last loaded from. reverts: its versions from before a swap are
        kept beside the changed ones, so that it can go back to them.
    former_until_s: when the copy is gone that a new one has replaced.
    expected_rate, fleet: what is said of it from outside.
    """

    name: str
    sizes: dict[str, int]
    load_s: float = 2.0
    unload_s: float = 1.0
    steps: tuple[str, ...] = ()
    known_size: bool = True
    fails: int = 0
    error_class: ErrorClass = ErrorClass.INITIALISATION
    waits: bool = False
    drain_s: float = 0.0
    leases: int = 0
    state: ModelState = UNLOADED
    until_s: float = NEVER_S
    copies: int = 1
    stale: bool = False
    sick: bool = False
    hangs: bool = False
    forgotten: bool = False
    revision: str = "1"
    served: str = "1"
    changed_at_s: float = MONDAY_S
    reverts: bool = False
    has_former: bool = False
    former_until_s: float = -NEVER_S
    failure: LoadFailure | None = None
    arrivals: float = 0.0
    expected_rate: float | None = None
    fleet: Copies | None = None
    waiting_since_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Visit:
    """A load under way: its root, all that it brings or copies, and the files it reads."""

    root: str
    brings: tuple[str, ...]
    copies: tuple[str, ...]
    until_s: float
    revisions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Drain:
    """An unload decided and not sent: the models to leave, and when nothing is inside them."""

    names: tuple[str, ...]
    until_s: float


@dataclass(slots=True)
class World:
    """Triton, its devices and its models, and the hand that drains them.

    devices: total bytes of each. foreign: bytes that other processes use there.
    called_off: drains that the plan gave up.
    copies: where models stand in the fleet. leaving: this pod is on its way out of it.
    """

    devices: dict[str, int]
    guests: dict[str, Guest]
    now_s: float = MONDAY_S
    foreign: dict[str, int] = field(default_factory=dict)
    measured: bool = True
    visits: list[Visit] = field(default_factory=list)
    drains: list[Drain] = field(default_factory=list)
    called_off: int = 0
    copies: dict[str, Copies | None] = field(default_factory=dict)
    leaving: bool = False
    history: History = field(default_factory=History)

    # --- what is seen

    def snapshot(self) -> Snapshot:
        models = {name: self._seen(guest) for name, guest in self.guests.items()}
        devices = {
            name: Device(name, total, self.used(name) if self.measured else None)
            for name, total in self.devices.items()
        }
        return Snapshot(self.now_s, devices=devices, models=models, leaving=self.leaving)

    def _seen(self, guest: Guest) -> Model:
        known = Footprint(dict(guest.sizes), FootprintSource.MEASURED)
        waiting = guest.waiting_since_s
        return Model(
            guest.name,
            state=guest.state,
            footprint=known if guest.known_size else None,
            load_s=guest.load_s,
            arrivals=guest.arrivals,
            waiting=len(waiting),
            oldest_wait_s=self.now_s - min(waiting) if waiting else 0.0,
            leases=guest.leases,
            draining=self.drains_now(guest.name),
            steps=guest.steps,
            stale=guest.stale,
            sick=guest.sick,
            forgotten=guest.forgotten,
            updating=guest.copies > 1,
            former=guest.copies == 1 and self._has_former(guest),
            outdated_since_s=guest.changed_at_s if self._is_outdated(guest) else None,
            fallback=(1,) if guest.has_former and guest.state is not READY else (),
            revision=guest.revision,
            failure=guest.failure,
            copies=self.copies.get(guest.name, guest.fleet),
            expected_rate=guest.expected_rate,
        )

    def _has_former(self, guest: Guest) -> bool:
        return guest.state is READY and self.now_s < guest.former_until_s

    def _is_outdated(self, guest: Guest) -> bool:
        return guest.state is READY and guest.copies == 1 and guest.served != guest.revision

    def drains_now(self, name: str) -> bool:
        is_ready = self.guests[name].state is READY
        return is_ready and any(name in drain.names for drain in self.drains)

    def used(self, device: str) -> int:
        here = (g for g in self.guests.values() if g.state is not UNLOADED)
        copies = ((g, g.copies + self._has_former(g)) for g in here)
        return self.foreign.get(device, 0) + sum(n * g.sizes.get(device, 0) for g, n in copies)

    def reserved(self, policy: Policy, device: str) -> int:
        """Resident, loading at its peak and unloading, counted from the truth."""
        total = 0
        for guest in self.guests.values():
            size = guest.sizes.get(device, 0)
            peak = round(size * policy.peak_factor(guest.name)) if guest.known_size else size
            if guest.state is LOADING:
                total += peak
            elif guest.state is not UNLOADED:
                total += size + (guest.copies - 1) * peak + self._has_former(guest) * size
        return total

    def residents(self) -> set[str]:
        return {name for name, guest in self.guests.items() if guest.state is READY}

    # --- what happens by itself

    def wait(self, seconds: float) -> None:
        """Time passes; what is drained, loaded or unloaded by then goes on or ends."""
        self.now_s += seconds
        for drain in [d for d in self.drains if d.until_s <= self.now_s]:
            self.drains.remove(drain)
            for name in drain.names:
                self.unload(name)
        for visit in [v for v in self.visits if v.until_s <= self.now_s]:
            self.visits.remove(visit)
            self._arrive(visit)
        for guest in self.guests.values():
            if guest.state is UNLOADING and guest.until_s <= self.now_s:
                guest.state, guest.sick = UNLOADED, False

    def _arrive(self, visit: Visit) -> None:
        asked_for = [name for name in (*visit.brings, visit.root) if self.guests[name].fails > 0]
        failing = list(dict.fromkeys(asked_for))
        for name in visit.copies:
            guest = self.guests[name]
            guest.copies, has_come = 1, not failing
            if has_come:
                self._serves(guest, visit)
                guest.former_until_s = self.now_s + guest.unload_s
        if failing and visit.root in visit.copies:
            root = self.guests[visit.root]
            root.fails = max(0, root.fails - 1)
            root.failure = LoadFailure(self.now_s, root.error_class, "it broke")
        lost = {*failing, *(visit.brings[-1:] if failing else ())}
        for name in visit.brings:
            guest = self.guests[name]
            guest.state = UNLOADED if name in lost else READY
            guest.sick = guest.forgotten = guest.stale = False
            if name not in lost:
                self._serves(guest, visit)
            if name in lost:
                guest.fails = max(0, guest.fails - 1)
                guest.failure = LoadFailure(self.now_s, guest.error_class, "it broke")
            else:
                guest.waiting_since_s.clear()

    def _serves(self, guest: Guest, visit: Visit) -> None:
        guest.served = visit.revisions[guest.name]
        guest.stale = guest.served not in (guest.revision, _BEFORE)
        if guest.served != _BEFORE:
            guest.has_former = False

    def change(self, name: str) -> None:
        """Its files change."""
        guest = self.guests[name]
        guest.revision += "'"
        guest.changed_at_s = self.now_s
        guest.stale = guest.state is READY and not guest.steps and guest.copies == 1

    def ask(self, name: str, requests: float = 1.0) -> None:
        """Requests arrive; a model that is away or drains keeps those of a front door waiting."""
        guest = self.guests[name]
        guest.arrivals += requests
        if guest.waits and (guest.state is not READY or self.drains_now(name)):
            guest.waiting_since_s += [self.now_s] * int(requests)

    def restart(self) -> None:
        for guest in self.guests.values():
            guest.forgotten = guest.forgotten or guest.state in (READY, LOADING)
            guest.state, guest.copies, guest.until_s = UNLOADED, 1, NEVER_S
            guest.sick = guest.stale = guest.hangs = False
            guest.leases, guest.former_until_s = 0, -NEVER_S
        self.visits.clear()
        self.drains.clear()

    def sicken(self, name: str, *, hangs: bool = False) -> None:
        """Its process dies; Triton goes on calling it READY."""
        guest = self.guests[name]
        guest.sick, guest.hangs = True, hangs
        guest.failure = LoadFailure(self.now_s, ErrorClass.UNHEALTHY, "its process died")

    # --- what is done to it

    def load(
        self,
        name: str,
        first: Iterable[str] = (),
        *,
        beside: bool = False,
        versions: tuple[int, ...] = (),
    ) -> tuple[str, ...]:
        """Begins a load as Triton does it: missing steps come along, stale ones twice.

        beside: of a model that is here, which gets a second copy.
        """
        brings: list[str] = []
        copies: list[str] = []
        for root in (*first, *(() if beside else (name,))):
            self._gather(root, brings, copies)
        if beside:
            self._gather_copy(name, brings, copies)
        assert name in (copies if beside else brings), f"{name} is here already"
        took_s = sum(self.guests[member].load_s for member in (*brings, *copies))
        for member in brings:
            self.guests[member].state, self.guests[member].hangs = LOADING, False
        for member in copies:
            assert self.guests[member].copies == 1, f"this would make a third copy of {member}"
            self.guests[member].copies = 2
        read = {n: _BEFORE if versions else self.guests[n].revision for n in (*brings, *copies)}
        end_s = self.now_s + took_s
        self.visits.append(Visit(name, tuple(brings), tuple(copies), end_s, read))
        return tuple(brings)

    def _gather_copy(self, name: str, brings: list[str], copies: list[str]) -> None:
        assert self.guests[name].state is READY, f"{name} is not here"
        for step in self.guests[name].steps:
            if self.guests[step].state is not READY:
                self._gather(step, brings, copies)
            elif self.guests[step].stale:
                copies.append(step)
        copies.append(name)

    def _gather(self, name: str, brings: list[str], copies: list[str]) -> None:
        guest = self.guests[name]
        stuck = guest.state is UNLOADING and guest.until_s == NEVER_S
        assert guest.state is UNLOADED or stuck, f"{name} is {guest.state}: not to be loaded"
        for step in guest.steps:
            inner = self.guests[step]
            if inner.state is READY and inner.stale and step not in copies:
                copies.append(step)
            elif inner.state is not READY and step not in brings:
                self._gather(step, brings, copies)
        brings.append(name)

    def unload(self, name: str) -> None:
        """Begins an unload; every ensemble it is a step of goes down with it."""
        guest = self.guests[name]
        if guest.state is not READY:
            return
        guest.state, guest.leases = UNLOADING, 0
        guest.until_s = NEVER_S if guest.hangs else self.now_s + guest.unload_s
        for other in self.guests.values():
            if name in other.steps:
                self.unload(other.name)

    def act(self, action: Action) -> None:
        if isinstance(action, Unload):
            guest = self.guests[action.model]
            assert guest.copies == 1, f"{action.model} would leave while a new copy of it comes"
            guest.has_former |= action.reason is Reason.UPDATED and guest.reverts
            self.drain((action.model, *action.takes))
        else:
            if action.versions:
                assert self.guests[action.model].has_former, f"{action.model} has nothing to go to"
            brought = self.load(
                action.model, action.first, beside=action.is_update, versions=action.versions
            )
            assert set(brought) == set(action.brings), f"{action} brought {brought}"

    def drain(self, names: tuple[str, ...]) -> None:
        """Holds new requests, and unloads when those inside have ended; a sick one has none."""
        if any(drain.names == names for drain in self.drains):
            return
        wait_s = max(0.0 if self.guests[n].sick else self.guests[n].drain_s for n in names)
        self.drains.append(Drain(names, self.now_s + wait_s))
        self.wait(0.0)

    def call_off(self, decided: Plan) -> None:
        """Ends the drains that ``decided`` no longer wants, and serves whom they held up."""
        wanted = {(unload.model, *unload.takes) for unload in decided.unloads}
        for drain in [d for d in self.drains if d.names not in wanted]:
            self.drains.remove(drain)
            self.called_off += 1
            for name in drain.names:
                if self.guests[name].state is READY:
                    self.guests[name].waiting_since_s.clear()

    # --- the loop

    def tick(
        self,
        policy: Policy,
        seconds: float = 1.0,
        *,
        until: int | None = None,
        before: Callable[[Plan], None] = lambda _: None,
    ) -> Plan:
        """Looks, decides, acts and lets time pass; only the first ``until`` actions are done."""
        decided = plan(policy, self.snapshot(), self.history)
        self.history = decided.history
        for guest in self.guests.values():
            guest.arrivals = 0.0
        before(decided)
        self.call_off(decided)
        for action in decided.actions[:until]:
            self.act(action)
        self.wait(seconds)
        return decided

    def run(self, policy: Policy, seconds: float, demand: Mapping[str, float] | None = None) -> int:
        """Ticks once a second under constant demand; the number of models unloaded."""
        unloads = 0
        for _ in range(round(seconds)):
            for name, per_s in (demand or {}).items():
                self.ask(name, per_s)
            unloads += sum(1 for _ in self.tick(policy).unloads)
        return unloads


def gpu_world(*guests: Guest, total_bytes: int = 10 * GIB) -> World:
    """One GPU, empty."""
    return World({GPU: total_bytes}, {guest.name: guest for guest in guests})


def guest(name: str, gib: float = 1.0, **traits: object) -> Guest:
    """A model of so many GiB on the only GPU."""
    return replace(Guest(name, {GPU: int(gib * GIB)}), **traits)  # type: ignore[arg-type]


def policy_of(budget: object = 10 * GIB, **wishes: object) -> Policy:
    """A policy by its YAML keys, with a peak factor of 1 unless it says otherwise."""
    loads: dict[str, object] = {"peak_factor": 1}
    said = wishes.pop("loads", None)
    if isinstance(said, Mapping):
        loads |= said
    return Policy.model_validate({"budget": budget, "loads": loads, **wishes})
