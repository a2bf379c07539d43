"""Finds NVIDIA's perf_analyzer, or unpacks the one that a wheel of tritonclient carries.

Owns where the binary and the two libraries that it misses come from, and the reading of one
measurement. Knows nothing of what is measured. It is fetched once, as an ordinary user may, from
the configured package indexes; where that fails, `find` says so and the caller measures otherwise.
"""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TRITONCLIENT_VERSION = "2.51.0"
# Later wheels bring the binary for another libc; this one is built for any Linux.
PLATFORM = "manylinux1_x86_64"
CUDA_RUNTIME = "nvidia-cuda-runtime-cu12==12.9.79"
BASE64_PACKAGE = "libb64-0d"


class PerfAnalyzerError(RuntimeError):
    """There is none here, or it failed; the message says at what."""


@dataclass(frozen=True, slots=True)
class PerfAnalyzer:
    """The binary, and where its libraries lie."""

    binary: Path
    libraries: str

    def measure(
        self,
        *,
        url: str,
        protocol: str,
        model: str,
        values: int,
        concurrency: int,
        interval_ms: int,
    ) -> "Measured":
        """One closed-loop measurement, of the model's input X of ``values`` numbers.

        Raises PerfAnalyzerError, also when a single request fails.
        """
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.csv"
            self._run(
                *("-m", model, "-u", url, "-i", protocol, "--shape", f"X:{values},1"),
                *("--concurrency-range", str(concurrency), "--percentile", "99"),
                # It averages three windows, and what is stable is for the rounds to say.
                *("--measurement-interval", str(interval_ms), "--max-trials", "3"),
                *("--stability-percentage", "999", "-f", str(report)),
            )
            return _read(report)

    def _run(self, *arguments: str) -> None:
        environment = os.environ | {"LD_LIBRARY_PATH": self.libraries}
        command = (str(self.binary), *arguments)
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()[-1000:]
            raise PerfAnalyzerError(f"status {done.returncode} of {' '.join(arguments)}: {said}")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one closed loop saw."""

    p50_ms: float
    p99_ms: float
    requests_per_s: float


def find() -> PerfAnalyzer:
    """$PERF_ANALYZER, else the cached one, fetched if need be. Raises PerfAnalyzerError."""
    named = os.environ.get("PERF_ANALYZER")
    if named:
        return _checked(PerfAnalyzer(Path(named), os.environ.get("LD_LIBRARY_PATH", "")))
    root = _cache() / f"perf-analyzer-{TRITONCLIENT_VERSION}"
    if not (root / "finished").is_file():
        _fetch(root)
    return _checked(_unpacked(root))


def _cache() -> Path:
    """The folder in which the test bed keeps its Triton."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "remora"


def _fetch(root: Path) -> None:
    print(f"fetching perf_analyzer (about 18 MB, once) into {root}", flush=True)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download")
    options = ("--no-deps", "--only-binary=:all:", "--dest", ".")
    client = f"tritonclient=={TRITONCLIENT_VERSION}"
    _call(root, *pip, *options, "--platform", PLATFORM, client)
    _call(root, *pip, *options, CUDA_RUNTIME)
    _call(root, "apt-get", "--quiet", "download", BASE64_PACKAGE)
    for wheel in root.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root)
        wheel.unlink()
    for package in root.glob("*.deb"):
        _call(root, "dpkg-deb", "--extract", package.name, "deb")
    _unpacked(root).binary.chmod(0o755)
    (root / "finished").touch()


def _unpacked(root: Path) -> PerfAnalyzer:
    binary = root / f"tritonclient-{TRITONCLIENT_VERSION}.data" / "data" / "bin" / "perf_analyzer"
    libraries = [path.parent for path in root.rglob("lib*.so*") if _is_needed(path.name)]
    return PerfAnalyzer(binary, os.pathsep.join(sorted({str(folder) for folder in libraries})))


def _is_needed(name: str) -> bool:
    return name.startswith(("libb64.so", "libcudart.so"))


def _checked(found: PerfAnalyzer) -> PerfAnalyzer:
    if not found.binary.is_file():
        raise PerfAnalyzerError(f"{found.binary} is not there")
    found._run("--version")
    return found


def _call(folder: Path, *command: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PerfAnalyzerError(f"cannot run {command[0]}: {error}") from None
    if done.returncode != 0:
        said = done.stderr.strip()[-500:]
        raise PerfAnalyzerError(f"`{' '.join(command)}` failed: {said}")


def _read(report: Path) -> Measured:
    with report.open() as lines:
        rows: Sequence[dict[str, str]] = list(csv.DictReader(lines))
    if not rows:
        raise PerfAnalyzerError("the report is empty")
    row = rows[0]
    return Measured(
        float(row["p50 latency"]) / 1000,
        float(row["p99 latency"]) / 1000,
        float(row["Inferences/Second"]),
    )
