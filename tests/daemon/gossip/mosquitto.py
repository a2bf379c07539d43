"""A real Mosquitto on this machine's loopback."""

import shutil
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import pytest

from simulations.testbed.server import Server, ServerError
from simulations.testbed.tritonserver import free_ports


def found() -> str:
    """The binary; where there is none the test is skipped."""
    # Debian keeps it where only root's PATH looks.
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/sbin")
    if binary is None:
        pytest.skip("mosquitto is not on PATH, and gossip is tried on a real broker")
    return binary


class Mosquitto(Server):
    """One broker; killed and started again it keeps its port, and nothing else."""

    name = "Mosquitto"
    error = ServerError
    ends_within_s = 5.0

    def __init__(self, binary: str, directory: Path, port: int, lines: Iterable[str]) -> None:
        self.port = port
        configuration = directory / "mosquitto.conf"
        # Started by root it would become a user that cannot read a test's files.
        configuration.write_text(
            "\n".join((f"listener {port} 127.0.0.1", "user root", *lines)) + "\n"
        )
        command = (binary, "-c", str(configuration))
        super().__init__(command, log_path=directory / "mosquitto.log")

    @classmethod
    def start(cls, directory: Path, *lines: str) -> Self:
        """Starts it and waits; without ``lines`` of configuration everybody may do anything."""
        (port,) = free_ports(1)
        broker = cls(found(), directory, port, lines or ("allow_anonymous true",))
        broker.wait_live()
        return broker

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def answers_live(self) -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0

    def say(self, topic: str, payload: str, *options: str) -> None:
        """As an operator would, from a shell."""
        client = shutil.which("mosquitto_pub")
        if client is None:
            pytest.skip("mosquitto_pub is not on PATH")
        command = [client, "-p", str(self.port), "-V", "5", "-t", topic, "-m", payload, *options]
        subprocess.run(command, check=True, timeout=10)

    def standing(self, topic: str) -> list[bytes]:
        """What a newcomer would hear of ``topic`` at once."""
        client = shutil.which("mosquitto_sub")
        if client is None:
            pytest.skip("mosquitto_sub is not on PATH")
        command = [client, "-p", str(self.port), "-V", "5", "-t", topic, "--retained-only"]
        heard = subprocess.run([*command, "-W", "1"], capture_output=True, check=False, timeout=10)
        return heard.stdout.splitlines()
