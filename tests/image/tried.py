"""Runs what was built as a kubelet would: as its user, with a read-only root and no capabilities.

``python -m tests.image.tried ROOT``, where the image's environment, user and commands come as JSON
from standard input; in network and mount namespaces of its own. It tells what it saw as JSON.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.manifests.pod import raise_loopback

_CHROOT = shutil.which("chroot") or "/usr/sbin/chroot"
READY_WITHIN_S = 60.0
STAYS_S = 5.0
TIMEOUT_S = 120.0
CHECKED = "preset: balanced\nbudget: 10GiB\n"
# Nobody listens there, as nobody does where Triton should.
DEAD = {"REMORA_GOSSIP": "mqtt://127.0.0.1:1", "REMORA_PROMETHEUS": "http://127.0.0.1:1"}


class Container:
    """Programs of the image, each as in a container of its own over the same volumes."""

    def __init__(self, root: Path, image: dict[str, Any]) -> None:
        self.root = root
        self.image = image
        writable = [root / name.lstrip("/") for name in image["volumes"]]
        for place in (root, *writable):
            _run("mount", "--bind", str(place), str(place))
        _run("mount", "-t", "proc", "proc", str(root / "proc"))
        _run("mount", "-o", "remount,bind,ro", str(root))

    def command(self, *given: str, **environment: str) -> list[str]:
        """env -i, for the image's environment is all there is."""
        user, group = self.image["user"].split(":")
        variables = {"HOME": "/", **self.image["environment"], **environment}
        # An engine's pid 1 is the program itself, and so is this.
        return [
            "env", "-i", _CHROOT, str(self.root),
            "setpriv", "--reuid", user, "--regid", group, "--clear-groups",
            "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs",
            "env", f"--chdir={self.image['folder']}",
            *(f"{name}={value}" for name, value in variables.items()), *given,
        ]  # fmt: skip

    def ran(self, *given: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*given),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )


def tried(container: Container) -> dict[str, Any]:
    image = container.image
    told: dict[str, Any] = {"user": container.ran("id").stdout.strip()}
    written = container.ran("sh", "-c", "touch /opt/remora/a /tmp/a; touch here && rm here")
    told["may_write"] = {"rc": written.returncode, "said": written.stderr}
    policy = container.root / "var/lib/remora/policy.yaml"
    policy.write_text(CHECKED)
    for arguments in (
        ["--version"],
        ["check", "/var/lib/remora/policy.yaml"],
        *([*each, "--help"] for each in image["subcommands"]),
    ):
        ended = container.ran(*image["entrypoint"], *arguments)
        last = (ended.stdout + ended.stderr).strip().splitlines()[-1:]
        told[" ".join(arguments)] = {"rc": ended.returncode, "last": last}
    policy.unlink()
    ended = container.ran("python", "-c", _EXTRAS, *image["extras"])
    told["extras"] = json.loads(ended.stdout) if ended.returncode == 0 else ended.stderr
    ended = container.ran("python", "-c", _MODULES)
    told["modules"] = json.loads(ended.stdout) if ended.returncode == 0 else ended.stderr
    told["run"] = _runs(container)
    return told


# What the extras ask for and how it is there.
_EXTRAS = """\
import importlib.metadata as m, json, sys
from packaging.requirements import Requirement
found = {}
for extra in sys.argv[1:]:
    for text in m.requires("remora"):
        asked = Requirement(text)
        if asked.marker and asked.marker.evaluate({"extra": extra}):
            if not asked.marker.evaluate({"extra": ""}):
                try:
                    version = m.version(asked.name)
                except m.PackageNotFoundError:
                    version = "0"
                is_there = version in asked.specifier
                found[f"{extra}: {asked.name}"] = version if is_there else None
print(json.dumps(found))
"""

# Whether each of our modules, and with it what it needs, can be imported; those imported late too.
_MODULES = """\
import importlib, json, pkgutil
import daemon
names = [each.name for each in pkgutil.walk_packages(daemon.__path__, "daemon.")]
for name in (*names, "mlflow", "s3fs", "aiomqtt", "prometheus_api_client", "kubernetes.aio"):
    importlib.import_module(name)
print(json.dumps(len(names)))
"""


def _runs(container: Container) -> dict[str, Any]:
    """The image's own command before a dead Triton, and its own health check."""
    image = container.image
    log = container.root.parent / "remora.log"
    with log.open("wb") as out:
        command = container.command(*image["entrypoint"], *image["command"], **DEAD)
        began_s = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        while container.ran(*image["health"]).returncode != 0:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < began_s + READY_WITHIN_S, log.read_text()
            time.sleep(0.2)
        time.sleep(STAYS_S)
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        )
        told: dict[str, Any] = {
            name: " ".join(status[name].split())
            for name in ("Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "VmRSS")
        }
        told["healthy"] = container.ran(*image["health"]).returncode == 0
    finally:
        process.terminate()
        status_of_end = process.wait(TIMEOUT_S)
    state = container.root / "var/lib/remora"
    return told | {
        "ended": status_of_end,
        "written": sorted(str(path.relative_to(state)) for path in state.rglob("*")),
        "log": log.read_text().splitlines()[:20],
    }


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    raise_loopback()
    print(json.dumps(tried(Container(Path(sys.argv[1]), json.load(sys.stdin)))))
