"""Triton's metrics page: what models did since the last look, and what devices hold.

Owns the arithmetic of counters: sums over versions and over the series that a GPU's uuid
splits, before anything is divided; resets, when a model was loaded anew; series that come
and go. Refuses to know what the numbers mean for a decision.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp

from policies.snapshot import HOST

# The few families that are needed, of the dozens on the page: what each adds to, and by how much.
_COUNTERS = {
    "nv_inference_request_success": ("successes", 1.0),
    "nv_inference_request_failure": ("failures", 1.0),
    "nv_inference_exec_count": ("executions", 1.0),
    "nv_inference_queue_duration_us": ("queue_s", 1e-6),
    "nv_inference_compute_input_duration_us": ("compute_s", 1e-6),
    "nv_inference_compute_infer_duration_us": ("compute_s", 1e-6),
    "nv_inference_compute_output_duration_us": ("compute_s", 1e-6),
}
_PENDING = "nv_inference_pending_request_count"
_GAUGES = {
    "nv_gpu_memory_total_bytes": "total_bytes",
    "nv_gpu_memory_used_bytes": "used_bytes",
    "nv_gpu_utilization": "utilisation",
    "nv_cpu_memory_total_bytes": "total_bytes",
    "nv_cpu_memory_used_bytes": "used_bytes",
    "nv_cpu_utilization": "utilisation",
}
# Failures that may mean a dead model; a cancelled or rejected request says nothing of it.
_SUSPICIOUS = ("BACKEND", "OTHER", None)

_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?\s*")
_LABEL = re.compile(r'\s*([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?')
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
_ESCAPE = re.compile(r"\\.")


class ScrapeError(RuntimeError):
    """The page could not be had."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What one model did since the last look, all versions together.

    backend_failures: the part of the failures that a dead model would cause.
    queue_s, compute_s: seconds, summed over requests.
    pending: requests in its queue now; None where there is no such gauge.
    """

    successes: float = 0.0
    failures: float = 0.0
    backend_failures: float = 0.0
    executions: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    pending: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceGauges:
    """A device as the page shows it; None where a reading failed or is not there."""

    total_bytes: int | None = None
    used_bytes: int | None = None
    utilisation: float | None = None


@dataclass(frozen=True, slots=True)
class Exposition:
    """One page.

    counters: values by series; a series is its family and its labels, as they stand there.
    pending: queued requests by model.
    devices: gauges by GPU uuid, and of the host.
    """

    counters: Mapping[tuple[str, str], float] = field(default_factory=dict)
    pending: Mapping[str, int] = field(default_factory=dict)
    devices: Mapping[str, DeviceGauges] = field(default_factory=dict)


def parse(text: str) -> Exposition:
    """Reads a page; lines of no interest or out of shape are passed over.

    The client library's parser takes five times as long, most of it on families that
    nobody here asks for, and this is read every second.
    """
    counters: dict[tuple[str, str], float] = {}
    pending: dict[str, int] = {}
    gauges: dict[str, dict[str, float]] = {}
    # Not splitlines(): a name may hold other characters that it takes for the end of a line.
    for line in text.split("\n"):
        if not line.startswith("nv_"):
            continue
        name = line.partition("{")[0].partition(" ")[0]
        if name not in _COUNTERS and name not in _GAUGES and name != _PENDING:
            continue
        match = _LINE.fullmatch(line)
        value = _value(match[3]) if match else None
        if match is None or value is None:
            continue
        if name in _COUNTERS:
            counters[name, match[2] or ""] = value
        elif name == _PENDING:
            model = labels(match[2] or "").get("model", "")
            pending[model] = pending.get(model, 0) + int(value)
        else:
            device = labels(match[2] or "").get("gpu_uuid") if "_gpu_" in name else HOST
            gauges.setdefault(device or "", {})[_GAUGES[name]] = value
    return Exposition(counters, pending, {d: _gauges(row) for d, row in gauges.items() if d})


def labels(text: str) -> dict[str, str]:
    """The labels of a series, escapes undone."""
    return {
        name: _ESCAPE.sub(lambda m: _ESCAPES.get(m[0], m[0]), value) if "\\" in value else value
        for name, value in _LABEL.findall(text)
    }


def _value(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _gauges(row: Mapping[str, float]) -> DeviceGauges:
    # A failed reading shows as 0, and no device that runs Triton has none of its memory used.
    return DeviceGauges(
        int(row.get("total_bytes", 0)) or None,
        int(row.get("used_bytes", 0)) or None,
        row.get("utilisation"),
    )


@dataclass(slots=True)
class CounterDeltas:
    """Turns counters into what happened between two looks."""

    _values: dict[tuple[str, str], float] = field(default_factory=dict)
    _labels: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    _started: bool = False

    def update(self, exposition: Exposition) -> dict[str, Activity]:
        """Activity by model since the last page; nothing at the first one.

        A series that fell was reset and counts from zero; so does one that was not there.
        """
        sums: dict[str, dict[str, float]] = {}
        for series, value in exposition.counters.items():
            before = self._values.get(series, 0.0 if self._started else value)
            grown = value - before if value >= before else value
            if grown > 0:
                self._add(sums, series, grown)
        self._values = dict(exposition.counters)
        self._started = True
        if len(self._labels) > 4 * len(self._values) + 1000:
            self._labels.clear()
        return {
            name: Activity(**sums.get(name, {}), pending=exposition.pending.get(name))
            for name in sorted({*sums, *exposition.pending})
        }

    def _add(
        self, sums: dict[str, dict[str, float]], series: tuple[str, str], grown: float
    ) -> None:
        family, written = series
        if written not in self._labels:
            found = labels(written)
            self._labels[written] = (found.get("model", ""), found.get("reason"))
        model, reason = self._labels[written]
        what, unit = _COUNTERS[family]
        row = sums.setdefault(model, {})
        row[what] = row.get(what, 0.0) + grown * unit
        if what == "failures" and reason in _SUSPICIOUS:
            row["backend_failures"] = row.get("backend_failures", 0.0) + grown


@dataclass(slots=True)
class Scraper:
    """Fetches the page at ``url``, within ``timeout_s``."""

    url: str
    timeout_s: float
    _session: aiohttp.ClientSession | None = None

    async def scrape(self) -> Exposition:
        """The page of now; raises ScrapeError."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self.timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout)
        try:
            async with self._session.get(self.url) as answer:
                if answer.status != 200:
                    raise ScrapeError(f"{self.url}: HTTP {answer.status}")
                return parse(await answer.text())
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise ScrapeError(f"{self.url}: {str(error) or type(error).__name__}") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
