"""Finds a real tritonserver, or installs the one that the nvidia-pytriton wheel carries.

Owns where the binary, its backends and the Python that they embed come from. Knows nothing of
running a server, of ports or of models.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

WHEEL_VERSION = "0.7.0"
# numpy 2 loads in the stub, and then every numeric answer fails with a shape error.
REQUIREMENTS = (f"nvidia-pytriton=={WHEEL_VERSION}", "numpy==1.26.4")
# The last Python for which numpy 1.26 has wheels is 3.12.
EMBEDDABLE = ("3.12", "3.11")

CONTAINER_BACKENDS = Path("/opt/tritonserver/backends")

INSPECTION = """
import json, sys, sysconfig
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "library_directory": sysconfig.get_config_var("LIBDIR") or "",
}))
"""

Say = Callable[[str], None]


class InstallationError(RuntimeError):
    """No usable tritonserver; the message says what was looked for and what would help."""


@dataclass(frozen=True)
class Installation:
    """A tritonserver that can be started: `path_env` is the PATH that its stubs need."""

    binary: Path
    backend_directory: Path
    path_env: str
    source: Literal["env", "path", "wheel"]


@dataclass(frozen=True)
class Interpreter:
    """A Python that the wheel's stub can embed; `version` is major.minor."""

    executable: str
    version: str
    library_directory: Path


def find(prefix: Path | None = None, say: Say = print) -> Installation:
    """The first of: $TRITONSERVER, `tritonserver` on PATH, the wheel installed under `prefix`.

    The wheel is fetched from the configured package index once; `say` is told before. Raises
    InstallationError.
    """
    named = os.environ.get("TRITONSERVER")
    if named:
        return _existing(Path(named), "env")
    on_path = shutil.which("tritonserver")
    if on_path:
        return _existing(Path(on_path), "path")
    return _from_wheel(prefix, say)


def _existing(binary: Path, source: Literal["env", "path"]) -> Installation:
    if not (binary.is_file() and os.access(binary, os.X_OK)):
        raise InstallationError(
            f"TRITONSERVER is {str(binary)!r}, which is not an executable file; name a"
            " tritonserver binary, or unset it to have one installed"
        )
    binary = binary.resolve()
    # An unpacked Triton keeps its backends beside bin/; the container names an absolute place.
    candidates = (binary.parent.parent / "backends", CONTAINER_BACKENDS)
    backends = next((path for path in candidates if path.is_dir()), None)
    if backends is None:
        places = " or ".join(str(path) for path in candidates)
        raise InstallationError(f"{binary} has no backends: looked for {places}")
    return Installation(binary, backends, os.environ.get("PATH", os.defpath), source)


def _from_wheel(prefix: Path | None, say: Say) -> Installation:
    python = _embeddable_interpreter()
    root = prefix or _cache() / f"tritonserver-{WHEEL_VERSION}-py{python.version}"
    root.mkdir(parents=True, exist_ok=True)
    if not _is_finished(root, python):
        # Whoever waited for the lock usually finds the work done.
        with _alone(root / "lock"):
            if not _is_finished(root, python):
                _install(root, python, say)
    return _installed(root, python)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "remora"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Holds `lock` against other processes; the system releases it should this one die."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _is_finished(root: Path, python: Interpreter) -> bool:
    """The marker is written last, so a half-made installation never carries the right one."""
    marker = root / "finished"
    return (
        marker.is_file()
        and marker.read_text() == _contents(python)
        # False when the interpreter below the environment has been removed since.
        and (_environment(root) / "bin" / "python3").exists()
    )


def _contents(python: Interpreter) -> str:
    return "\n".join((*REQUIREMENTS, f"python=={python.version}", ""))


def _environment(root: Path) -> Path:
    return root / "venv"


def _site_packages(root: Path, python: Interpreter) -> Path:
    return _environment(root) / "lib" / f"python{python.version}" / "site-packages"


def _triton(root: Path, python: Interpreter) -> Path:
    return _site_packages(root, python) / "pytriton" / "tritonserver"


