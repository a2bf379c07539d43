"""Runs a module in a network namespace of its own, where the ports of manifests are free."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.overlays import DEPLOY

# As anybody may have one where the machine allows it.
ALONE = ("unshare", "--user", "--map-root-user", "--net")
TIMEOUT_S = 180.0


def told(module: str, *arguments: str, folder: Path) -> Any:
    """What the module prints as JSON; its last argument is `folder`, where its logs lie."""
    if shutil.which(ALONE[0]) is None or subprocess.run([*ALONE, "true"], check=False).returncode:
        pytest.skip("this machine gives no network namespace, where the pod's ports would be free")
    ended = subprocess.run(
        [*ALONE, sys.executable, "-m", module, *arguments, str(folder)],
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
