"""A real sidecar beside a real Triton, which a real Prometheus tells what the fleet is asked."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, start_http_server

from policies.actions import Reason
from policies.planner import plan
from policies.policy import Policy
from simulations.testbed.installation import Installation
from simulations.testbed.repository import ModelSpec
from simulations.testbed.tritonserver import free_ports
from tests.daemon.pod import QUICK, Pod, eventually, pod
from tests.simulations.recording.prometheus import Prometheus, Tools, write_past

MODELS = [ModelSpec(name, 40, load_s=0.3, compute_ms=2, hint=True) for name in "abc"]
TIMER_S = 600
POLICY = (
    QUICK
    + """\
prometheus:
  query: sum by (target) (rate(gateway_requests_total[{{window}}]))
  label: target
  window: 4s
"""
)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def gateway(stack: ExitStack, port: int) -> Counter:
    """Counts requests by model, as a gateway's metrics page does."""
    registry = CollectorRegistry()
    counter = Counter("gateway_requests", "By model.", ["target"], registry=registry)
    server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    stack.callback(thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return counter


def start(
    stack: ExitStack, installation: Installation, prometheus: Prometheus, folder: Path
) -> Pod:
    (folder / "pod").mkdir()
    settings = {"REMORA_PROMETHEUS": prometheus.url}
    policy = POLICY.format(budget=1000)
    return stack.enter_context(pod(installation, folder / "pod", MODELS, policy, settings=settings))


def told(running: Pod) -> Any:
    return running.get("/v1/state")["prometheus"]


def timer_past(last_s: int) -> list[tuple[int, float]]:
    """A counter that rises by one every ten minutes of a day, the last time at ``last_s``."""
    first_s = last_s - 86_400
    return [(at_s, 1 + (at_s - first_s) // TIMER_S) for at_s in range(first_s, last_s + 300, 15)]


def test_a_pod_that_has_just_started_loads_what_the_fleet_is_asked_for_and_outlives_the_server(
    stack: ExitStack, installation: Installation, tools: Tools, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    counter = gateway(stack, port)
    for model in ("a", "unknown"):
        counter.labels(model).inc(0)
    prometheus = Prometheus(tools, tmp_path, {"gateway": [f"127.0.0.1:{port}"]})
    with prometheus:
        prometheus.wait_live()
        running = start(stack, installation, prometheus, tmp_path)
        eventually(lambda: told(running)["answered_ago_s"] is not None, 20)
        assert running.ready() == set(), "nobody is asked for anything"

        def asked() -> bool:
            counter.labels("a").inc(3)
            counter.labels("unknown").inc(3)
            return running.ready() == {"a"}

        eventually(asked, 30)
        model = running.get("/v1/state")["models"]["a"]
        assert model["arrivals"] == 0
        assert model["expected_rate"] > 0
        assert told(running)["dropped"]["unknown_model"] > 0
        assert "\nremora_prometheus_up 1.0\n" in running.get("/metrics")

        # One that hangs takes the connection, and never answers.
        os.kill(prometheus.pid, signal.SIGSTOP)
        try:
            eventually(lambda: "prometheus" in running.get("/v1/state")["problems"], 20)
            before = running.get("/v1/state")["ticks"]
            running.demand("b")
            eventually(lambda: running.ready() == {"a", "b"}, 10)
            assert running.get("/v1/state")["ticks"] > before
            eventually(lambda: running.get("/v1/state")["models"]["a"]["expected_rate"] is None, 20)
        finally:
            os.kill(prometheus.pid, signal.SIGCONT)
        eventually(lambda: "prometheus" not in running.get("/v1/state")["problems"], 20)
    eventually(lambda: "prometheus" in running.get("/v1/state")["problems"], 20)
    assert "\nremora_prometheus_up 0.0\n" in running.get("/metrics")
    running.demand("c")
    eventually(lambda: running.ready() == {"a", "b", "c"}, 10)
    assert running.stop_sidecar() == 0
    assert "Traceback" not in running.log
    for tick in running.ticks():
        again = plan(Policy.model_validate(tick.policy), tick.snapshot, tick.history)
        assert (again.actions, again.history) == (tick.actions, tick.next_history)


def test_a_timer_is_prewarmed_on_the_first_day_of_a_pod(
    stack: ExitStack, installation: Installation, tools: Tools, tmp_path: Path
) -> None:
    # Its next turn is near, whenever this runs.
    last_s = int(time.time()) - TIMER_S + 20
    past = {"gateway_requests_total": {'target="b"': timer_past(last_s)}}
    write_past(tools, tmp_path, past)
    with Prometheus(tools, tmp_path) as prometheus:
        prometheus.wait_live()
        running = start(stack, installation, prometheus, tmp_path)
        eventually(lambda: running.ready() == {"b"}, 60)
        assert told(running)["learned_models"] == 1
    loads = [load for tick in running.ticks() for load in tick.actions]
    assert [(load.model, load.reason) for load in loads[:1]] == [("b", Reason.FORESEEN)]
    assert running.get("/v1/state")["models"]["b"]["arrivals"] == 0
