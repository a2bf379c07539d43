"""Types commands into a shell, and prints them with what they said and how long it took."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.controlplane.deployed import eventually
from tests.controlplane.workload import ROOT

LINES = 40


class Typist:
    """In `folder`, with `remora` and `python` as they are here."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._folder = folder
        programs = folder / "programs"
        programs.mkdir()
        for name, arguments in {"remora": "-m daemon.cli ", "python": ""}.items():
            path = programs / name
            path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments}"$@"\n')
            path.chmod(0o755)
        told = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        self._environment = os.environ | told | environment

    def says(self, text: str) -> None:
        print(f"\n# {text}", flush=True)

    def types(self, command: str, lines: int = LINES) -> None:
        """lines: how many of its own are printed at most."""
        print(f"$ {command}", flush=True)
        began_s = time.monotonic()
        status, said = self.asks(command)
        took_s = time.monotonic() - began_s
        told = said.rstrip().splitlines()
        print("\n".join(told[:lines]))
        if len(told) > lines:
            print(f"… {len(told) - lines} more lines")
        print(f"[{took_s:.1f} s{f', status {status}' if status else ''}]", flush=True)

    def asks(self, command: str) -> tuple[int, str]:
        """Status, and what it said; nothing is printed."""
        ended = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stdout

    def waits(self, holds: Callable[[], object], within_s: float, what: str) -> None:
        began_s = time.monotonic()
        eventually(holds, within_s, lambda: what)
        print(f"({what}: after {time.monotonic() - began_s:.1f} s)", flush=True)
