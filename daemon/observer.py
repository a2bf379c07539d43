"""Takes the snapshots: everything known about Triton, its models and its devices.

Owns the putting together of the index, the statistics, the metrics page, the repository
on disk, reported demand and what our own hand is doing. Refuses to decide anything.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from daemon import footprints
from daemon.actuator import Actuator
from daemon.clock import Clock
from daemon.demand import Demand, Missed
from daemon.footprints import Evidence
from daemon.frontdoor.gate import NOBODY, AtDoor, Gate
from daemon.learned import Learned, LearnedStore
from daemon.measuring import Measuring
from daemon.metrics import Activity, CounterDeltas, DeviceGauges, Exposition, ScrapeError, Scraper
from daemon.repository import OnDisk, Repository, configured
from daemon.traffic import Traffic
from daemon.triton import Served, Triton, TritonError
from daemon.versions import Versions
from policies.peers import Copies
from policies.policy import Policy
from policies.snapshot import (
    HOST,
    Device,
    ErrorClass,
    LoadFailure,
    Model,
    ModelState,
    Snapshot,
)

log = logging.getLogger("remora.observer")

SURVEY_EVERY_S = 5.0
SURVEY_OFTEN_S = 1.0
"""While files go on changing: whether they have settled is told by a look, not by time alone."""
PROBE_EVERY_S = 5.0
PROBE_TIMEOUT_S = 5.0
CONFIGURATIONS_AT_ONCE = 8
UNLOAD_GAIN = 0.3
"""How much the latest unload says about the next one."""

_QUIET = Activity()
_NOTHING_MISSED = Missed()


@dataclass(frozen=True, slots=True)
class _Look:
    """What one snapshot is made of beside Triton's own answers.

    ours, draining, updating, former: what our own hand was doing when the asking began.
    busy_s: for how long each model's executions kept instances busy since the last look.
    expected: requests per second that the fleet gets, where somebody outside counts them.
    """

    policy: Policy
    now_s: float
    ours: Mapping[str, ModelState]
    draining: frozenset[str]
    missed: Mapping[str, Missed]
    at_door: Mapping[str, AtDoor]
    copies: Mapping[str, Copies | None]
    expected: Mapping[str, float]
    busy_s: Mapping[str, float]
    updating: frozenset[str]
    former: frozenset[str]


@dataclass(slots=True)
class Observer:
    """Keeps what must be remembered between snapshots to tell one fact from another."""

    triton: Triton
    scraper: Scraper
    repository: Repository | None
    learned: LearnedStore
    demand: Demand
    gate: Gate
    clock: Clock
    measuring: Measuring
    timeout_s: float
    host_limit: Callable[[], int | None] = lambda: None
    heard: Callable[[str, int | None], Learned | None] = lambda _name, _file_bytes: None
    copies: Callable[[Iterable[str]], Mapping[str, Copies | None]] = lambda _models: {}
    leaves: Callable[[], bool] = lambda: False
    expected: Callable[[], Mapping[str, float]] = dict
    versions: Versions = field(init=False)
    problems: dict[str, str] = field(default_factory=dict)
    last: Snapshot = field(default_factory=lambda: Snapshot(0.0, reachable=False))
    _deltas: CounterDeltas = field(default_factory=CounterDeltas)
    _activity: Mapping[str, Activity] = field(default_factory=dict)
    _on_disk: Mapping[str, OnDisk] = field(default_factory=dict)
    _configured: dict[str, OnDisk] = field(default_factory=dict)
    _runs_as_configured: set[str] = field(default_factory=set)
    _busy_s: dict[str, float] = field(default_factory=dict)
    _gpus: list[str] = field(default_factory=list)
    _host_bytes: int | None = None
    _unload_s: float | None = None
    _surveyed_at_s: float = float("-inf")
    _were_ready: set[str] = field(default_factory=set)
    _traffic: Traffic = field(default_factory=Traffic)
    _loaded_mtime_s: dict[str, float] = field(default_factory=dict)
    _failures: dict[str, LoadFailure] = field(default_factory=dict)
    _sick: set[str] = field(default_factory=set)
    _probed_at_s: dict[str, float] = field(default_factory=dict)
    _probes: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.versions = Versions(self.learned)

    async def observe(self, policy: Policy, actuator: Actuator) -> Snapshot:
        """One snapshot. Triton's silence gives the last known one, marked unreachable.

        What our own hand was doing when the asking began overlays the answers: a load that
        ends while they come is LOADING once more, for they may not know of it yet, and its
        memory must not be promised to another.
        """
        ours, draining = actuator.states(), actuator.draining()
        updating, former = actuator.updating(), actuator.former()
        served, exposition, _ = await asyncio.gather(
            self._ask_triton(), self._scrape(), self._survey_repository()
        )
        now_s = self.clock.now_s()
        if served is None:
            self.last = replace(self.last, now_s=now_s, reachable=False)
            return self.last
        if not self.last.reachable:
            # A limit of memory is found by Triton's process, which has only just come.
            self._host_bytes = await asyncio.to_thread(self.host_limit)
        devices = self._devices(exposition)
        await self._ask_configurations(served)
        self._examine(served, now_s)
        self._learn(devices, now_s)
        for name, one in served.items():
            if one.state is ModelState.READY and name not in ours:
                self.demand.served(name)
        busy_s = self._busy_since(served)
        missed, at_door = self.demand.take(now_s), self.gate.take()
        look = _Look(
            policy=policy,
            now_s=now_s,
            ours=ours,
            draining=draining,
            missed=missed,
            at_door=at_door,
            copies=self.copies(served),
            expected=self.expected(),
            busy_s=busy_s,
            updating=updating,
            former=former,
        )
        self._compare(look, served)
        models = {name: self._model(look, served[name], actuator) for name in sorted(served)}
        self._remember(models)
        self.last = Snapshot(
            now_s,
            True,
            devices,
            models,
            self._unload_s,
            metered=exposition is not None,
            leaving=self.leaves(),
        )
        return self.last

    # What an actuator tells (its Witness).

    def began(self, name: str, *, is_load: bool, beside: bool = False) -> None:
        # What a device's use grows by while one copy takes another's place is no model's size.
        self.measuring.began(name, is_load=is_load and not beside)
        if is_load:
            self.versions.began(name, (name, *self._steps_read_with(name)))
        if is_load and (on_disk := self._on_disk.get(name)):
            for step in (name, *on_disk.steps):
                if disk := self._on_disk.get(step):
                    self._loaded_mtime_s[step] = disk.newest_mtime_s

    def loaded(self, name: str, started_at_s: float, took_s: float) -> None:
        self._sick.discard(name)
        self.learned.learn_load_time(name, took_s, started_at_s + took_s)

    def _steps_read_with(self, name: str) -> tuple[str, ...]:
        """Steps that a load of an ensemble loads with it, for the first time or again."""
        on_disk, models = self._on_disk.get(name), self.last.models
        steps = on_disk.steps if on_disk else ()
        here = {s for s in steps if s in models and models[s].state is ModelState.READY}
        return tuple(step for step in steps if step not in here or models[step].stale)

    def failed(self, name: str, failure: LoadFailure) -> None:
        self._failures[name] = failure
        # The files that were read are in no memory, and the next load reads them again.
        self._loaded_mtime_s.pop(name, None)

    def unloaded(self, name: str, took_s: float) -> None:
        self._sick.discard(name)
        known_s = took_s if self._unload_s is None else self._unload_s
        self._unload_s = round(known_s + UNLOAD_GAIN * (took_s - known_s), 3)

    def ended(self, name: str, *, well: bool) -> None:
        self.measuring.ended(name, self.clock.now_s(), well=well)

    # What is asked.

    async def _ask_triton(self) -> dict[str, Served] | None:
        try:
            served = await self.triton.observe(self.timeout_s)
        except TritonError as error:
            self._trouble("triton", str(error))
            return None
        self._trouble("triton", None)
        return served

    async def _scrape(self) -> Exposition | None:
        try:
            exposition = await self.scraper.scrape()
        except ScrapeError as error:
            self._trouble("metrics", str(error))
            self._activity = {}
            return None
        self._trouble("metrics", None)
        self._activity = self._deltas.update(exposition)
        return exposition

    async def _survey_repository(self) -> None:
        now_s = self.clock.now_s()
        every_s = SURVEY_OFTEN_S if self.versions.is_unsettled(now_s) else SURVEY_EVERY_S
        if self.repository is None or now_s - self._surveyed_at_s < every_s:
            return
        self._surveyed_at_s = now_s
        try:
            self._on_disk = await asyncio.to_thread(self.repository.survey)
        except OSError as error:
            self._trouble("model_repository", str(error))
        else:
            self._trouble("model_repository", None)
            self.versions.looked(self._on_disk, now_s)
        self._note_sequences()

    def _trouble(self, source: str, text: str | None) -> None:
        """Says once when a source fails, and once when it is back."""
        if text is None:
            if self.problems.pop(source, None):
                log.info("%s: back", source)
            return
        if source not in self.problems:
            log.warning("%s: %s", source, text)
        self.problems[source] = text

    async def _ask_configurations(self, served: Mapping[str, Served]) -> None:
        """Asks Triton for what only it knows: what it runs a model with, completed by itself.

        A few at a time, and again after each load. It also tells what a repository out of sight
        would have told.
        """
        ready = {name for name, one in served.items() if one.state is ModelState.READY}
        self._runs_as_configured &= ready
        unknown = sorted(ready - self._runs_as_configured)
        for name in unknown[:CONFIGURATIONS_AT_ONCE]:
            try:
                config = await self.triton.config(name, self.timeout_s)
            except TritonError as error:
                log.warning("%s: configuration: %s", name, error)
                return
            self._configured[name] = configured(name, config)
            self._runs_as_configured.add(name)
            self._note_sequences()

    def _note_sequences(self) -> None:
        known = {**self._configured, **self._on_disk}
        idle_s = {name: each.sequence_idle_s for name, each in known.items()}
        found = {name: each for name, each in idle_s.items() if each is not None}
        self._traffic.sequence_idle_s = self.gate.sequence_idle_s = found

    # What is made of it.

    def _compare(self, look: _Look, served: Mapping[str, Served]) -> None:
        """Tells who follows the files which models serve, and which are gone."""
        alone = [one for name, one in served.items() if name not in look.ours]
        self.versions.saw(
            [one.name for one in alone if one.state is ModelState.READY],
            [one.name for one in alone if one.state is ModelState.UNLOADED],
        )

    def _facts(self, name: str) -> OnDisk | None:
        return self._on_disk.get(name) or self._configured.get(name)

    def _busy_since(self, served: Mapping[str, Served]) -> dict[str, float]:
        """Triton counts from the load of a model on, so what has fallen began anew."""
        now = {name: one.busy_s for name, one in served.items() if one.busy_s > 0}
        before, self._busy_s = self._busy_s, now
        grown = {name: busy_s - before.get(name, 0.0) for name, busy_s in now.items()}
        return {name: more if more >= 0 else now[name] for name, more in grown.items()}

    def _instances(self, name: str) -> int | None:
        known = self._configured.get(name) or self._on_disk.get(name)
        return known.instances if known else None

    def _devices(self, exposition: Exposition | None) -> dict[str, Device]:
        gauges = exposition.devices if exposition else {}
        if not gauges:
            return dict(self.last.devices) or {HOST: Device(HOST, self._host_bytes)}
        # The page lists GPUs by number. One that missed a reading is still there. The host is
        # a device beside them: models of CPU instances live in its memory.
        self._gpus += [name for name in gauges if name != HOST and name not in self._gpus]
        return {name: self._device(name, gauges.get(name)) for name in (*self._gpus, HOST)}

    def _device(self, name: str, gauges: DeviceGauges | None) -> Device:
        known = self.last.devices.get(name)
        if gauges is None:
            return Device(name, known.total_bytes if known else None)
        total = gauges.total_bytes or (known.total_bytes if known else None)
        if name == HOST and self._host_bytes is not None:
            total = min(total or self._host_bytes, self._host_bytes)
        return Device(name, total, gauges.used_bytes, gauges.utilisation)

    def _model(self, look: _Look, served: Served, actuator: Actuator) -> Model:
        name, policy = served.name, look.policy
        state = look.ours.get(name, served.state)
        activity = self._activity.get(name, _QUIET)
        missed, at_door = look.missed.get(name, _NOTHING_MISSED), look.at_door.get(name, NOBODY)
        on_disk, learned = self._facts(name), self.learned.get(name)
        heard = self._hearsay(name, learned)
        load_s = learned.load_s if learned else None
        if load_s is None and heard:
            load_s = heard.load_s
        evidence = Evidence(on_disk, learned, served.memory_usage, heard)
        requests = self._traffic.of(
            name,
            activity if self._activity else None,
            at_door,
            look.now_s,
            look.now_s - self.last.now_s,
        )
        if state is ModelState.UNLOADED:
            self._traffic.left(name)
        is_ready = state is ModelState.READY
        updating = is_ready and (name in look.updating or served.more_come)
        outdated_since_s = self.versions.outdated_since_s(name) if is_ready else None
        return Model(
            name=name,
            state=state,
            footprint=footprints.best(policy, name, evidence, self._gpus),
            load_s=load_s,
            arrivals=requests.arrivals + missed.count,
            waiting=missed.waiting + at_door.waiting,
            oldest_wait_s=round(max(missed.oldest_wait_s, at_door.oldest_wait_s), 3),
            in_flight=requests.in_flight,
            in_flight_counted=requests.in_flight_counted,
            leases=requests.leases,
            draining=name in look.draining and is_ready,
            pending=activity.pending,
            served=activity.successes,
            queue_s=round(activity.queue_s, 6),
            compute_s=round(activity.compute_s, 6),
            executions=activity.executions,
            busy_s=round(look.busy_s.get(name, 0.0), 6),
            instances=self._instances(name),
            steps=on_disk.steps if on_disk else (),
            stale=self._is_stale(name, served.state),
            overdue=actuator.is_overdue(name),
            sick=name in self._sick,
            forgotten=not served.known and name in self._were_ready,
            in_repository=served.in_repository,
            updating=updating,
            former=is_ready and not updating and (name in look.former or served.more_leave),
            outdated_since_s=None if updating else outdated_since_s,
            unusable=self.versions.unusable(name) if outdated_since_s is not None else None,
            fallback=() if is_ready else self.versions.fallback(name),
            stateful=on_disk is not None and on_disk.sequence_idle_s is not None,
            revision=on_disk.revision or None if on_disk else None,
            failure=self._failures.get(name) or self.versions.failure(name),
            copies=look.copies.get(name),
            expected_rate=look.expected.get(name),
        )

    def file_bytes(self, name: str) -> int | None:
        """What the model's files weigh; None where they cannot be seen."""
        on_disk = self._on_disk.get(name)
        return on_disk.file_bytes or None if on_disk else None

    def _hearsay(self, name: str, own: Learned | None) -> Learned | None:
        """What peers tell; nobody is asked for what we have measured ourselves."""
        is_known = own is not None and own.footprints and own.load_s is not None
        return None if is_known else self.heard(name, self.file_bytes(name))

    def _is_stale(self, name: str, state: ModelState) -> bool:
        """Whether its files are newer than the copy in memory; unknown counts as yes."""
        if state is not ModelState.READY:
            return False
        on_disk, at_load_s = self._on_disk.get(name), self._loaded_mtime_s.get(name)
        return on_disk is None or at_load_s is None or on_disk.newest_mtime_s > at_load_s

    def _remember(self, models: Mapping[str, Model]) -> None:
        for name, model in models.items():
            if model.state is ModelState.READY:
                self._were_ready.add(name)
            elif not model.forgotten:
                self._were_ready.discard(name)
            if model.state is ModelState.UNLOADED:
                self._sick.discard(name)

    def _learn(self, devices: Mapping[str, Device], now_s: float) -> None:
        used = {d.id: d.used_bytes for d in devices.values() if d.used_bytes is not None}
        for name, by_device in self.measuring.observe(used, now_s).items():
            on_disk = self._facts(name)
            own = footprints.where_it_lives(by_device, on_disk, self._gpus)
            if not own or (on_disk and on_disk.steps):
                continue
            log.info("%s: measured %s", name, own)
            self.learned.learn_footprint(
                name, own, now_s, on_disk.revision or None if on_disk else None
            )

    def _examine(self, served: Mapping[str, Served], now_s: float) -> None:
        """Probes models whose every request failed since the last snapshot.

        A probe may wait behind a busy model's queue, so no tick waits for it; what it finds
        stands in a later snapshot.
        """
        for name, activity in self._activity.items():
            if (
                activity.backend_failures > 0
                and activity.successes == 0
                and name not in self._sick
                and name in served
                and served[name].state is ModelState.READY
                and now_s - self._probed_at_s.get(name, float("-inf")) >= PROBE_EVERY_S
            ):
                self._probed_at_s[name] = now_s
                task = asyncio.create_task(self._probe(name), name=f"probe {name}")
                self._probes.add(task)
                task.add_done_callback(self._probes.discard)

    async def _probe(self, name: str) -> None:
        try:
            sick = await self.triton.probe(name, PROBE_TIMEOUT_S)
        except TritonError as error:
            log.warning("%s: probe: %s", name, error)
            return
        if sick:
            log.warning("%s: READY, yet it cannot serve", name)
            self._sick.add(name)
            text = "READY, yet its requests fail"
            self._failures[name] = LoadFailure(self.clock.now_s(), ErrorClass.UNHEALTHY, text)
