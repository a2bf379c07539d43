"""What is to be recorded: from where, which query, over which time, in which steps.

Owns the meaning of the arguments. Asks no server and opens no file but the token's.
"""

import math
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from simulations.recording.errors import BadSpec

# Every request that Triton answered, well or not; a metric of each, by model and version.
TRITON_QUERY = '{__name__=~"nv_inference_request_(success|failure)"}'

Kind = Literal["counter", "rate"]

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")


@dataclass(frozen=True, slots=True)
class RecordSpec:
    """One recording.

    url: of the Prometheus server, with any prefix; credentials in it are used, never written.
    query: for kind "counter" a plain selector of counters; for "rate" any PromQL that gives
        requests per second.
    since, until: ISO 8601 (UTC where no zone is named), epoch seconds, "now", or "-7d" before now.
    labels: their values name the model, joined by ":".
    step_s: length of a step, whole milliseconds.
    token_file: holds a bearer token, read anew for each request; token: the same as text.
    ca_file: certificates that the server's is checked against, PEM.
    timeout_s: for one answer. Above the server's own limit of two minutes, so that it can say so.
    retries: how often more a request is tried when the server fails or does not answer.
    """

    url: str
    query: str = TRITON_QUERY
    since: str = "-1d"
    until: str = "now"
    step_s: float = 60.0
    kind: Kind = "counter"
    labels: tuple[str, ...] = ("model",)
    token_file: Path | None = None
    token: str | None = None
    ca_file: Path | None = None
    timeout_s: float = 150.0
    retries: int = 5

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadSpec(f"url is {self.source!r}; it must be http://HOST or https://HOST")
        if self.kind not in ("counter", "rate"):
            raise BadSpec(f"kind is {self.kind!r}; it must be counter or rate")
        if not self.query.strip():
            raise BadSpec("query is empty; give a selector or an expression")
        if not self.labels or not all(self.labels):
            raise BadSpec("labels are empty; name at least one whose value is the model")
        if not (math.isfinite(self.step_s) and self.step_s >= 0.001):
            raise BadSpec(f"step is {self.step_s:g} s; it must be at least 1 ms")
        if abs(self.step_s * 1000 - round(self.step_s * 1000)) > 1e-6:
            raise BadSpec(f"step is {self.step_s!r} s; it must be whole milliseconds")

    @property
    def source(self) -> str:
        """The url without credentials, query and fragment."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))

    def identity(self) -> dict[str, object]:
        """What makes two recordings the same one; how the server is reached does not."""
        kept = asdict(self)
        names = ("query", "since", "until", "step_s", "kind")
        return {"source": self.source, "labels": list(self.labels)} | {n: kept[n] for n in names}

    def span(self, now_s: float) -> "Span":
        """The range in whole steps from ``since`` on; raises BadSpec where there is none."""
        from_ms = _at_ms("from", self.since, now_s)
        to_ms = _at_ms("to", self.until, now_s)
        step_ms = round(self.step_s * 1000)
        steps = (to_ms - from_ms) // step_ms
        if steps < 1:
            raise BadSpec(
                f"from {self.since!r} to {self.until!r} there is not one step of {self.step_s:g} s"
            )
        return Span(from_ms, step_ms, steps)


@dataclass(frozen=True, slots=True)
class Span:
    """``steps`` steps of ``step_ms`` from ``from_ms`` on, in epoch milliseconds as Prometheus
    counts them. Step k is what happened after its start and up to its end, both k and k+1 steps
    after ``from_ms``: the sample taken at an end closes the step.
    """

    from_ms: int
    step_ms: int
    steps: int

    def start_ms(self, step: int) -> int:
        return self.from_ms + step * self.step_ms

    @property
    def to_ms(self) -> int:
        return self.start_ms(self.steps)


def duration_s(name: str, text: str) -> float:
    """Seconds of a duration such as 90s, 1h30m or 7d, or of a plain number."""
    found = _DURATION.findall(text)
    if found and "".join(number + unit for number, unit in found) == text:
        return math.fsum(float(number) * _UNITS_S[unit] for number, unit in found)
    try:
        return float(text)
    except ValueError:
        raise BadSpec(
            f"{name} is {text!r}; it must be seconds, or a duration such as 30s, 5m, 1h30m or 7d"
        ) from None


def _at_ms(name: str, text: str, now_s: float) -> int:
    if text == "now":
        return _ms(now_s)
    if text.startswith("-"):
        return _ms(now_s - duration_s(name, text[1:]))
    try:
        return _ms(float(text))
    except (ValueError, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadSpec(
            f"{name} is {text!r}; it must be ISO 8601, epoch seconds, now, or a duration before"
            " now such as -7d"
        ) from None
    return _ms((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _ms(at_s: float) -> int:
    return round(at_s * 1000)
