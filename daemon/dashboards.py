"""Writes Grafana's dashboards from the code: ``python -m daemon.dashboards``.

Owns deploy/monitoring/*.json: which metrics stand beside each other, and how they are asked for.
What a metric means is said where it is declared, and shown from there.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from daemon.fleet import telemetry as fleet_telemetry
from daemon.foresight import figures as foresight
from daemon.gossip import figures
from daemon.telemetry import DESCRIPTIONS

FOLDER = Path(__file__).parent.parent / "deploy" / "monitoring"

ALL = (
    *DESCRIPTIONS,
    *figures.DESCRIPTIONS,
    *foresight.DESCRIPTIONS,
    *fleet_telemetry.DESCRIPTIONS,
)
"""Name, kind, labels and meaning of every metric of Remora."""

_MEANINGS = {name: text for name, _, _, text in ALL}
_SCHEMA = 39
_WIDTH, _HEIGHT = 8, 8
_ROW = 24
_HERE = 'namespace=~"$namespace", pod=~"$pod"'
_FLEET = 'pod=~"$pod"'


@dataclass(frozen=True, slots=True)
class Panel:
    """queries: legend to PromQL. unit: Grafana's name of it."""

    title: str
    unit: str
    queries: dict[str, str]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """rows: title of each to its panels. chosen: labels that a reader chooses by, by a metric."""

    uid: str
    title: str
    chosen: dict[str, str]
    rows: dict[str, tuple[Panel, ...]]


def gauge(
    title: str, metric: str, by: str, unit: str = "short", how: str = "sum", where: str = _HERE
) -> Panel:
    return Panel(title, unit, {_legend(by): f"{how} by ({by}) ({metric}{{{where}}})"})


def rate(title: str, metric: str, by: str, unit: str = "ops", where: str = _HERE) -> Panel:
    return Panel(title, unit, {_legend(by): f"sum by ({by}) ({_rate(metric, where)})"})


def ratio(title: str, unit: str, above: str, below: str) -> Panel:
    """Of each model."""
    whole = f"sum by (model) ({_rate(above)}) / sum by (model) ({_rate(below)})"
    return Panel(title, unit, {_legend("model"): whole})


def quantiles(title: str, metric: str, where: str = _HERE) -> Panel:
    whole = f"sum by (le) ({_rate(f'{metric}_bucket', where)})"
    return Panel(
        title,
        "s",
        {
            f"p{round(100 * share)}": f"histogram_quantile({share}, {whole})"
            for share in (0.5, 0.95, 0.99)
        },
    )


def _rate(metric: str, where: str = _HERE) -> str:
    return f"rate({metric}{{{where}}}[$__rate_interval])"


def _legend(by: str) -> str:
    return " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(",") if label)


PODS = Dashboard(
    uid="remora-pods",
    title="Remora: models and pods",
    chosen={
        "namespace": "label_values(remora_triton_reachable, namespace)",
        "pod": 'label_values(remora_triton_reachable{namespace=~"$namespace"}, pod)',
    },
    rows={
        "Requests": (
            rate("Requests", "remora_model_arrivals_total", "model", "reqps"),
            ratio(
                "Cold requests",
                "percentunit",
                "remora_model_misses_total",
                "remora_model_arrivals_total",
            ),
            quantiles("Time held at the door", "remora_door_wait_seconds"),
            rate(
                "What became of them at the door", "remora_door_requests_total", "outcome", "reqps"
            ),
            Panel(
                "Held now",
                "short",
                {
                    "{{pod}}": f"sum by (pod) (remora_door_waiting_requests{{{_HERE}}})",
                    "{{model}}": f"sum by (model) (remora_model_waiting_requests{{{_HERE}}}) > 0",
                },
            ),
            gauge("Bodies of held requests", "remora_door_held_bytes", "pod", "bytes"),
            gauge("Inside Triton", "remora_model_in_flight_requests", "model, source"),
            ratio(
                "Time of a request in Triton's queue",
                "µs",
                "nv_inference_queue_duration_us",
                "nv_inference_request_success",
            ),
            gauge("Streams and sequences that hold a model", "remora_model_leases", "model"),
        ),
        "Models": (
            gauge("Pods that hold a model", "remora_model_resident", "model"),
            gauge("Models by state", "remora_models", "state"),
            gauge(
                "Memory that models need",
                "remora_model_footprint_bytes",
                "model, device, source",
                "bytes",
                "max",
            ),
            rate("Loads and unloads, by reason", "remora_actions_total", "action, reason"),
            gauge("Wanted and not done, by reason", "remora_holds", "reason"),
            rate("Failed loads", "remora_load_failures_total", "error_class"),
            rate("Changed files, by what became of them", "remora_updates_total", "outcome"),
            gauge(
                "Served from other files than lie there, for",
                "remora_model_outdated_seconds",
                "model",
                "s",
                "max",
            ),
            quantiles("Duration of loads", "remora_load_seconds"),
            quantiles("Duration of unloads", "remora_unload_seconds"),
        ),
        "Memory": tuple(
            gauge(title, f"remora_device_{what}_bytes", "pod, device", "bytes")
            for title, what in (
                ("In use, by everybody", "used"),
                ("Promised to models", "reserved"),
                ("What models may take", "budget"),
                ("What can be promised now", "limit"),
                ("Not accounted for", "unaccounted"),
                ("Size", "total"),
            )
        ),
        "Load": (
            gauge("Offered work, in pods", "remora_load", "pod"),
            gauge("… by executions", "remora_load_compute", "pod"),
            gauge("… by the fullest GPU", "remora_load_device", "pod"),
            gauge("… by memory", "remora_load_memory", "pod"),
            gauge("Boost by queues", "remora_queue_boost", "pod"),
            gauge("Offered work of each model", "remora_model_load", "model"),
            gauge("What would help", "remora_advice", "advice"),
        ),
        "Remora itself": (
            gauge("Triton answers", "remora_triton_reachable", "pod"),
            quantiles("Duration of ticks", "remora_tick_seconds"),
            rate("Ticks that failed", "remora_tick_errors_total", "pod"),
            rate("Policies taken and refused", "remora_policy_reloads_total", "outcome"),
            gauge("Leaving", "remora_leaving", "pod"),
            gauge("Leaving with what no peer holds", "remora_leaving_unshared_models", "pod"),
            gauge("Gossip: connected", "remora_gossip_connected", "pod"),
            gauge("Residents, by who holds them too", "remora_gossip_residents", "elsewhere"),
            gauge("Gossip: peers", "remora_gossip_peers", "pod"),
            rate("Gossip: messages", "remora_gossip_messages_total", "direction", "mps"),
            rate("Gossip: content", "remora_gossip_bytes_total", "direction", "Bps"),
            rate("Gossip: not used", "remora_gossip_dropped_total", "why", "mps"),
            gauge("Prometheus answers", "remora_prometheus_up", "pod"),
            gauge("… how long ago", "remora_prometheus_answer_age_seconds", "pod", "s", "max"),
            gauge("… models whose rate is known", "remora_prometheus_models", "pod"),
            rate("Questions to Prometheus", "remora_prometheus_questions_total", "outcome"),
            rate("… what was not used", "remora_prometheus_dropped_total", "why"),
        ),
    },
)

