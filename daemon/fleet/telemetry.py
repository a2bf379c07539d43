"""What the fleet service tells Prometheus of itself: stable ``remora_fleet_*`` names.

Owns the names. The signals it serves to the HPA are not here: each sidecar tells its own.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from daemon.fleet.samples import Samples

DESCRIPTIONS = (
    ("remora_fleet_pods", "gauge", "state", "Pods that count: known, or unknown to us."),
    ("remora_fleet_load", "gauge", "namespace deployment", "Steadied load of a Deployment."),
    ("remora_fleet_answers_total", "counter", "outcome", "Questions to sidecars by outcome."),
    ("remora_fleet_round_seconds", "histogram", "", "Duration of a round of questions."),
    ("remora_fleet_listings_total", "counter", "", "Full lists of the pods."),
    ("remora_fleet_watch_failures_total", "counter", "", "Lists and watches that failed."),
    ("remora_fleet_keda_calls_total", "counter", "method code", "Calls from KEDA."),
    ("remora_fleet_queries_total", "counter", "outcome", "Questions to Prometheus."),
    ("remora_fleet_writer", "gauge", "", "1 while we hold the writer's Lease."),
    ("remora_fleet_deletion_costs_total", "counter", "outcome", "Deletion costs written."),
    (
        "remora_fleet_label_patches_total",
        "counter",
        "outcome",
        "Labels of a pod's residents written.",
    ),
    (
        "remora_fleet_unlabelled_models",
        "gauge",
        "",
        "Residents beyond --resident-labels, over all pods.",
    ),
    ("remora_fleet_events_total", "counter", "outcome", "Events written."),
    ("remora_fleet_restarts_total", "counter", "part", "Parts that failed and began anew."),
)
"""Name, kind, labels and meaning of every metric."""

_TEXTS = {name: (tuple(labels.split()), text) for name, _, labels, text in DESCRIPTIONS}
_ROUND_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Telemetry:
    def __init__(self, samples: Samples) -> None:
        self.registry = CollectorRegistry()
        self.answers = self._counter("remora_fleet_answers_total")
        self.listings = self._counter("remora_fleet_listings_total")
        self.watch_failures = self._counter("remora_fleet_watch_failures_total")
        self.keda_calls = self._counter("remora_fleet_keda_calls_total")
        self.queries = self._counter("remora_fleet_queries_total")
        self.deletion_costs = self._counter("remora_fleet_deletion_costs_total")
        self.label_patches = self._counter("remora_fleet_label_patches_total")
        self.events = self._counter("remora_fleet_events_total")
        self.restarts = self._counter("remora_fleet_restarts_total")
        self.round_seconds = Histogram(
            "remora_fleet_round_seconds",
            _TEXTS["remora_fleet_round_seconds"][1],
            buckets=_ROUND_SECONDS,
            registry=self.registry,
        )
        self._writer = self._gauge("remora_fleet_writer")
        self.unlabelled = self._gauge("remora_fleet_unlabelled_models")
        self.registry.register(_Gauges(samples))

    def writes_while(self, is_writer: Callable[[], bool]) -> None:
        """is_writer: asked whenever a page is."""
        self._writer.set_function(is_writer)

    def _counter(self, name: str) -> Counter:
        labels, text = _TEXTS[name]
        return Counter(name.removesuffix("_total"), text, labels, registry=self.registry)

    def _gauge(self, name: str) -> Gauge:
        return Gauge(name, _TEXTS[name][1], registry=self.registry)


class _Gauges(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        pods = self._samples.all_pods()
        known = sum(self._samples.signals(pod.key) is not None for pod in pods)
        family = _family("remora_fleet_pods")
        family.add_metric(("known",), known)
        family.add_metric(("unknown",), len(pods) - known)
        yield family
        family = _family("remora_fleet_load")
        for owner, members in self._samples.deployments().items():
            served = [self._samples.served(pod.key) for pod in members]
            loads = [load for load in served if load is not None]
            # Unknown is absent, never zero.
            if loads:
                family.add_metric(owner, sum(loads))
        yield family


def _family(name: str) -> GaugeMetricFamily:
    labels, text = _TEXTS[name]
    return GaugeMetricFamily(name, text, labels=labels)
