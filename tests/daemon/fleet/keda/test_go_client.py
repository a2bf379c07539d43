"""What KEDA's own generated client makes of our answers; needs Go."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.fleet.keda.keda_port import Fleet, keda_port
from tests.daemon.fleet.prometheus import FakePrometheus

MODULE = Path(__file__).parents[3] / "controlplane" / "keda"
BUILD_TIMEOUT_S = 600.0


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from KEDA's module as go.mod beside it pins it."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not on PATH, so KEDA's own client cannot be built")
    program = tmp_path_factory.mktemp("keda") / "keda"
    command = [go, "build", "-mod=readonly", "-trimpath", "-o", str(program), "."]
    built = subprocess.run(
        command, cwd=MODULE, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
    )
    assert built.returncode == 0, built.stderr
    return program


async def answers(client: Path, fleet: Fleet, *metadata: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        str(client),
        f"127.0.0.1:{fleet.port}",
        "prod",
        "triton",
        *metadata,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    return json.loads(out)


async def test_kedas_client_reads_load_target_and_activity(client: Path) -> None:
    async with keda_port() as fleet:
        fleet.add("a", 0.7)
        fleet.add("b", 0.55)
        told = await answers(client, fleet)
    assert told["GetMetricSpec"] == {
        "metricSpecs": [
            {"metricName": "remora_load_milli", "targetSize": 700, "targetSizeFloat": 700}
        ]
    }
    assert told["GetMetrics"] == {
        "metricValues": [
            {"metricName": "remora_load_milli", "metricValue": 1250, "metricValueFloat": 1250}
        ]
    }
    assert told["IsActive"] == told["StreamIsActive"] == {"result": True}
    assert told["StreamMetricSpec"]["code"] == "Unimplemented"


async def test_kedas_client_is_told_unavailable_where_nothing_is_known(client: Path) -> None:
    async with keda_port() as fleet:
        fleet.add("silent")
        told = await answers(client, fleet)
    assert told["GetMetrics"] == {
        "code": "Unavailable",
        "message": "no sidecar has answered of late",
    }
    assert told["IsActive"]["code"] == "Unavailable"
    # The stream stays open, and silent, until the client has waited long enough.
    assert told["StreamIsActive"]["code"] == "DeadlineExceeded"


async def test_kedas_client_wakes_a_deployment_by_a_gateways_demand(client: Path) -> None:
    async with FakePrometheus([12.0]) as server, keda_port((server.url,)) as fleet:
        fleet.add_deployment(replicas=0)
        told = await answers(
            client, fleet, "activationQuery=sum(rate(x[1m]))", f"serverAddress={server.url}"
        )
    # KEDA leaves out what is 0. It asks for activity only after it was given a value.
    assert told["GetMetrics"] == {"metricValues": [{"metricName": "remora_load_milli"}]}
    assert told["IsActive"] == told["StreamIsActive"] == {"result": True}


async def test_kedas_client_is_told_what_is_wrong_with_its_metadata(client: Path) -> None:
    async with keda_port() as fleet:
        fleet.add("a", 0.7)
        told = await answers(client, fleet, "target=-1")
    for method in ("GetMetricSpec", "GetMetrics", "IsActive", "StreamIsActive"):
        assert told[method]["code"] == "InvalidArgument", method
