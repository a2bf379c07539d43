"""The whole demo for a short while: real Triton, real sidecar, real Envoy, and kills."""

import subprocess
import sys
from pathlib import Path

SECONDS = 20


def test_no_request_fails_but_those_inside_a_killed_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "daemon.cli", "demo", "--chaos", "--plain"]
    where = ["--seconds", str(SECONDS), "--directory", str(tmp_path)]
    played = subprocess.run(
        [*command, *where], capture_output=True, text=True, timeout=150, check=False
    )
    assert played.returncode == 0, played.stdout + played.stderr
    for victim, at_s in (("Triton", 5), ("sidecar", 10), ("Triton", 15)):
        assert f"{victim} killed at {at_s}." in played.stdout
    protocols = {line.split()[0] for line in played.stdout.splitlines() if line.split()}
    assert {"http", "generate", "grpc", "stream"} <= protocols
