"""A real Prometheus: found or fetched, over a past written for it or scraping what it is told."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from simulations.testbed.server import Server, page
from simulations.testbed.tritonserver import free_ports

FETCH_TIMEOUT_S = 180


class NoPrometheus(RuntimeError):
    """There is none; the message says what was tried."""


@dataclass(frozen=True, slots=True)
class Tools:
    prometheus: Path
    promtool: Path


def find() -> Tools:
    """Those on PATH, else Debian's package unpacked into the cache. Raises NoPrometheus."""
    server, tool = shutil.which("prometheus"), shutil.which("promtool")
    if server and tool:
        return Tools(Path(server), Path(tool))
    base = os.environ.get("XDG_CACHE_HOME")
    root = (Path(base) if base else Path.home() / ".cache") / "remora" / "prometheus"
    if not root.is_dir():
        _fetch(root)
    return Tools(root / "usr" / "bin" / "prometheus", root / "usr" / "bin" / "promtool")


def _fetch(root: Path) -> None:
    """Needs no root: nothing is installed."""
    draft = root.with_name(f"prometheus-{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        _run(["apt-get", "download", "prometheus"], draft)
        (package,) = draft.glob("*.deb")
        _run(["dpkg", "-x", package.name, "."], draft)
        package.unlink()
        draft.rename(root)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise NoPrometheus(
            f"no prometheus on PATH, and Debian's could not be fetched: {error}"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _run(command: Sequence[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=FETCH_TIMEOUT_S)


class Prometheus(Server):
    name = "Prometheus"

    def __init__(
        self,
        tools: Tools,
        folder: Path,
        targets: Mapping[str, Sequence[str]] | None = None,
        options: Sequence[str] = (),
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        """targets: addresses by job, scraped each second; data lies in ``folder``/data.

        configuration: what Prometheus' own file says beside that, or in its place.
        """
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        jobs = [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
            for job, addresses in (targets or {}).items()
        ]
        settings = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        whole = {"global": settings, "scrape_configs": jobs, **(configuration or {})}
        config = folder / "prometheus.yaml"
        config.write_text(yaml.safe_dump(whole))
        command = [
            str(tools.prometheus),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address={self.address}",
            *options,
        ]
        super().__init__(command, log_path=folder / "prometheus.log")

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def answers_live(self) -> bool:
        return page(self.address, "/-/ready") is not None


Sample = tuple[int, float]
Past = Mapping[str, Mapping[str, Iterable[Sample]]]


def write_past(tools: Tools, folder: Path, past: Past) -> None:
    """Fills the data below ``folder`` with samples (seconds since 1970, value) by metric and
    labels, the latter as they stand in braces."""
    text = folder / "past.txt"
    with text.open("w") as file:
        for metric, series in past.items():
            for labels, samples in series.items():
                file.writelines(f"{metric}{{{labels}}} {value:g} {at}\n" for at, value in samples)
        file.write("# EOF\n")
    command = [str(tools.promtool), "tsdb", "create-blocks-from", "openmetrics"]
    _run([*command, str(text), str(folder / "data")], folder)
