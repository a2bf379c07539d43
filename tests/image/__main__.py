"""Builds the image without an engine and tries it: ``python -m tests.image [FOLDER]``, as root.

The test of the Dockerfile where no container engine is: `make image`. FOLDER keeps the base that
debootstrap made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.image.build import ROOT, Image, build

EXPECTED_IDS = "10001 10001 10001 10001"


def subcommands() -> list[list[str]]:
    """What deploy runs of our image, without its options."""
    found = {
        tuple(word for word in command if not word.startswith("-"))[:1]
        for path in (ROOT / "deploy").rglob("*.yaml")
        if "chart" not in path.parts
        for document in yaml.safe_load_all(path.read_text())
        for command in _ours(document)
    }
    return sorted(list(each) for each in found if each)


def _ours(thing: Any) -> Iterator[list[str]]:
    """Arguments, and hooks, of the containers that are ours."""
    if isinstance(thing, dict):
        if str(thing.get("image", "")).startswith("remora:"):
            yield thing.get("args", ["run"])
            hook = thing.get("lifecycle", {}).get("preStop", {}).get("exec", {})
            yield hook.get("command", [])[1:]
        for value in thing.values():
            yield from _ours(value)
    elif isinstance(thing, list):
        for value in thing:
            yield from _ours(value)


def extras() -> list[str]:
    """Those that `make lock` locks for the image."""
    recipe = (ROOT / "Makefile").read_text().partition("--output-file requirements.txt")[2]
    return re.findall(r"--extra (\w+)", recipe.partition("pyproject.toml")[0])


def size_bytes(folder: Path) -> int:
    return int(subprocess.check_output(["du", "--bytes", "--summarize", folder]).split()[0])


def seen(image: Image) -> dict[str, Any]:
    told = {
        "environment": image.environment,
        "folder": image.folder,
        "user": image.user,
        "entrypoint": image.entrypoint,
        "command": image.command,
        "health": image.health,
        "volumes": image.volumes,
        "subcommands": subcommands(),
        "extras": extras(),
    }
    module = [sys.executable, "-m", "tests.image.tried", str(image.root)]
    ended = subprocess.run(
        ["unshare", "--mount", "--net", *module],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    if ended.returncode:
        raise SystemExit(ended.stderr)
    found: dict[str, Any] = json.loads(ended.stdout)
    found["opt_remora_bytes"] = size_bytes(image.root / "opt/remora")
    return found


def wrong(found: dict[str, Any]) -> Iterator[str]:
    """What is not as promised."""
    runs, may = found["run"], found["may_write"]
    for name, told in found.items():
        if isinstance(told, dict) and "last" in told and told["rc"] != 0:
            yield f"remora {name}: {told}"
    if may["rc"] != 0 or may["said"].count("Read-only file system") != 2:
        yield f"only the volume is to be writable: {may}"
    if not isinstance(found["extras"], dict) or None in found["extras"].values():
        yield f"extras: {found['extras']}"
    if not isinstance(found["modules"], int):
        yield f"modules: {found['modules']}"
    if (runs["Uid"], runs["Gid"], runs["Groups"]) != (EXPECTED_IDS, EXPECTED_IDS, ""):
        yield f"user: {runs}"
    if {runs["CapEff"], runs["CapBnd"]} != {"0" * 16} or runs["NoNewPrivs"] != "1":
        yield f"capabilities: {runs}"
    if not runs["healthy"] or runs["ended"] != 0:
        yield f"not healthy, or did not end well: {runs}"
    if not runs["written"]:
        yield "nothing was written where it should be"
    if any("Traceback" in line or "Read-only" in line for line in runs["log"]):
        yield f"log: {runs['log']}"


def main() -> None:
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise SystemExit("this needs root, and Debian's debootstrap")
    with tempfile.TemporaryDirectory() as folder:
        found = seen(build(Path(sys.argv[1] if sys.argv[1:] else folder).resolve()))
    print(json.dumps(found, indent=1))
    if faults := list(wrong(found)):
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
