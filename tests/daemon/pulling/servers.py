"""A real MLflow server and an S3 that keeps its objects in memory, for the tests of pulls."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from simulations.testbed.server import Server, page
from simulations.testbed.tritonserver import LOOPBACK, free_ports


class MLflow(Server):
    name = "mlflow"

    def __init__(self, directory: Path) -> None:
        (port,) = free_ports(1)
        self.address = f"{LOOPBACK}:{port}"
        command = (
            sys.executable,
            "-m",
            "mlflow",
            "server",
            f"--backend-store-uri=sqlite:///{directory}/mlflow.db",
            f"--artifacts-destination={directory}/artifacts",
            f"--host={LOOPBACK}",
            f"--port={port}",
            "--workers=1",
        )
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        super().__init__(
            command, log_path=directory / "mlflow.log", environment={**os.environ, **quiet}
        )

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def answers_live(self) -> bool:
        return page(self.address, "/health") is not None


class Bucket(Server):
    """moto's S3: what it is asked for goes over HTTP, as with any other."""

    name = "moto"

    def __init__(self, directory: Path) -> None:
        (port,) = free_ports(1)
        self.address = f"{LOOPBACK}:{port}"
        command = (sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port))
        super().__init__(command, log_path=directory / "moto.log")

    @property
    def environment(self) -> Mapping[str, str]:
        """What a client needs to know."""
        return {
            "AWS_ENDPOINT_URL": f"http://{self.address}",
            "AWS_ACCESS_KEY_ID": "remora",
            "AWS_SECRET_ACCESS_KEY": "only-a-test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def answers_live(self) -> bool:
        return page(self.address, "/moto-api/") is not None
