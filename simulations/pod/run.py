"""The sidecar's loop on a virtual clock: arrivals, events and ticks, and what they come to.

Owns the order of things: what arrives before an event happens before it. Every decision is the
production plan's.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from policies.actions import Plan
from policies.history import History
from policies.memory import Ledger
from policies.peers import Copies
from policies.planner import plan
from policies.policy import Mode, Policy
from policies.snapshot import Device, Model, ModelState, Snapshot
from policies.units import Units
from simulations.outcome import Outcome
from simulations.pod.agenda import Agenda, Entry
from simulations.pod.door import Door
from simulations.pod.hand import Hand
from simulations.pod.look import Look
from simulations.pod.place import Place, placed
from simulations.pod.servers import Request
from simulations.pod.spec import FilesChange, PodSpec
from simulations.pod.tally import Cold, Tally
from simulations.pod.thinning import at_rest_until_s, may_thin, taken_in
from simulations.pod.triton import SimTriton
from simulations.workloads.arrivals import Arrivals, Workload, WorkloadError
from simulations.workloads.catalogue import Catalogue, Profile

OnTick = Callable[[Snapshot, Plan], None]
OnLook = Callable[[Mapping[str, Model]], None]

# Arrivals become Python's own numbers so many at a time: memory stays flat on long traces.
_BLOCK = 65_536
# How often the files that are being uploaded are others than before.
_UPLOAD_STEP_S = 1.0


def simulate(
    workload: Workload,
    catalogue: Catalogue,
    policy: Policy,
    pod: PodSpec,
    *,
    seed: int = 0,
    keep_stays: bool = False,
    on_tick: OnTick | None = None,
    every_tick: bool = False,
    name: str = "",
) -> Outcome:
    """What ``policy`` makes of ``workload`` in ``pod``; the same bytes for the same arguments.

    on_tick: sees every snapshot with its plan. every_tick: plans each tick in full, also those
    of which it is known that nothing comes of them; implied by ``on_tick``.
    name: the policy's in the outcome, by default its ranking's.

    Raises:
        WorkloadError: a model of the workload that the catalogue lacks.
    """
    return Pod(workload, catalogue, policy, pod, seed, keep_stays, on_tick, every_tick, name).run()


@dataclass(slots=True)
class Pod:
    """One run. ticks, planned: how often the loop looked, and made a whole plan of it.

    on_look: sees at every tick the models that anything may have happened to.
    known: models that its repository is known to have from the start, by default all of the
    workload; any other becomes known when it is first asked for, or by `learn`.
    """

    workload: Workload
    catalogue: Catalogue
    policy: Policy
    spec: PodSpec
    seed: int = 0
    keep_stays: bool = False
    on_tick: OnTick | None = None
    every_tick: bool = False
    name: str = ""
    on_look: OnLook | None = None
    known: Collection[str] | None = None
    history: History = field(default_factory=History)
    ticks: int = 0
    planned: int = 0
    _places: dict[str, Place] = field(default_factory=dict)
    _numbered: "_Numbered" = field(init=False)
    _agenda: Agenda = field(default_factory=Agenda)
    _tally: Tally = field(init=False)
    _triton: SimTriton = field(init=False)
    _door: Door = field(init=False)
    _hand: Hand = field(init=False)
    _look: Look = field(init=False)
    _budget_bytes: int | None = None
    _thins: bool = False
    _rests_until_s: float = float("-inf")
    _tick: Entry | None = None
    _began_s: float = 0.0
    _decided_s: float = float("-inf")
    _woken: bool = False

    def __post_init__(self) -> None:
        spec, agenda, random = self.spec, self._agenda, np.random.default_rng(self.seed)
        self._budget_bytes = _budget_bytes(self.policy, spec)
        self._thins = not self.every_tick and self.on_tick is None and may_thin(self.policy)
        self._tally = Tally(keep_stays=self.keep_stays)
        self._triton = SimTriton(spec, agenda, random, self._changed)
        self._look = Look(spec, agenda, self._triton.gauge, self._tally)
        self._numbered = _Numbered(self.workload.names, self.learn)
        for model in self.workload.names if self.known is None else self.known:
            self.learn(model)
        self._door = Door(
            self.policy, spec, agenda, self._tally, self._places, self._wake, self._look.touch
        )
        self._hand = Hand(
            self.policy,
            spec,
            agenda,
            self._triton,
            self._door,
            self._tally,
            self._places,
            self._budget_bytes,
            self._wake,
        )
        for name in spec.resident:
            self._hand.begin_with(name)
        for restart in spec.failures.restarts:
            agenda.at(restart.at_s, self._stop)
            agenda.at(restart.at_s + restart.down_s, self._start)
        for silence in spec.failures.silences:
            agenda.at(silence.from_s, self._stir)
        for change in spec.changes:
            self._expect_change(change)
        for death in spec.failures.deaths:
            agenda.at(death.at_s, partial(self._die, death.model))
        self._tick_from(0.0)

    def run(self) -> Outcome:
        for run in self.workload.runs():
            for block in _blocks(run):
                self.arrive(block)
        return self.finish(self.workload.duration_s)

    # For whoever steps the pod: blocks of arrivals and moments, in order of time, then the end.

    def until(self, now_s: float) -> None:
        """Does all that is due by ``now_s``."""
        agenda = self._agenda
        while agenda.next_s <= now_s:
            agenda.do_next()

    def learn(self, model: str) -> Place:
        """``model`` is known from now on, if it was not."""
        place = self._places.get(model)
        if place is None:
            place = placed(model, self._profile(model), self.policy, self.spec)
            self._places[model] = place
            self._look.touch(place)
        return place

    @property
    def known_models(self) -> AbstractSet[str]:
        return self._places.keys()

    def leave(self) -> None:
        """This pod is on its way out, and its plans know it from now on."""
        self._look.leaving = self._look.is_stirred = True

    def hear(self, model: str, copies: Copies | None) -> None:
        """Where ``model`` stands in the fleet, as its peers say."""
        place = self.learn(model)
        if place.copies != copies:
            place.copies = copies
            self._look.touch(place)

    def seen(self) -> Snapshot:
        """All that the latest tick saw."""
        look = self._look
        if not look.last.reachable:
            return look.last
        return look.snapshot(self._decided_s, self._hand.unload_s, dict(look.models))

    def serves(self, model: str) -> bool:
        """Whether a request for ``model`` would not wait for a load."""
        return self._places[model].open

    def present(self, model: str, now_s: float) -> int:
        """How many requests for ``model`` are here: held, queued or executing."""
        place = self._places[model]
        return len(place.waiters) + place.servers.present(now_s)

    def inside(self, now_s: float) -> int:
        """How many requests are here, of all models."""
        door = self._door
        served = sum([p.servers.present(now_s) for p in self._look.active.values()])
        return door.waiting + door.on_their_way + served

    @property
    def free_bytes(self) -> int | None:
        """What models could still take; None where the policy knows no budget."""
        if self._budget_bytes is None:
            return None
        return max(0, self._budget_bytes - self._tally.reserved_bytes)

    @property
    def cold(self) -> Cold:
        """What came of absences that are over."""
        return self._tally.cold_so_far

    def is_empty(self, now_s: float) -> bool:
        """Whether no request is here."""
        places = self._places.values()
        return self._door.is_empty and all(place.servers.is_empty(now_s) for place in places)

    def finish(self, duration_s: float) -> Outcome:
        """What came of all, ``duration_s`` being the end."""
        agenda = self._agenda
        while agenda.next_s < duration_s or not self._door.is_empty:
            agenda.do_next()
        for place in self._places.values():
            self._look.collect(place, float("inf"))
        return self._tally.outcome(
            self.name or self.policy.ranking.value,
            self._budget_bytes or 0,
            duration_s,
            self.spec.request_s,
            list(self._places.values()),
            max(duration_s, agenda.now_s),
        )

    # The world.

    def _profile(self, model: str) -> Profile:
        profile = self.catalogue.get(model)
        if profile is None:
            raise WorkloadError("catalogue", None, f"no model {model!r}, which the workload asks")
        return profile

    def arrive(self, block: Arrivals) -> None:
        """Takes in one block of arrivals, and does what is due before each of them."""
        agenda, door, active = self._agenda, self._door, self._look.active
        places = self._numbered
        index = self._tally.arrived
        self._tally.expect(block.weight)
        services = block.service_s
        service_s = (
            [places[model].profile.service_s for model in block.model.tolist()]
            if services is None
            else services.tolist()
        )
        rows = zip(
            block.time_s.tolist(),
            block.model.tolist(),
            service_s,
            block.weight.tolist(),
            strict=True,
        )
        next_s = agenda.next_s
        for at_s, model, takes_s, weight in rows:
            while next_s <= at_s:
                agenda.do_next()
                next_s = agenda.next_s
            place = places[model]
            request = Request(index, at_s, takes_s, weight)
            index += 1
            if place.open and not place.dead:
                place.servers.enter(at_s, request)
                active[place.name] = place
                if place.unused:
                    self._tally.asked(place)
                continue
            if place.open:
                door.enter(place, request, at_s)
            else:
                door.come(place, request, at_s)
            next_s = agenda.next_s

    # Triton's accidents.

    def _stop(self, now_s: float) -> None:
        places = list(self._places.values())
        for place in places:
            self._fail_inside(place, now_s, "Triton ended")
            if place.state is ModelState.READY:
                self._tally.gone(place, now_s)
            self._hand.release(place, now_s)
        self._triton.stop(places, now_s)
        self._hand.lost(now_s)

    def _start(self, now_s: float) -> None:
        self._triton.up = True
        self._stir(now_s)

    def _stir(self, _now_s: float) -> None:
        self._look.is_stirred = True

    def _die(self, name: str, now_s: float) -> None:
        place = self._places[name]
        if place.state is ModelState.READY:
            self._fail_inside(place, now_s, "dead process")
            self._triton.die(place, now_s)

    def _expect_change(self, change: FilesChange) -> None:
        place = self.learn(change.model)
        ends_s = change.at_s + change.over_s

        def goes_on(now_s: float) -> None:
            is_whole = now_s >= ends_s
            place.revision += 1
            place.changed_s = now_s
            place.unusable = change.broken or not is_whole
            self._look.touch(place)
            if not is_whole:
                self._agenda.at(min(ends_s, now_s + _UPLOAD_STEP_S), goes_on)

        self._agenda.at(change.at_s, goes_on)

    def _fail_inside(self, place: Place, now_s: float, why: str) -> None:
        for request in place.servers.fail(now_s):
            self._tally.failed(request, why)

    # The loop.

    def _changed(self, place: Place, now_s: float) -> None:
        if place.state is ModelState.UNLOADED and place.ours is None and place.reserved_bytes:
            # An unload that nobody waited for any longer has ended after all.
            self._tally.gone(place, now_s)
            self._hand.release(place, now_s)
        place.settle_open()
        self._look.touch(place)

    def _wake(self, now_s: float) -> None:
        """The next tick comes at once, or as soon as ticks may follow one another."""
        if now_s > self._began_s:
            self._woken = True
            return
        began_s = max(now_s, self._decided_s + min(self.spec.shortest_rest_s, self._rest_s))
        if began_s < self._began_s:
            self._tick_from(began_s)

    @property
    def _rest_s(self) -> float:
        return max(0.0, self.policy.tick_s - self.spec.look_s)

    def _tick_from(self, began_s: float) -> None:
        if self._tick is not None:
            self._tick.call_off()
        self._began_s = began_s
        self._tick = self._agenda.at(began_s + self.spec.look_s, self._decide)

    def _decide(self, now_s: float) -> None:
        self.ticks += 1
        self._decided_s = now_s
        is_early = self.spec.epoch_s + now_s < self._rests_until_s
        if is_early and not self._look.is_stirred:
            self._take_in(now_s)
        else:
            self._plan(now_s)
        rest_s = self._rest_s
        if self._woken:
            rest_s = min(self.spec.shortest_rest_s, rest_s)
        self._woken = False
        self._tick = None
        self._tick_from(now_s + rest_s)

    def _take_in(self, now_s: float) -> None:
        """A tick of which nothing can come but what it remembers."""
        changed = self._changes(now_s)
        snapshot = self._look.snapshot(now_s, self._hand.unload_s, changed)
        self.history = taken_in(self.policy, snapshot, changed, self.history)

    def _changes(self, now_s: float) -> dict[str, Model]:
        changed = self._look.changes(now_s)
        if self.on_look is not None:
            self.on_look(changed)
        return changed

    def _plan(self, now_s: float) -> None:
        self.planned += 1
        look = self._look
        if not self._triton.up or self.spec.is_silent(now_s):
            look.is_stirred = True
            look.last = replace(look.last, now_s=self.spec.epoch_s + now_s, reachable=False)
        else:
            look.is_stirred = False
            self._changes(now_s)
            look.last = look.snapshot(now_s, self._hand.unload_s, dict(look.models))
        decision = plan(self.policy, look.last, self.history)
        self.history = decision.history
        self._rests_until_s = self._resting(decision, now_s)
        self._act(decision, now_s)
        self._door.saw(decision, now_s)
        if self.on_tick is not None:
            self.on_tick(look.last, decision)

    def _act(self, decision: Plan, now_s: float) -> None:
        if self.policy.mode is not Mode.ACT:
            return
        self._hand.call_off(decision.unloads)
        for action in decision.actions:
            self._hand.start(action, now_s)

    def _resting(self, decision: Plan, now_s: float) -> float:
        """Before when nothing comes of a plan unless something happens, by the snapshots' clock."""
        is_settled = (
            self._thins
            and not decision.actions
            and not decision.holds
            and not self._look.is_overlaid
            and self._triton.gauge.is_settled(now_s)
        )
        if not is_settled:
            return float("-inf")
        return at_rest_until_s(self.policy, self._look.last, decision.history)


class _Numbered(dict[int, Place]):
    """The places by their models' numbers in the workload; one that is asked for is learned of."""

    def __init__(self, names: Sequence[str], learn: Callable[[str], Place]) -> None:
        super().__init__()
        self._names, self._learn = names, learn

    def __missing__(self, number: int) -> Place:
        self[number] = place = self._learn(self._names[number])
        return place


def _budget_bytes(policy: Policy, spec: PodSpec) -> int | None:
    """The device's budget by ``policy``, as every plan reckons it."""
    device = Device(spec.device_id, spec.device_bytes)
    snapshot = Snapshot(spec.epoch_s, devices={device.id: device})
    return Ledger(policy, snapshot, Units(policy, {})).accounts[device.id].budget


def _blocks(run: Arrivals) -> Iterator[Arrivals]:
    for first in range(0, len(run), _BLOCK):
        part = slice(first, first + _BLOCK)
        service_s = run.service_s
        yield Arrivals(
            run.time_s[part],
            run.model[part],
            run.weight[part],
            None if service_s is None else service_s[part],
        )
