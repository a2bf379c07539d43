"""What `remora gateway-config` prints, as a user would have it."""

import subprocess
import sys


def written_gateway(*words: str) -> str:
    command = [sys.executable, "-m", "daemon.cli", "gateway-config", *words]
    written = subprocess.run(command, capture_output=True, text=True, check=False)
    assert written.returncode == 0, written.stderr
    return written.stdout
