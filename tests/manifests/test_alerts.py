"""Every alert fires where it should and is silent where it should be, in Prometheus' own hands."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.dashboards import ALL, DASHBOARDS
from policies.actions import Reason
from tests.manifests.overlays import DEPLOY, kinds
from tests.manifests.programs import rendered

MONITORING = DEPLOY / "monitoring"
(RULES,) = (
    each
    for each in yaml.safe_load_all((MONITORING / "rules.yaml").read_text())
    if each["kind"] == "PrometheusRule"
)
ALERTS = {rule["alert"]: rule for group in RULES["spec"]["groups"] for rule in group["rules"]}

Series = dict[str, str]
AN_HOUR = "x70"


@dataclass(frozen=True)
class Case:
    """Series at a minute's steps; `quiet` is nearly the same, and nothing to look at.

    labels: of the alert, beside its name and severity.
    """

    fires: Series
    labels: dict[str, str]
    quiet: Series
    at: str = "60m"


POD = 'namespace="models", pod="a"'
HERE = {"namespace": "models"}
ONE = {"namespace": "models", "pod": "a"}


def asked(arrivals: int, misses: int) -> Series:
    return {
        f'remora_model_arrivals_total{{{POD}, model="m"}}': f"0+{arrivals}{AN_HOUR}",
        f'remora_model_misses_total{{{POD}, model="m"}}': f"0+{misses}{AN_HOUR}",
    }


def waited(within_10_s: int, within_30_s: int) -> Series:
    """How many more each minute."""
    whole = within_10_s + within_30_s
    name = "remora_door_wait_seconds_bucket"
    return {
        f'{name}{{{POD}, le="10.0"}}': f"0+{within_10_s}{AN_HOUR}",
        f'{name}{{{POD}, le="30.0"}}': f"0+{whole}{AN_HOUR}",
        f'{name}{{{POD}, le="+Inf"}}': f"0+{whole}{AN_HOUR}",
    }


def door(outcome: str, per_minute: int) -> Series:
    labels = f'{POD}, model="m", protocol="http", outcome="{outcome}"'
    return {f"remora_door_requests_total{{{labels}}}": f"0+{per_minute}{AN_HOUR}"}


def queued(us: int) -> Series:
    labels = f'{POD}, model="m", version="1"'
    return {
        f"nv_inference_queue_duration_us{{{labels}}}": f"0+{60 * us}{AN_HOUR}",
        f"nv_inference_request_success{{{labels}}}": f"0+60{AN_HOUR}",
    }


def held(reason: str, models: int) -> Series:
    return {f'remora_holds{{{POD}, reason="{reason}"}}': f"{models}+0{AN_HOUR}"}


def steady(metric: str, value: float, labels: str = POD) -> Series:
    return {f"{metric}{{{labels}}}": f"{value}+0{AN_HOUR}"}


def rising(metric: str, labels: str) -> Series:
    """By one, once, late."""
    return {f"{metric}{{{labels}}}": f"0+0x50 1+0{AN_HOUR}"}


def known(pods: int, unknown: int) -> Series:
    fleet = 'namespace="remora", pod="f"'
    return {
        f'remora_fleet_pods{{{fleet}, state="known"}}': f"{pods}+0{AN_HOUR}",
        f'remora_fleet_pods{{{fleet}, state="unknown"}}': f"{unknown}+0{AN_HOUR}",
    }


def device(used: float) -> Series:
    labels = f'{POD}, device="host"'
    return steady("remora_device_used_bytes", used, labels) | steady(
        "remora_device_budget_bytes", 1000, labels
    )


CASES: dict[str, list[Case]] = {
    "RemoraColdStarts": [
        Case(asked(60, 6), HERE, asked(60, 1)),
        # Five a minute are too few to judge by.
        Case(asked(60, 60), HERE, asked(5, 5)),
    ],
    "RemoraWaits": [Case(waited(80, 20), HERE, waited(99, 1))],
    "RemoraRequestsRefused": [
        Case(door("timed_out", 6), HERE | {"outcome": "timed_out"}, door("unknown_model", 60)),
        Case(door("queue_full", 6), HERE | {"outcome": "queue_full"}, door("client_gone", 60)),
    ],
    "TritonQueueTime": [Case(queued(600_000), HERE | {"model": "m"}, queued(400_000))],
    "RemoraFull": [
        Case(steady("remora_load", 1.2), HERE, steady("remora_load", 0.9)),
        Case(
            steady("remora_load", 1.9) | steady("remora_load", 0.4, 'namespace="models", pod="b"'),
            HERE,
            steady("remora_load", 1.2) | steady("remora_load", 0.4, 'namespace="models", pod="b"'),
        ),
    ],
    "RemoraLoadsFail": [
        Case(
            {f'remora_load_failures_total{{{POD}, error_class="memory"}}': f"0+1{AN_HOUR}"},
            HERE | {"error_class": "memory"},
            {f'remora_load_failures_total{{{POD}, error_class="memory"}}': f"0+0x40 2+0{AN_HOUR}"},
        )
    ],
    "RemoraUpdateRefused": [Case(held("update_refused", 1), ONE, held("outdated", 1))],
    "RemoraBackingOff": [Case(held("backing_off", 1), ONE, held("cooling_down", 1))],
    "RemoraCannotLoad": [
        Case(
            held("larger_than_budget", 2),
            ONE | {"reason": "larger_than_budget"},
            held("swap_does_not_pay", 2),
        )
    ],
    "RemoraOverBudget": [Case(device(1001), ONE | {"device": "host"}, device(1000))],
    "RemoraMemoryLost": [
        Case(held("restart_advised", 1), ONE | {"reason": "restart_advised"}, held("no_room", 1))
    ],
    "RemoraTritonUnreachable": [
        Case(steady("remora_triton_reachable", 0), ONE, steady("remora_triton_reachable", 1))
    ],
    "RemoraTicksFail": [
        Case(
            rising("remora_tick_errors_total", POD),
            ONE,
            steady("remora_tick_errors_total", 5),
            at="55m",
        )
    ],
    "RemoraPolicyRefused": [
        Case(
            rising("remora_policy_reloads_total", f'{POD}, outcome="refused"'),
            ONE | {"outcome": "refused"},
            rising("remora_policy_reloads_total", f'{POD}, outcome="taken"'),
        )
    ],
    "RemoraFleetWithoutData": [
        Case(known(1, 3), {"pod": "f"}, known(3, 1)),
        Case({}, {}, known(4, 0)),
    ],
    "RemoraFleetWithoutWriter": [
        Case(
            steady("remora_fleet_writer", 0, 'pod="f"')
            | steady("remora_fleet_writer", 0, 'pod="g"'),
            {},
            steady("remora_fleet_writer", 0, 'pod="f"')
            | steady("remora_fleet_writer", 1, 'pod="g"'),
        )
    ],
    "RemoraFleetCannotWrite": [
        Case(
            {'remora_fleet_label_patches_total{outcome="failed", pod="f"}': f"0+1{AN_HOUR}"},
            {"pod": "f"},
            {'remora_fleet_label_patches_total{outcome="written", pod="f"}': f"0+9{AN_HOUR}"},
        ),
        Case(
            {'remora_fleet_deletion_costs_total{outcome="failed", pod="f"}': f"0+1{AN_HOUR}"},
            {"pod": "f"},
            {'remora_fleet_deletion_costs_total{outcome="gone", pod="f"}': f"0+9{AN_HOUR}"},
        ),
    ],
}


def test_every_alert_has_a_case() -> None:
    assert CASES.keys() == ALERTS.keys()


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not on PATH")
    return found


def _run(*command: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_prometheus_takes_the_rules(promtool: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(RULES["spec"]))
    _run(promtool, "check", "rules", str(path))


def test_each_fires_where_it_should_and_nowhere_else(promtool: str, tmp_path: Path) -> None:
    files = [_tests(name, tmp_path) for name in CASES]
    _run(promtool, "test", "rules", *map(str, files))


def _tests(name: str, folder: Path) -> Path:
    """A file for promtool, and beside it the one rule that it is about."""
    # Prometheus would compare annotations too, word by word.
    rule = {key: value for key, value in ALERTS[name].items() if key != "annotations"}
    rules = folder / f"{name}.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [rule]}]}))
    tests: list[dict[str, Any]] = []
    for case in CASES[name]:
        labels = {**rule["labels"], **case.labels}
        tests.append(_test(name, case.fires, case.at, [{"exp_labels": labels}]))
        tests.append(_test(name, case.quiet, case.at, []))
    whole = {"rule_files": [rules.name], "evaluation_interval": "1m", "tests": tests}
    path = folder / f"{name}-test.yaml"
    path.write_text(yaml.safe_dump(whole))
    return path


def _test(name: str, series: Series, at: str, expected: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": expected}],
    }


def test_prometheus_takes_every_query_of_the_dashboards(promtool: str, tmp_path: Path) -> None:
    queries = [
        expr.replace("$__rate_interval", "1m")
        for dashboard in DASHBOARDS
        for panels in dashboard.rows.values()
        for panel in panels
        for expr in panel.queries.values()
    ]
    rules = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(queries)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    _run(promtool, "check", "rules", str(path))


def test_every_metric_that_is_asked_for_is_told() -> None:
    told = {name for name, *_ in ALL}
    for rule in ALERTS.values():
        for name in re.findall(r"\bremora_[a-z0-9_]+", rule["expr"]):
            assert name in told or name.removesuffix("_bucket") in told


def test_every_reason_that_is_asked_for_is_one() -> None:
    for rule in ALERTS.values():
        for named in re.findall(r'reason=~?"([^"]+)"', rule["expr"]):
            assert set(named.split("|")) <= {each.value for each in Reason}


def test_the_monitors_find_the_pods_that_the_overlays_make() -> None:
    found = {each["metadata"]["name"]: each for each in rendered(MONITORING)}
    for name, overlay, ports in (
        ("triton", "gateway", {"remora", "triton-metrics"}),
        ("remora-fleet", "fleet", {"http"}),
    ):
        monitor = found[name]
        (deployment,) = (
            each
            for each in kinds(rendered(DEPLOY / "overlays" / overlay), "Deployment")
            if each["metadata"]["name"] == name
        )
        template = deployment["spec"]["template"]
        assert monitor["metadata"]["namespace"] == deployment["metadata"]["namespace"]
        labels = monitor["spec"]["selector"]["matchLabels"]
        assert labels.items() <= template["metadata"]["labels"].items()
        assert {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]} == ports
        declared = {
            port["name"]
            for each in (
                *template["spec"].get("initContainers", ()),
                *template["spec"]["containers"],
            )
            for port in each.get("ports", ())
        }
        assert ports <= declared


def test_the_adapters_rule_is_a_query_for_the_metric_that_the_autoscaler_reads(
    promtool: str, tmp_path: Path
) -> None:
    found = rendered(DEPLOY / "overlays" / "prometheus-adapter")
    (rule,) = yaml.safe_load(kinds(found, "ConfigMap")[0]["data"]["config.yaml"])["rules"]
    (hpa,) = kinds(found, "HorizontalPodAutoscaler")
    (metric,) = (each["pods"]["metric"]["name"] for each in hpa["spec"]["metrics"])
    assert rule["name"]["as"] == metric
    # As the adapter fills it in.
    query = rule["metricsQuery"]
    for placeholder, text in (
        ("<<.GroupBy>>", "pod"),
        ("<<.Series>>", metric),
        ("<<.LabelMatchers>>", 'namespace="models",pod=~"a|b"'),
    ):
        query = query.replace(placeholder, text)
    assert query == 'max by (pod) (remora_load{namespace="models",pod=~"a|b"})'
    path = tmp_path / "rules.yaml"
    groups = [{"name": "one", "rules": [{"record": "query:one", "expr": query}]}]
    path.write_text(yaml.safe_dump({"groups": groups}))
    _run(promtool, "check", "rules", str(path))
