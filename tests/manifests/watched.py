"""The pod of the cpu overlay and the fleet service at work, and a Prometheus that watches them.

``python -m tests.manifests.watched FOLDER``, in a network namespace of its own. It tells as JSON
what Prometheus says of the dashboards' queries and of the rules. The API server is a fake.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from daemon.dashboards import DASHBOARDS, Dashboard
from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.server import page
from tests.daemon.fleet import apiserver
from tests.daemon.fleet.kubeconfig import write_kubeconfig
from tests.daemon.gossip.mosquitto import Mosquitto
from tests.manifests.overlays import container, kinds, objects, of
from tests.manifests.pod import STARTED_WITHIN_S, Container, Pod, asked, raise_loopback
from tests.manifests.scraping import discovered, jobs
from tests.simulations.recording.prometheus import Prometheus, find

ONE = ModelSpec("one", 4, load_s=2.5, compute_ms=5, hint=True)
BROKEN = ModelSpec("broken", 4, load_s=0.0, compute_ms=5, fails="initialize")
HUGE = ModelSpec("huge", 4, load_s=0.0, compute_ms=5)
# More than the pod has, and wanted; and what is not asked for goes within the test's time.
POLICY = """\
tick: 200ms
residency: {minimum: 0s, cooldown: 0s, idle_unload: 3s}
loads: {backoff: {initialisation: {first: 100ms, factor: 1}}}
front_door: {wait: 3s}
models:
  huge: {pin: true, footprint: 1TiB}
"""
WRONG = "preset: no-such\n"
SCRAPED_EACH_S = 1
DEPLOYMENT = "/apis/apps/v1/namespaces/models/deployments/triton"
# As Grafana has it: four scrapes.
RATE_INTERVAL = f"{4 * SCRAPED_EACH_S}s"
# Then a rate has what it needs.
SCRAPED_S = 6.0


class Watched:
    """What runs, and the Prometheus that scrapes it by our monitors."""

    def __init__(self, folder: Path, api_server: str, stack: ExitStack) -> None:
        self.began_s = time.time()
        self._prometheus = stack.enter_context(_prometheus(folder))
        broker = stack.enter_context(Mosquitto.start(folder))
        self.pod = Pod(objects("cpu"), folder)
        remora = container(self.pod.template, "remora")
        for name, value in (
            ("REMORA_GOSSIP", broker.url),
            ("REMORA_POD", "triton-a"),
            ("REMORA_PROMETHEUS", self._prometheus.url),
        ):
            remora["env"].append({"name": name, "value": value})
        self.policy = folder / "remora-policy" / "policy.yaml"
        self.policy.write_text(POLICY)
        write_repository(folder / "models", (ONE, BROKEN, HUGE))
        stack.enter_context(_fleet(folder, api_server))
        self.pod.start(stack)
        _until(self.pod.is_ready, "the pod is not ready")
        _until(lambda: page("127.0.0.1:9440", "/readyz") is not None, "the fleet is not ready")
        self._prometheus.wait_live()
        # It looks for its targets some seconds late, and a rate needs to have seen the beginning.
        _until(lambda: set(self.health().values()) == {"up"}, "not all is scraped")

    def health(self) -> dict[tuple[str, str], str]:
        """Of what is scraped, by job and endpoint."""
        found = self.asks("targets")["activeTargets"]
        by = {(each["labels"]["job"], each["labels"]["endpoint"]): each["health"] for each in found}
        assert len(by) == len(found), found
        return by

    def asks(self, path: str, **query: object) -> Any:
        text = page(self._prometheus.address, f"/api/v1/{path}?{urlencode(query, doseq=True)}")
        assert text is not None, (path, query)
        return json.loads(text)["data"]

    def chosen(self, dashboard: Dashboard) -> dict[str, list[str]]:
        """What the dashboard offers to choose from."""
        found: dict[str, list[str]] = {}
        for name, query in dashboard.chosen.items():
            series, label = query.removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
            match = {"match[]": _filled(series, found)}
            found[name] = self.asks(f"label/{label}/values", **match)
        return found

    def shows(self, dashboard: Dashboard) -> dict[str, int]:
        """Points of each query's graph that are numbers."""
        chosen = self.chosen(dashboard)
        return {
            f"{panel.title}: {legend}": self._points(_filled(expr, chosen))
            for panels in dashboard.rows.values()
            for panel in panels
            for legend, expr in panel.queries.items()
        }

    def _points(self, expr: str) -> int:
        found = self.asks(
            "query_range", query=expr, start=self.began_s, end=time.time(), step=SCRAPED_EACH_S
        )["result"]
        return sum(value != "NaN" for series in found for _, value in series["values"])

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.asks("rules")["groups"] for rule in group["rules"]]