def _install(root: Path, python: Interpreter, say: Say) -> None:
    say(f"installing Triton ({REQUIREMENTS[0]}, about 75 MB, once) into {root}")
    environment = _environment(root)
    (root / "finished").unlink(missing_ok=True)
    shutil.rmtree(environment, ignore_errors=True)
    # An environment of its own: numpy 1 here must never meet the caller's numpy.
    _run(python.executable, "-m", "venv", str(environment))
    pip = (str(environment / "bin" / "python"), "-m", "pip")
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:")
    _run(*pip, "install", *options, *REQUIREMENTS)
    _place_stub(root, python)
    _place_library(root, python)
    (root / "finished").write_text(_contents(python))


def _place_stub(root: Path, python: Interpreter) -> None:
    """The python backend starts the stub beside it; the wheel brings one for each Python."""
    triton = _triton(root, python)
    name = "triton_python_backend_stub"
    stub = triton / "python_backend_stubs" / python.version / name
    if not stub.is_file():
        raise InstallationError(
            f"{REQUIREMENTS[0]} has no python backend stub for {python.version}"
        )
    shutil.copy2(stub, triton / "backends" / "python" / name)


def _place_library(root: Path, python: Interpreter) -> None:
    """The stub links libpython, which a Python outside the loader's path keeps to itself.

    A link in the wheel's own library folder is found through the stub's rpath, and saves an
    LD_LIBRARY_PATH that every child would inherit.
    """
    name = f"libpython{python.version}.so.1.0"
    library = python.library_directory / name
    if library.is_file():
        (_site_packages(root, python) / "nvidia_pytriton.libs" / name).symlink_to(library)
        return
    loads = f"import ctypes; ctypes.CDLL({name!r})"
    try:
        _run(python.executable, "-c", loads)
    except InstallationError as error:
        raise InstallationError(
            f"{python.executable} has no {name}, which Triton's python stub links; install the"
            f" shared library of Python {python.version}, or set TRITONSERVER"
        ) from error


def _installed(root: Path, python: Interpreter) -> Installation:
    triton = _triton(root, python)
    # The stub embeds the first python3 of its PATH; PYTHONPATH or VIRTUAL_ENV do not move it.
    path_env = os.pathsep.join(
        (str(_environment(root) / "bin"), os.environ.get("PATH", os.defpath))
    )
    # Run in place: the binary's rpath needs the wheel's libraries where the wheel put them.
    return Installation(
        triton / "bin" / "tritonserver", triton / "backends", path_env, source="wheel"
    )


def _embeddable_interpreter() -> Interpreter:
    own = _inspect(sys.executable)
    if own and own.version in EMBEDDABLE:
        return own
    for version in EMBEDDABLE:
        found = shutil.which(f"python{version}")
        # A version switcher's shim is on PATH even when that version cannot run.
        other = _inspect(found) if found else None
        if other and other.version == version:
            return other
    raise InstallationError(
        f"Triton's python stub needs numpy 1, which Python {sys.version_info[0]}."
        f"{sys.version_info[1]} has no wheels for, and no working"
        f" {' or '.join(f'python{version}' for version in EMBEDDABLE)} is on PATH; put one"
        " there, or set TRITONSERVER to a tritonserver binary"
    )


def _inspect(executable: str) -> Interpreter | None:
    """What `executable` is; None when it does not run."""
    try:
        facts = json.loads(_run(executable, "-c", INSPECTION))
    except InstallationError:
        return None
    return Interpreter(executable, facts["version"], Path(facts["library_directory"]))


def _run(*command: str) -> str:
    """The output of `command`; InstallationError with the end of what it said when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InstallationError(f"cannot run {command[0]}: {error}") from error
    if done.returncode != 0:
        said = _last_lines(done.stdout + done.stderr)
        raise InstallationError(
            f"`{' '.join(command)}` failed with status {done.returncode}:\n{said}\n"
            "A tritonserver binary named by TRITONSERVER needs no installation."
        )
    return done.stdout


def _last_lines(text: str, count: int = 15) -> str:
    lines: Sequence[str] = text.strip().splitlines()
    return "\n".join(lines[-count:])
