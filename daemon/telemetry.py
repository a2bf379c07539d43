"""What is told to Prometheus: stable ``remora_*`` names with their units.

Owns the names. Gauges are read from the latest tick when a page is asked for; counters
and histograms are kept here. The table in the documentation is generated from here.
"""

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from daemon.frontdoor.gate import Gate
from daemon.versions import Outcome
from policies.actions import Action, Plan
from policies.memory import Account, Ledger
from policies.policy import Policy
from policies.pressure import Advice, Pressure, pressure
from policies.snapshot import Device, ErrorClass, ModelState, Snapshot
from policies.units import Units

DESCRIPTIONS = (
    ("remora_triton_reachable", "gauge", "", "1 when Triton answered at the latest tick."),
    ("remora_models", "gauge", "state", "Models of the repository by state."),
    ("remora_model_resident", "gauge", "model", "1 while the model can serve."),
    (
        "remora_model_footprint_bytes",
        "gauge",
        "model device source",
        "Device memory the model needs, and how it is known.",
    ),
    ("remora_model_waiting_requests", "gauge", "model", "Requests held for the model to load."),
    (
        "remora_model_in_flight_requests",
        "gauge",
        "model source",
        "Requests inside Triton: counted where all come through the front door, else estimated.",
    ),
    (
        "remora_model_leases",
        "gauge",
        "model",
        "Streams, sequences and requests on their way that keep the model from leaving.",
    ),
    ("remora_model_arrivals_total", "counter", "model", "Requests, held ones included."),
    ("remora_model_misses_total", "counter", "model", "Requests that found the model absent."),
    ("remora_door_waiting_requests", "gauge", "", "Requests held at the front door."),
    ("remora_door_held_bytes", "gauge", "", "What the bodies of held requests take of our memory."),
    (
        "remora_door_requests_total",
        "counter",
        "model protocol outcome",
        "Requests at the front door by what became of them; Envoy sends hot ones past it.",
    ),
    ("remora_door_wait_seconds", "histogram", "", "How long requests were held."),
    (
        "remora_load",
        "gauge",
        "",
        "Offered work in pods: 1 is this pod's capacity; absent while unknown.",
    ),
    ("remora_load_compute", "gauge", "", "The part of the load that executions make."),
    ("remora_load_device", "gauge", "", "Utilisation of the fullest GPU over its target."),
    (
        "remora_load_memory",
        "gauge",
        "",
        "Memory of models asked for too often to be swapped, over the budget.",
    ),
    ("remora_queue_boost", "gauge", "", "Factor that queues above their SLO put on the load."),
    ("remora_model_load", "gauge", "model", "Offered work of the model in pods."),
    ("remora_advice", "gauge", "advice", "1 for what would help now."),
    ("remora_leaving", "gauge", "", "1 while the pod leaves, or is asked to by an operator."),
    (
        "remora_leaving_unshared_models",
        "gauge",
        "",
        "While it leaves: resident models that no staying peer holds; absent while unknown.",
    ),
    ("remora_holds", "gauge", "reason", "Things wanted and not done, by reason."),
    ("remora_device_total_bytes", "gauge", "device", "Memory of the device."),
    ("remora_device_used_bytes", "gauge", "device", "Memory in use, by everybody."),
    ("remora_device_budget_bytes", "gauge", "device", "Memory our models may take."),
    (
        "remora_device_limit_bytes",
        "gauge",
        "device",
        "The budget, less what cannot be promised now.",
    ),
    ("remora_device_reserved_bytes", "gauge", "device", "Memory promised to models."),
    (
        "remora_device_unaccounted_bytes",
        "gauge",
        "device",
        "Measured use beyond that of the models.",
    ),
    ("remora_actions_total", "counter", "action reason", "Loads and unloads decided."),
    (
        "remora_updates_total",
        "counter",
        "outcome",
        "Changed files of resident models: loaded beside the old copy, or swapped for it; refused "
        "by Triton; rolled back, the versions from before serving again.",
    ),
    (
        "remora_model_outdated_seconds",
        "gauge",
        "model",
        "For how long the model has served from other files than those on the disk, while it does.",
    ),
    ("remora_load_failures_total", "counter", "error_class", "Failed loads."),
    ("remora_load_seconds", "histogram", "", "Duration of loads."),
    ("remora_unload_seconds", "histogram", "", "Duration of unloads."),
    ("remora_tick_seconds", "histogram", "", "Duration of ticks."),
    ("remora_tick_errors_total", "counter", "", "Ticks that failed and were skipped."),
    ("remora_policy_reloads_total", "counter", "outcome", "Policies taken or refused."),
)
"""Name, kind, labels and meaning of every metric."""