def _filled(text: str, chosen: dict[str, list[str]]) -> str:
    """With all that can be chosen chosen by name, as in Grafana."""
    for name, values in chosen.items():
        text = text.replace(f'"${name}"', f'"({"|".join(values)})"')
    return text.replace("$__rate_interval", RATE_INTERVAL)


def _prometheus(folder: Path) -> Prometheus:
    monitoring = objects("monitoring")
    (rules,) = kinds(monitoring, "PrometheusRule")
    written = folder / "rules.yaml"
    written.write_text(yaml.safe_dump(rules["spec"]))
    pods = [
        *discovered("triton-a", of(objects("cpu"), "Deployment", "triton")),
        *discovered("fleet-a", of(objects("fleet"), "Deployment", "remora-fleet")),
    ]
    scraped = [
        job
        for monitor in kinds(monitoring, "PodMonitor")
        for job in jobs(monitor, pods, f"{SCRAPED_EACH_S}s")
    ]
    told = {"scrape_configs": scraped, "rule_files": [str(written)]}
    return Prometheus(find(), folder, configuration=told)


def _fleet(folder: Path, api_server: str) -> Container:
    deployment = of(objects("fleet"), "Deployment", "remora-fleet")
    its = container(deployment["spec"]["template"], "fleet")
    environment = os.environ | {
        "REMORA_FLEET_KUBECONFIG": str(write_kubeconfig(folder, api_server)),
        "REMORA_FLEET_OWN_NAMESPACE": "remora",
        "REMORA_FLEET_IDENTITY": "fleet-a",
        # Nobody reviews tokens here.
        "REMORA_FLEET_API_PORT": "0",
        "REMORA_FLEET_COLLECT_INTERVAL": "1s",
        "REMORA_FLEET_REMOVAL_INTERVAL": "1s",
        "REMORA_FLEET_RESIDENT_LABELS": "8",
    }
    command = [sys.executable, "-m", "daemon.cli", *its["args"]]
    return Container("fleet", command, environment, folder / "fleet.log")


def _until(holds: Any, otherwise: str) -> None:
    deadline_s = time.monotonic() + STARTED_WITHIN_S
    while not holds():
        assert time.monotonic() < deadline_s, otherwise
        time.sleep(0.1)


def _tells(metric: str) -> bool:
    """Whether the sidecar's page has it, above zero."""
    lines = (page("127.0.0.1:9400", "/metrics") or b"").decode().splitlines()
    return any(each.startswith(metric) and float(each.split()[-1]) > 0 for each in lines)


@contextmanager
def _asking(model: ModelSpec, each_s: float) -> Iterator[None]:
    """A client, to the end of the block."""
    ended = threading.Event()

    def asking() -> None:
        while not ended.wait(each_s):
            asked(9480, model)

    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(asking)
        try:
            yield
        finally:
            ended.set()
            future.result()


def watch(folder: Path, api_server: str) -> dict[str, Any]:
    with ExitStack() as stack:
        watched = Watched(folder, api_server, stack)
        with _asking(HUGE, 0.1), _asking(BROKEN, 0.2):
            with _asking(ONE, 0.1):
                _until(lambda: _tells('remora_model_resident{model="one"}'), "it is not loaded")
                time.sleep(SCRAPED_S)
                # Other files than those that it serves from.
                write_repository(folder / "models", (replace(ONE, versions=(1, 2)),))
                _until(lambda: _tells("remora_model_outdated_seconds{"), "no change is seen")
                time.sleep(SCRAPED_S)
            watched.policy.write_text(WRONG)
            _until(lambda: _tells("remora_unload_seconds_count"), "it does not go")
            time.sleep(SCRAPED_S)
        told = {
            "targets": sorted(watched.health().items()),
            "chosen": {each.uid: watched.chosen(each) for each in DASHBOARDS},
            "shown": {each.uid: watched.shows(each) for each in DASHBOARDS},
            "rules": watched.rules(),
        }
        # Triton waits for those who are connected to it.
        for name in ("envoy", "remora"):
            watched.pod.running[name].terminate()
    return told


async def main(folder: Path) -> dict[str, Any]:
    raise_loopback()
    async with apiserver.FakeApiServer() as server:
        server.put(apiserver.pod("triton-a", "models"))
        server.objects[DEPLOYMENT] = {"metadata": {"name": "triton", "uid": "u"}, "spec": {}}
        return await asyncio.to_thread(watch, folder, server.url)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
