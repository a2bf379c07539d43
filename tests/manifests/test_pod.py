"""The pod of the manifests at work: Triton, Remora and Envoy, as the manifest has them started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.manifests.overlays import DEPLOY

# A network namespace of one's own, as anybody may have where the machine allows it.
ALONE = ("unshare", "--user", "--map-root-user", "--net")
TIMEOUT_S = 180.0


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if shutil.which(ALONE[0]) is None or subprocess.run([*ALONE, "true"], check=False).returncode:
        pytest.skip("this machine gives no network namespace, where the pod's ports would be free")
    folder = tmp_path_factory.mktemp("pod")
    command = [*ALONE, sys.executable, "-m", "tests.manifests.pod", "cpu", str(folder)]
    ended = subprocess.run(
        command,
        cwd=DEPLOY.parent,
        env=os.environ | {"PYTHONPATH": str(DEPLOY.parent)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    logs = {path.name: path.read_text()[-2000:] for path in folder.glob("*.log")}
    assert ended.returncode == 0, (ended.stderr, logs)
    return json.loads(ended.stdout)


def test_a_request_for_an_absent_model_waits_for_it_and_the_next_does_not(seen: Any) -> None:
    assert seen["cold"] == [200, "3"]
    assert seen["hot"] == [200, "1"]


def test_both_pages_that_prometheus_reads_are_there(seen: Any) -> None:
    assert all(lines > 20 for lines in seen["pages"].values())


def test_the_pod_ends_by_itself_well_before_its_time_is_over(seen: Any) -> None:
    """Triton waits for its connections, idle ones too, and gives up when its own time is over."""
    stopped = seen["stopped"]
    took_s, grace_s = stopped.pop("seconds"), stopped.pop("grace")
    assert stopped == dict.fromkeys(("triton hook", "remora hook", "triton", "envoy", "remora"), 0)
    assert took_s < grace_s
