"""The whole service over a fake API server and sidecars on real ports."""

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from daemon.fleet.parts import Parts
from daemon.fleet.run import StartError, running
from daemon.fleet.samples import Samples
from daemon.fleet.settings import FleetSettings
from daemon.fleet.telemetry import DESCRIPTIONS, Telemetry
from simulations.testbed.tritonserver import free_ports
from tests.daemon.fleet.apiserver import FakeApiServer, pod
from tests.daemon.fleet.kubeconfig import write_kubeconfig
from tests.daemon.fleet.sidecar import FakeSidecar, said
from tests.daemon.fleet.waiting import eventually, eventually_so

LEASE = "/apis/coordination.k8s.io/v1/namespaces/remora/leases/remora-fleet"


def settings(folder: Path, url: str, **more: Any) -> FleetSettings:
    values: dict[str, Any] = {
        "kubeconfig": write_kubeconfig(folder, url),
        "own_namespace": "remora",
        "identity": "one",
        "host": "127.0.0.1",
        "api_port": 0,
        "http_port": free_ports(1)[0],
        "collect_interval": "200ms",
        "lease_duration": "3s",
    }
    return FleetSettings(**{**values, **more})


async def page(port: int, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


@asynccontextmanager
async def one_pod() -> AsyncIterator[tuple[FakeApiServer, FakeSidecar]]:
    async with FakeApiServer() as server, FakeSidecar(said(0.42)) as sidecar:
        server.put(pod("a", port=sidecar.port))
        yield server, sidecar


async def test_it_is_ready_when_pods_are_listed_and_were_asked(tmp_path: Path) -> None:
    async with one_pod() as (server, _):
        server.refuses = [500]
        its = settings(tmp_path, server.url)
        async with running(its) as fleet:
            assert fleet.why_unready() == "the pods are not listed yet"
            assert (await page(its.http_port, "/readyz"))[0] == 503
            await eventually(lambda: fleet.why_unready() is None)
            assert await page(its.http_port, "/readyz") == (200, "ok\n")
            assert await page(its.http_port, "/healthz") == (200, "ok\n")
            assert fleet.samples.served(("default", "a")) == 0.42
        assert fleet.why_unready() == "stopping"


async def test_the_metrics_page_has_every_family(tmp_path: Path) -> None:
    async with one_pod() as (server, _):
        its = settings(tmp_path, server.url)
        async with running(its) as fleet:
            await eventually(lambda: fleet.why_unready() is None and fleet.lease.is_held())
            _, text = await page(its.http_port, "/metrics")
    for name, kind, *_ in DESCRIPTIONS:
        assert f"# TYPE {name} {kind}" in text
    assert 'remora_fleet_load{deployment="triton",namespace="default"} 0.42' in text
    assert 'remora_fleet_pods{state="known"} 1.0' in text
    assert "remora_fleet_writer 1.0" in text


async def test_an_api_server_that_goes_away_takes_no_signal_with_it(tmp_path: Path) -> None:
    async with one_pod() as (server, _):
        its = settings(tmp_path, server.url)
        async with running(its) as fleet:
            await eventually(lambda: fleet.samples.served(("default", "a")) == 0.42)
            await server.__aexit__()
            rounds = fleet.collecting.rounds
            await eventually(lambda: fleet.collecting.rounds > rounds + 3)
            assert fleet.samples.served(("default", "a")) == 0.42
            assert fleet.why_unready() is None


async def test_a_changed_policy_is_taken_in_while_it_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("scaling: {down: 0s}")
    async with one_pod() as (server, _):
        its = settings(tmp_path, server.url, policy=policy)
        async with running(its) as fleet:
            await eventually(lambda: fleet.why_unready() is None)
            assert fleet.steadying.policy_file.policy.scaling.down_s == 0
            policy.write_text("scaling: {down: 90s}")
            await eventually(lambda: fleet.steadying.policy_file.policy.scaling.down_s == 90)
            policy.write_text("scaling: {down: never}")
            await eventually(lambda: any("policy refused" in m for m in caplog.messages))
            assert fleet.steadying.policy_file.policy.scaling.down_s == 90


async def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    async with one_pod() as (server, sidecar):
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{sidecar.port}"):
            async with running(settings(tmp_path, server.url, http_port=sidecar.port)):
                pass
        with pytest.raises(StartError, match="cannot listen on"):
            async with running(settings(tmp_path, server.url, keda_port=sidecar.port)):
                pass


async def test_a_part_that_breaks_begins_anew_alone(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry(Samples(30.0))
    runs = {"broken": 0, "sound": 0}

    async def broken() -> None:
        runs["broken"] += 1
        raise KeyError("a fault of ours")

    async def sound() -> None:
        runs["sound"] += 1
        await asyncio.sleep(60)

    parts = Parts(telemetry, again_after_s=0.01)
    parts.start({"sound": sound, "broken": broken})
    await eventually(lambda: runs["broken"] == 3)
    await parts.stop()
    assert runs["sound"] == 1
    assert [each.levelno for each in caplog.records][:2] == [logging.ERROR, logging.ERROR]
    name, labels = "remora_fleet_restarts_total", {"part": "broken"}
    assert telemetry.registry.get_sample_value(name, labels) == runs["broken"]


async def test_the_process_ends_in_order_when_it_is_told_to(tmp_path: Path) -> None:
    async with one_pod() as (server, _):
        http_port, keda_port = free_ports(2)
        code = "import typer; from daemon.fleet.command import fleet; typer.run(fleet)"
        flags = {
            "kubeconfig": write_kubeconfig(tmp_path, server.url),
            "own-namespace": "remora",
            "host": "127.0.0.1",
            "api-port": 0,
            "http-port": http_port,
            "keda-port": keda_port,
            "log-format": "json",
        }
        command = [sys.executable, "-W", "error", "-c", code]
        command += [f"--{name}={value}" for name, value in flags.items()]
        process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
        try:

            async def is_ready() -> bool:
                try:
                    return (await page(http_port, "/readyz"))[0] == 200
                except aiohttp.ClientError:
                    return False

            await eventually_so(is_ready, 30)
            await eventually(lambda: LEASE in server.objects)
            assert server.objects[LEASE]["spec"]["holderIdentity"]
            process.send_signal(signal.SIGTERM)
            await eventually(lambda: server.objects[LEASE]["spec"]["holderIdentity"] == "")
            # The Lease has passed on, and whoever still calls is answered.
            assert await page(http_port, "/readyz") == (503, "stopping\n")
            assert (await page(http_port, "/metrics"))[0] == 200
            _, said_last = await asyncio.wait_for(process.communicate(), 20)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        errors = said_last.decode()
        assert process.returncode == 0, errors
        assert '"message": "stopping"' in errors
        assert "Traceback" not in errors