_TEXTS = {name: (tuple(labels.split()), text) for name, _, labels, text in DESCRIPTIONS}
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_WAIT_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
_TICK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


@dataclass(slots=True)
class Latest:
    """The latest tick, for all who show it."""

    policy: Policy
    snapshot: Snapshot
    plan: Plan


@dataclass(frozen=True, slots=True)
class Departure:
    """unshared: how many models can serve here and in no peer that stays; None while unknown."""

    leaving: bool = False
    unshared: int | None = None


@dataclass(slots=True)
class Telemetry:
    """Counters, histograms, and the latest tick."""

    latest: Latest
    gate: Gate
    departure: Departure = Departure()
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    actions: Counter = field(init=False)
    load_failures: Counter = field(init=False)
    load_seconds: Histogram = field(init=False)
    unload_seconds: Histogram = field(init=False)
    tick_seconds: Histogram = field(init=False)
    tick_errors: Counter = field(init=False)
    reloads: Counter = field(init=False)
    updates: Counter = field(init=False)
    door_requests: Counter = field(init=False)
    door_waits: Histogram = field(init=False)
    arrivals: dict[str, float] = field(default_factory=dict)
    _pressure: tuple[Latest, Pressure] | None = None

    def __post_init__(self) -> None:
        self.actions = self._counter("remora_actions_total")
        self.load_failures = self._counter("remora_load_failures_total")
        self.tick_errors = self._counter("remora_tick_errors_total")
        self.reloads = self._counter("remora_policy_reloads_total")
        self.load_seconds = self._histogram("remora_load_seconds", _SECONDS)
        self.unload_seconds = self._histogram("remora_unload_seconds", _SECONDS)
        self.tick_seconds = self._histogram("remora_tick_seconds", _TICK_SECONDS)
        self.updates = self._counter("remora_updates_total")
        self.door_requests = self._counter("remora_door_requests_total")
        self.door_waits = self._histogram("remora_door_wait_seconds", _WAIT_SECONDS)
        self.registry.register(_Gauges(self))
        # A counter that comes with its first event shows no rise to who watches for one.
        for outcome in ("taken", "refused"):
            self.reloads.labels(outcome)
        for error_class in ErrorClass:
            self.load_failures.labels(error_class.value)
        for update in Outcome:
            self.updates.labels(update.value)

    def _counter(self, name: str) -> Counter:
        labels, text = _TEXTS[name]
        return Counter(name.removesuffix("_total"), text, labels, registry=self.registry)

    def _histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        _, text = _TEXTS[name]
        return Histogram(name, text, buckets=buckets, registry=self.registry)

    def took(self, latest: Latest) -> None:
        """Takes in a tick."""
        self.latest = latest
        if not latest.snapshot.reachable:
            return
        models = latest.snapshot.models
        for name in self.arrivals.keys() - models.keys():
            del self.arrivals[name]
        for name, model in models.items():
            if model.arrivals > 0:
                self.arrivals[name] = self.arrivals.get(name, 0.0) + model.arrivals

    def pressure(self) -> Pressure:
        """That of the latest tick, worked out when somebody asks for it."""
        if self._pressure is None or self._pressure[0] is not self.latest:
            latest = self.latest
            found = pressure(latest.policy, latest.snapshot, latest.plan.history)
            self._pressure = (latest, found)
        return self._pressure[1]

    def decided(self, action: Action) -> None:
        self.actions.labels(type(action).__name__.lower(), action.reason.value).inc()