FLEET = Dashboard(
    uid="remora-fleet",
    title="Remora: fleet",
    chosen={
        "namespace": "label_values(remora_fleet_load, namespace)",
        "pod": "label_values(remora_fleet_writer, pod)",
    },
    rows={
        "Pods": (
            gauge(
                "Steadied load, in pods",
                "remora_fleet_load",
                "namespace, deployment",
                how="max",
                where='namespace=~"$namespace"',
            ),
            gauge("Pods, known and unknown", "remora_fleet_pods", "pod, state", where=_FLEET),
            rate("Questions to sidecars", "remora_fleet_answers_total", "outcome", where=_FLEET),
            quantiles("Duration of a round of questions", "remora_fleet_round_seconds", _FLEET),
        ),
        "What is written": (
            gauge("Who writes", "remora_fleet_writer", "pod", where=_FLEET),
            rate("Deletion costs", "remora_fleet_deletion_costs_total", "outcome", where=_FLEET),
            rate("Labels", "remora_fleet_label_patches_total", "outcome", where=_FLEET),
            gauge("Without a label", "remora_fleet_unlabelled_models", "pod", where=_FLEET),
            rate("Events", "remora_fleet_events_total", "outcome", where=_FLEET),
        ),
        "The service itself": (
            rate("Calls from KEDA", "remora_fleet_keda_calls_total", "method, code", where=_FLEET),
            rate("Questions to Prometheus", "remora_fleet_queries_total", "outcome", where=_FLEET),
            rate("Full lists of the pods", "remora_fleet_listings_total", "pod", where=_FLEET),
            rate("Watches that failed", "remora_fleet_watch_failures_total", "pod", where=_FLEET),
            rate("Parts that began anew", "remora_fleet_restarts_total", "part", where=_FLEET),
        ),
    },
)

DASHBOARDS = (PODS, FLEET)


def text(dashboard: Dashboard) -> str:
    """The file as it should be."""
    return json.dumps(document(dashboard), indent=1, ensure_ascii=False) + "\n"


def document(dashboard: Dashboard) -> dict[str, Any]:
    """As Grafana imports it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": "Written by `make manifests`; edit the code.",
        "tags": ["remora", "triton"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_source(), *_choices(dashboard)]},
        "panels": list(_panels(dashboard)),
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _choices(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    for name, query in dashboard.chosen.items():
        yield {
            "name": name,
            "type": "query",
            "datasource": _by_source(),
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    numbers, top = count(1), 0
    for title, panels in dashboard.rows.items():
        place = {"x": 0, "y": top, "w": _ROW, "h": 1}
        yield {"id": next(numbers), "type": "row", "title": title, "gridPos": place, "panels": []}
        top += 1
        across = _ROW // _WIDTH
        for number, panel in enumerate(panels):
            x, y = number % across * _WIDTH, top + number // across * _HEIGHT
            place = {"x": x, "y": y, "w": _WIDTH, "h": _HEIGHT}
            yield {"id": next(numbers), "gridPos": place, **_panel(panel)}
        top += -(-len(panels) // across) * _HEIGHT


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": meaning(panel),
        "datasource": _by_source(),
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": expr, "legendFormat": legend}
            for number, (legend, expr) in enumerate(panel.queries.items())
        ],
    }


def meaning(panel: Panel) -> str:
    """What the metrics of the panel say of themselves."""
    named = dict.fromkeys(name for expr in panel.queries.values() for name in metrics(expr))
    return " ".join(_MEANINGS[name] for name in named if name in _MEANINGS)


def metrics(expr: str) -> list[str]:
    """Names of the metrics of Remora that the query asks for."""
    return [name.removesuffix("_bucket") for name in re.findall(r"\bremora_[a-z0-9_]+", expr)]


def _by_source() -> dict[str, str]:
    return {"type": "prometheus", "uid": "${source}"}


def path(dashboard: Dashboard) -> Path:
    return FOLDER / f"{dashboard.uid}.json"


if __name__ == "__main__":
    for each in DASHBOARDS:
        path(each).write_text(text(each), "utf-8")
