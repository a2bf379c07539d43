"""Finding, starting and ending a real tritonserver."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from simulations.testbed.processes import session_members
from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.tritonserver import (
    Installation,
    InstallationError,
    ServerError,
    TritonServer,
    find,
    free_ports,
)
from tests.daemon.pod import eventually

Start = Callable[..., TritonServer]


@pytest.fixture
def start(installation: Installation, tmp_path: Path) -> Iterator[Start]:
    """Starts servers of this test's own, which it may end as it likes."""
    write_repository(tmp_path / "models", [ModelSpec("small", 40, load_s=0.3, compute_ms=1)])
    with ExitStack() as servers:

        def begin(*extra_args: str) -> TritonServer:
            http_port, grpc_port, metrics_port = free_ports(3)
            server = TritonServer.start(
                installation,
                tmp_path / "models",
                http_port=http_port,
                grpc_port=grpc_port,
                metrics_port=metrics_port,
                log_path=tmp_path / "triton.log",
                extra_args=extra_args,
            )
            return servers.enter_context(server)

        yield begin


def test_a_wrong_tritonserver_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITONSERVER", "/nowhere/tritonserver")
    with pytest.raises(InstallationError, match=r"TRITONSERVER is '/nowhere/tritonserver'"):
        find()


def test_a_tritonserver_without_backends_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITONSERVER", str(_fake_binary(tmp_path / "bin")))
    with pytest.raises(InstallationError, match="has no backends: looked for"):
        find()


def test_a_named_tritonserver_is_found_with_the_backends_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    binary = _fake_binary(tmp_path / "bin")
    (tmp_path / "backends").mkdir()
    monkeypatch.setenv("TRITONSERVER", str(binary))
    found = find()
    assert (found.binary, found.source) == (binary, "env")
    assert found.backend_directory == tmp_path / "backends"


def test_a_tritonserver_on_path_goes_before_the_wheel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    binary = _fake_binary(tmp_path / "bin")
    (tmp_path / "backends").mkdir()
    monkeypatch.delenv("TRITONSERVER", raising=False)
    monkeypatch.setenv("PATH", str(binary.parent), prepend=os.pathsep)
    assert (find().binary, find().source) == (binary, "path")


def test_what_is_installed_is_not_installed_again(installation: Installation) -> None:
    said: list[str] = []
    assert find(say=said.append) == installation
    assert said == []


def test_free_ports_differ_and_are_lent_to_no_client() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    with socket.socket() as client:
        client.bind(("127.0.0.1", 0))
        assert max(ports) < client.getsockname()[1]


def test_a_process_lives_until_its_last_thread_has_ended() -> None:
    first_thread_ends = (
        "import ctypes, threading, time;"
        "threading.Thread(target=time.sleep, args=(60,)).start();"
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    command = [sys.executable, "-c", first_thread_ends]
    with subprocess.Popen(command, start_new_session=True) as process:
        status = Path(f"/proc/{process.pid}/status")
        eventually(lambda: "zombie" in status.read_text(), 10)
        assert session_members(process.pid) == [process.pid]
        process.kill()
        process.wait()
    assert session_members(process.pid) == []


def test_a_killed_server_leaves_no_stub_and_no_shared_memory(start: Start) -> None:
    server = start("--load-model=small")
    server.wait_live()
    assert list(server.stub_pids()) == ["small"]
    assert _shared_memory(server) != []

    server.kill()

    assert not server.is_running
    assert session_members(server.pid) == []
    assert server.stub_pids() == {}
    assert _shared_memory(server) == []


def test_a_terminated_server_leaves_no_stub(start: Start) -> None:
    server = start("--load-model=small")
    server.wait_live()
    server.terminate()
    assert session_members(server.pid) == []
    assert _shared_memory(server) == []


def test_a_restarted_server_answers_at_the_same_place_and_has_nothing_loaded(start: Start) -> None:
    server = start()
    server.wait_live()
    first = server.pid
    with InferenceServerClient(server.grpc_url) as client:
        client.load_model("small")
    server.kill()

    server.restart()
    server.wait_live()

    assert server.pid != first
    with InferenceServerClient(server.grpc_url) as client:
        assert not client.is_model_ready("small")
    assert server.stub_pids() == {}


def test_a_server_that_dies_at_start_shows_the_end_of_its_log(start: Start) -> None:
    server = start("--load-model=absent")
    with pytest.raises(ServerError, match=r"(?s)exited with status 1 at start.*absent"):
        server.wait_live()


def test_a_stub_can_be_killed_alone(start: Start) -> None:
    server = start("--load-model=small")
    server.wait_live()
    [stub] = server.stub_pids()["small"]

    os.kill(stub, signal.SIGKILL)

    deadline_s = time.monotonic() + 5
    while server.stub_pids() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert server.stub_pids() == {}
    assert server.resident_bytes() == {}
    assert server.is_running


def _fake_binary(folder: Path) -> Path:
    folder.mkdir()
    binary = folder / "tritonserver"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    return binary


def _shared_memory(server: TritonServer) -> list[Path]:
    port = server.grpc_url.rpartition(":")[2]
    return list(Path("/dev/shm").glob(f"remora_testbed_{os.getpid()}_{port}_*"))
