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
# Failures that may mean a dead model; a cancelled or rejected request says nothing of it. Servers
# before 2.42 give no reason.
_SUSPICIOUS = ("BACKEND", "OTHER", None)

_FAMILIES = "|".join((*_COUNTERS, *_GAUGES, _PENDING))
_LINE = re.compile(rf"({_FAMILIES})(?:\s*\{{(.*)\}}\s*|\s+)(\S+)(?:\s+-?\d+)?\s*")
_LABEL = re.compile(r'\s*([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?', re.ASCII)
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
_ESCAPE = re.compile(r"\\.")

Series = tuple[str, str]
"""A family and its labels, as they stand on the page."""


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

    counters: values by series; NaN for one that is there and cannot be read.
    pending: queued requests by model.
    devices: gauges by GPU uuid, and of the host.
    """

    counters: Mapping[Series, float] = field(default_factory=dict)
    pending: Mapping[str, int] = field(default_factory=dict)
    devices: Mapping[str, DeviceGauges] = field(default_factory=dict)


def parse(text: str) -> Exposition:
    """Reads a page; lines of no interest or out of shape are passed over.

    1 ms for a hundred models, where the client library's parser takes 13 ms, and 11 ms on
    these lines alone; and this is read every second.
    """
    counters: dict[Series, float] = {}
    pending: dict[str, int] = {}
    gauges: dict[str, dict[str, float]] = {}
    # Not splitlines(): a label's value may hold what Unicode takes for the end of a line.
    for line in text.split("\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        name, written, value = match[1], match[2] or "", _value(match[3])
        if name in _COUNTERS:
            counters[name, written] = value
        elif math.isnan(value):
            continue
        elif name == _PENDING:
            model = labels(written).get("model", "")
            pending[model] = pending.get(model, 0) + int(value)
        else:
            device = labels(written).get("gpu_uuid") if "_gpu_" in name else HOST
            gauges.setdefault(device or "", {})[_GAUGES[name]] = value
    return Exposition(counters, pending, {d: _gauges(row) for d, row in gauges.items() if d})


def labels(text: str) -> dict[str, str]:
    """The labels of a series, escapes undone."""
    return {
        name: _ESCAPE.sub(lambda m: _ESCAPES.get(m[0], m[0]), value) if "\\" in value else value
        for name, value in _LABEL.findall(text)
    }


def _value(text: str) -> float:
    """The number, or NaN for what no counter and no gauge of ours can be."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if 0 <= value < math.inf else math.nan


def _gauges(row: Mapping[str, float]) -> DeviceGauges:
    # A failed reading shows as 0, and no device that runs Triton has none of its memory used.
    used_bytes = int(row.get("used_bytes", 0)) or None
    utilisation = row.get("utilisation")
    return DeviceGauges(
        int(row.get("total_bytes", 0)) or None,
        used_bytes,
        # Beside another failed reading an idle device is more likely one that was not read.
        None if utilisation == 0 and used_bytes is None else utilisation,
    )


@dataclass(slots=True)
class _Counter:
    """One series. baseline: its latest good value; None before the first."""

    model: str
    adds_to: tuple[str, ...]
    unit: float
    baseline: float | None

    def advance(self, value: float) -> float:
        """What it grew by; a value that fell was reset, and counts from zero."""
        if math.isnan(value):
            return 0.0
        before = value if self.baseline is None else self.baseline
        self.baseline = value
        return (value - before if value >= before else value) * self.unit


@dataclass(slots=True)
class CounterDeltas:
    """Turns counters into what happened between two looks."""

    _counters: dict[Series, _Counter] = field(default_factory=dict)
    _started: bool = False

    def update(self, exposition: Exposition) -> dict[str, Activity]:
        """Activity since the last page of every model that did something or has a queue.

        Nothing was done at the first page, which may tell of years. Later a series that was
        not there counts from zero, and one that has gone does so when it returns.
        """
        beginning = 0.0 if self._started else None
        counters: dict[Series, _Counter] = {}
        sums: dict[str, dict[str, float]] = {}
        for series, value in exposition.counters.items():
            counter = self._counters.get(series) or _counter(series, beginning)
            counters[series] = counter
            grown = counter.advance(value)
            if grown > 0:
                row = sums.setdefault(counter.model, {})
                for what in counter.adds_to:
                    row[what] = row.get(what, 0.0) + grown
        self._counters, self._started = counters, True
        return {
            name: Activity(**sums.get(name, {}), pending=exposition.pending.get(name))
            for name in sorted({*sums, *exposition.pending})
        }


def _counter(series: Series, baseline: float | None) -> _Counter:
    family, written = series
    found = labels(written)
    what, unit = _COUNTERS[family]
    suspicious = what == "failures" and found.get("reason") in _SUSPICIOUS
    adds_to = (what, "backend_failures") if suspicious else (what,)
    return _Counter(found.get("model", ""), adds_to, unit, baseline)


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
                # A model's folder may have any name; one odd name must not hide the others.
                return parse(await answer.text("utf-8", errors="replace"))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise ScrapeError(f"{self.url}: {str(error) or type(error).__name__}") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