class _Gauges(Collector):
    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        latest, gate = self._telemetry.latest, self._telemetry.gate
        yield _gauge("remora_triton_reachable", [((), latest.snapshot.reachable)])
        yield from _device_gauges(latest)
        yield from _model_gauges(latest.snapshot)
        yield from _load_gauges(self._telemetry.pressure())
        departure = self._telemetry.departure
        yield _gauge("remora_leaving", [((), departure.leaving)])
        yield _gauge("remora_leaving_unshared_models", [((), departure.unshared)])
        yield _counted("remora_model_arrivals_total", self._telemetry.arrivals)
        yield _counted("remora_model_misses_total", gate.misses)
        yield _gauge("remora_door_waiting_requests", [((), gate.waiting)])
        yield _gauge("remora_door_held_bytes", [((), gate.held_bytes)])
        counts = Counts(hold.reason.value for hold in latest.plan.holds)
        yield _gauge("remora_holds", [((reason,), n) for reason, n in sorted(counts.items())])


_DEVICE_VALUES: Mapping[str, Callable[[Device, Account], int | None]] = {
    "total": lambda device, _: device.total_bytes,
    "used": lambda device, _: device.used_bytes,
    "budget": lambda _, account: account.budget,
    "limit": lambda _, account: account.limit,
    "reserved": lambda _, account: account.reserved,
    "unaccounted": lambda _, account: account.unaccounted,
}


def _gauge(name: str, rows: Iterable[tuple[tuple[str, ...], float | None]]) -> GaugeMetricFamily:
    """A family with a sample for each row of label values; unknown is absent, never zero."""
    labels, text = _TEXTS[name]
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in rows:
        if number is not None:
            family.add_metric(values, number)
    return family


def _counted(name: str, by_model: Mapping[str, float]) -> CounterMetricFamily:
    """A family with a sample for each model of the repository that was asked for."""
    labels, text = _TEXTS[name]
    family = CounterMetricFamily(name, text, labels=labels)
    for model, number in sorted(by_model.items()):
        family.add_metric((model,), number)
    return family


def _device_gauges(latest: Latest) -> Iterator[GaugeMetricFamily]:
    ledger = Ledger(latest.policy, latest.snapshot, Units(latest.policy, latest.snapshot.models))
    devices = latest.snapshot.devices
    accounts = sorted(ledger.accounts.items())
    for what, value in _DEVICE_VALUES.items():
        yield _gauge(
            f"remora_device_{what}_bytes",
            (
                ((name,), value(devices.get(name, Device(name)), account))
                for name, account in accounts
            ),
        )


def _load_gauges(found: Pressure) -> Iterator[GaugeMetricFamily]:
    yield _gauge("remora_load", [((), found.load)])
    yield _gauge("remora_load_compute", [((), found.compute)])
    yield _gauge("remora_load_device", [((), found.device)])
    yield _gauge("remora_load_memory", [((), found.memory)])
    yield _gauge("remora_queue_boost", [((), found.queue_boost)])
    yield _gauge("remora_model_load", (((n,), load) for n, load in sorted(found.by_model.items())))
    yield _gauge("remora_advice", (((each.value,), each is found.advice) for each in Advice))


def _model_gauges(snapshot: Snapshot) -> Iterator[GaugeMetricFamily]:
    models = sorted(snapshot.models.items())
    states = Counts(model.state for _, model in models)
    yield _gauge("remora_models", (((state.value,), states[state]) for state in ModelState))
    yield _gauge("remora_model_resident", (((n,), m.state is ModelState.READY) for n, m in models))
    yield _gauge("remora_model_waiting_requests", (((n,), m.waiting) for n, m in models))
    yield _gauge(
        "remora_model_in_flight_requests",
        (
            ((n, "counted" if m.in_flight_counted else "estimated"), m.in_flight)
            for n, m in models
            if m.state is ModelState.READY
        ),
    )
    yield _gauge(
        "remora_model_outdated_seconds",
        (
            ((n,), max(0.0, snapshot.now_s - m.outdated_since_s))
            for n, m in models
            if m.outdated_since_s is not None
        ),
    )
    yield _gauge("remora_model_leases", (((n,), m.leases) for n, m in models))
    yield _gauge(
        "remora_model_footprint_bytes",
        (
            ((name, device, model.footprint.source.value), amount)
            for name, model in models
            if model.footprint
            for device, amount in sorted(model.footprint.by_device.items())
        ),
    )
