"""What is told to Prometheus: stable ``remora_*`` names with their units.

Owns the names. Gauges are read from the latest tick when a page is asked for; counters
and histograms are kept here. The table in the documentation is generated from here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from policies.actions import Plan, Reason
from policies.memory import Account, Ledger
from policies.policy import Policy
from policies.snapshot import Device, Model, ModelState, Snapshot
from policies.units import Units

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TICK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


@dataclass(slots=True)
class Latest:
    """The latest tick, for all who show it."""

    policy: Policy
    snapshot: Snapshot
    plan: Plan


@dataclass(slots=True)
class Telemetry:
    """Counters, histograms, and the latest tick."""

    latest: Latest
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    actions: Counter = field(init=False)
    load_failures: Counter = field(init=False)
    load_seconds: Histogram = field(init=False)
    unload_seconds: Histogram = field(init=False)
    tick_seconds: Histogram = field(init=False)
    tick_errors: Counter = field(init=False)
    reloads: Counter = field(init=False)

    def __post_init__(self) -> None:
        registry = self.registry
        self.actions = Counter(
            "remora_actions", "Loads and unloads decided.", ["action", "reason"], registry=registry
        )
        self.load_failures = Counter(
            "remora_load_failures", "Failed loads.", ["error_class"], registry=registry
        )
        self.load_seconds = Histogram(
            "remora_load_seconds", "Duration of loads.", buckets=_SECONDS, registry=registry
        )
        self.unload_seconds = Histogram(
            "remora_unload_seconds", "Duration of unloads.", buckets=_SECONDS, registry=registry
        )
        self.tick_seconds = Histogram(
            "remora_tick_seconds", "Duration of ticks.", buckets=_TICK_SECONDS, registry=registry
        )
        self.tick_errors = Counter(
            "remora_tick_errors", "Ticks that failed and were skipped.", registry=registry
        )
        self.reloads = Counter(
            "remora_policy_reloads", "Policy reloads.", ["outcome"], registry=registry
        )
        registry.register(_Gauges(self))

    def decided(self, plan: Plan) -> None:
        for action in plan.actions:
            self.actions.labels(type(action).__name__.lower(), action.reason.value).inc()


class _Gauges(Collector):
    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[GaugeMetricFamily]:
        latest = self._telemetry.latest
        yield GaugeMetricFamily(
            "remora_triton_reachable",
            "1 when Triton answered at the latest tick.",
            value=latest.snapshot.reachable,
        )
        yield from _device_gauges(latest)
        yield from _model_gauges(latest.snapshot)
        yield _hold_gauges(latest.plan)


_DEVICE_ROWS: Mapping[str, tuple[str, Callable[[Device, Account], int | None]]] = {
    "total_bytes": ("Memory of the device.", lambda device, _: device.total_bytes),
    "used_bytes": ("Memory in use, by everybody.", lambda device, _: device.used_bytes),
    "budget_bytes": ("Memory our models may take.", lambda _, account: account.budget),
    "limit_bytes": ("The budget, less what cannot be promised.", lambda _, account: account.limit),
    "reserved_bytes": ("Memory promised to models.", lambda _, account: account.reserved),
    "unaccounted_bytes": ("Use beyond our models'.", lambda _, account: account.unaccounted),
}


def _device_gauges(latest: Latest) -> Iterator[GaugeMetricFamily]:
    ledger = Ledger(latest.policy, latest.snapshot, Units(latest.policy, latest.snapshot.models))
    devices = latest.snapshot.devices
    nobody = Device("")
    for suffix, (text, value) in _DEVICE_ROWS.items():
        family = GaugeMetricFamily(f"remora_device_{suffix}", text, labels=["device"])
        for name, account in sorted(ledger.accounts.items()):
            amount = value(devices.get(name, nobody), account)
            # Unknown is absent; it is never zero.
            if amount is not None:
                family.add_metric([name], amount)
        yield family


def _model_gauges(snapshot: Snapshot) -> Iterator[GaugeMetricFamily]:
    states = GaugeMetricFamily(
        "remora_models", "Models of the repository by state.", labels=["state"]
    )
    for state in ModelState:
        count = sum(model.state is state for model in snapshot.models.values())
        states.add_metric([state.value], count)
    yield states
    resident = GaugeMetricFamily(
        "remora_model_resident", "1 while the model can serve.", labels=["model"]
    )
    footprint = GaugeMetricFamily(
        "remora_model_footprint_bytes",
        "Device memory the model needs, and how it is known.",
        labels=["model", "device", "source"],
    )
    waiting = GaugeMetricFamily(
        "remora_model_waiting_requests", "Requests held for the model to load.", labels=["model"]
    )
    for name, model in sorted(snapshot.models.items()):
        resident.add_metric([name], model.state is ModelState.READY)
        _add_footprint(footprint, model)
        waiting.add_metric([name], model.waiting)
    yield from (resident, footprint, waiting)


def _add_footprint(family: GaugeMetricFamily, model: Model) -> None:
    if model.footprint:
        for device, amount in sorted(model.footprint.by_device.items()):
            family.add_metric([model.name, device, model.footprint.source.value], amount)


def _hold_gauges(plan: Plan) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "remora_holds", "Things wanted and not done, by reason.", labels=["reason"]
    )
    reasons = [hold.reason for hold in plan.holds]
    for reason in Reason:
        if count := reasons.count(reason):
            family.add_metric([reason.value], count)
    return family
