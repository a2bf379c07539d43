"""A pod of an overlay as processes of this machine: what a kubelet would make of its manifest.

``python -m tests.manifests.pod OVERLAY FOLDER``, in a network namespace of its own, where the
manifest's ports are free. Commands, arguments, environment, probes and hooks are the manifest's;
the images are the programs that the test bed has, and volumes are folders. It tells what it saw as
JSON.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from policies.quantities import parse_bytes
from simulations.testbed.envoy import find_envoy
from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.server import Server, page
from simulations.testbed.tritonserver import find as find_triton
from tests.controlplane.client import Object
from tests.manifests.overlays import container, containers, objects, of

MODEL = ModelSpec("one", 4, load_s=0.3, compute_ms=5)
BODY = {"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
STARTED_WITHIN_S = 60.0
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


class Container(Server):
    """One container's process. Nothing waits for it here; its probe is the pod's."""

    ends_within_s = 60.0

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path):
        self.name = name
        super().__init__(command, log_path=log, environment=environment)

    def answers_live(self) -> bool:
        return self.is_running

    def exits(self, within_s: float) -> int:
        return self._process.wait(within_s)


class Pod:
    """One pod of the Deployment `triton`, in `folder`."""

    def __init__(self, found: tuple[Object, ...], folder: Path) -> None:
        self.template = of(found, "Deployment", "triton")["spec"]["template"]
        self.folder = folder
        self.running: dict[str, Container] = {}
        for volume in self.template["spec"]["volumes"]:
            place = folder / volume["name"]
            place.mkdir()
            if "configMap" in volume:
                data = of(found, "ConfigMap", volume["configMap"]["name"])["data"]
                for name, text in data.items():
                    (place / name).write_text(text)

    def start(self, stack: ExitStack) -> None:
        """As they start: one after the other."""
        for each in containers(self.template):
            log = self.folder / f"{each['name']}.log"
            started = Container(each["name"], self._command(each), self._environment(each), log)
            self.running[each["name"]] = stack.enter_context(started)

    def is_ready(self) -> bool:
        probe = self._probe()["httpGet"]
        return page(f"127.0.0.1:{probe['port']}", probe["path"]) is not None

    @contextmanager
    def probed(self) -> Iterator[None]:
        """The readiness probe goes on to the end, and holds Triton's connections in use."""
        ended = threading.Event()

        def probing() -> None:
            while not ended.wait(self._probe()["periodSeconds"]):
                self.is_ready()

        thread = threading.Thread(target=probing)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _probe(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = container(self.template, "triton")["readinessProbe"]
        return found

    def stop(self) -> dict[str, float | int]:
        """As a kubelet stops it: all hooks at once, Triton, then the sidecars from the last on."""
        began_s = time.monotonic()
        hooks = {
            each["name"]: self._hook(each)
            for each in containers(self.template)
            if "preStop" in each.get("lifecycle", {})
        }
        told: dict[str, float | int] = {}
        for name in ("triton", "envoy", "remora"):
            if name in hooks:
                told[f"{name} hook"] = hooks[name].wait(self._grace_s())
            self.running[name]._process.terminate()
            told[name] = self.running[name].exits(self._grace_s())
        told["seconds"] = time.monotonic() - began_s
        told["grace"] = self._grace_s()
        return told

    def _hook(self, each: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        name, *arguments = each["lifecycle"]["preStop"]["exec"]["command"]
        return subprocess.Popen(
            [*self._program(name), *arguments],
            env=self._environment(each),
            stdout=subprocess.DEVNULL,
        )

    def _grace_s(self) -> int:
        return int(self.template["spec"]["terminationGracePeriodSeconds"])

    def _command(self, each: Mapping[str, Any]) -> list[str]:
        given = [self._here(each, argument) for argument in each.get("args", ())]
        if each["name"] == "triton":
            installation = find_triton()
            return [
                str(installation.binary),
                *given[1:],
                "--disable-auto-complete-config",
                f"--backend-directory={installation.backend_directory}",
            ]
        if each["name"] == "envoy":
            return [str(find_envoy()), *given]
        return [*self._program("remora"), *(given or ["run"])]

    def _program(self, name: str) -> list[str]:
        return [sys.executable, "-m", "daemon.cli"] if name == "remora" else [name]

    def _environment(self, each: Mapping[str, Any]) -> dict[str, str]:
        environment = dict(os.environ)
        for variable in each.get("env", ()):
            written = variable.get("value")
            if written is None:
                source = variable["valueFrom"]["resourceFieldRef"]
                limits = container(self.template, source["containerName"])["resources"]["limits"]
                written = str(parse_bytes(limits["memory"].replace("Gi", "GiB")))
            environment[variable["name"]] = self._here(each, written)
        if each["name"] == "triton":
            environment["PATH"] = find_triton().path_env
        # The image's own folder, where nothing else is said.
        if each["name"] == "remora":
            environment["REMORA_STATE_DIRECTORY"] = self._here(each, "/var/lib/remora")
        return environment

    def _here(self, each: Mapping[str, Any], text: str) -> str:
        """A path inside the container is one of the volume's folder."""
        for mount in each.get("volumeMounts", ()):
            text = text.replace(mount["mountPath"], str(self.folder / mount["name"]))
        return text


def asked(port: int, model: ModelSpec = MODEL) -> tuple[int, str]:
    """Status, and in how many attempts Envoy says that it was."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", f"/v2/models/{model.name}/infer", json.dumps(BODY))
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("x-envoy-attempt-count", "")
    finally:
        connection.close()


def raise_loopback() -> None:
    """A new network namespace has one, and it is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        request = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(asking, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(asking, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | IFF_UP))


def main(overlay: str, folder: Path) -> dict[str, Any]:
    raise_loopback()
    pod = Pod(objects(overlay), folder)
    write_repository(folder / "models", (MODEL,))
    with ExitStack() as stack:
        pod.start(stack)
        deadline_s = time.monotonic() + STARTED_WITHIN_S
        while not pod.is_ready():
            assert time.monotonic() < deadline_s, "the pod is not ready"
            time.sleep(0.1)
        stack.enter_context(pod.probed())
        seen: dict[str, Any] = {"cold": asked(9480), "hot": asked(9480)}
        seen["pages"] = {
            port: (page(f"127.0.0.1:{port}", "/metrics") or b"").decode().count("\n")
            for port in (9400, 8002)
        }
        seen["stopped"] = pod.stop()
    return seen


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
