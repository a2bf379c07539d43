"""What is told of the requests at the door: metrics, and a sampled access journal.

Owns the counting and the journal's file. A model's name is a label only while few models
have been asked for; a full or missing disk costs lines of the journal and nothing else.
"""

import json
import logging
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from logging.handlers import RotatingFileHandler
from pathlib import Path

from prometheus_client import Counter, Histogram

from daemon.frontdoor.gate import Gate
from daemon.frontdoor.refusals import Outcome

MOST_MODELS = 1000
"""Models with series of their own; the others share one."""
OTHERS = "other"
ROTATE_BYTES = 16 * 1024 * 1024
KEPT_FILES = 4
# Refusals are written without sampling, and a flood of them must not become one of writes.
MOST_LINES_PER_S = 100
_LONGEST_NAME = 200
_ORDINARY = (Outcome.SERVED, Outcome.RELEASED)


class Protocol(StrEnum):
    HTTP = "http"
    GRPC = "grpc"
    STREAM = "stream"


@dataclass(slots=True)
class Visit:
    """One request at the door.

    began_s: seconds since the epoch. waited_s: how long it was held.
    status: what Triton answered, an HTTP status or gRPC code; None where it did not.
    """

    protocol: Protocol
    model: str
    version: str
    began_s: float
    waited_s: float = 0.0
    outcome: Outcome = Outcome.CLIENT_GONE
    status: int | None = None


class AccessJournal:
    """One JSON line a visit, in files of bounded size; at most a hundred lines a second.

    path: of the file being written; its older ones stand beside it, numbered.
    """

    def __init__(self, path: Path) -> None:
        self.problem: str | None = None
        self._path = path
        self._second = 0
        self._lines = 0
        self._file: RotatingFileHandler | None = None

    def write(self, visit: Visit, now_s: float) -> None:
        if int(now_s) != self._second:
            self._second, self._lines = int(now_s), 0
        self._lines += 1
        if self._lines > MOST_LINES_PER_S:
            return
        line = {
            "began_s": round(visit.began_s, 3),
            "model": visit.model[:_LONGEST_NAME],
            "version": visit.version[:_LONGEST_NAME],
            "protocol": visit.protocol,
            "outcome": visit.outcome,
            "waited_s": round(visit.waited_s, 3),
            "took_s": round(now_s - visit.began_s, 3),
            "status": visit.status,
        }
        self._append(json.dumps(line))

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            # What the disk did not take of the last line, it may not take now either.
            with suppress(OSError):
                file.close()

    def _append(self, line: str) -> None:
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = _File(self._path, maxBytes=ROTATE_BYTES, backupCount=KEPT_FILES)
            self._file.emit(logging.makeLogRecord({"msg": line}))
            self.problem = None
        except OSError as error:
            self.problem = f"{self._path}: {error.strerror}"
            # Opened anew for the next line, in a folder made anew where it has gone.
            self.close()


class _File(RotatingFileHandler):
    """Lets errors of the disk through, which the logging package would print."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exception()
        if error is not None:
            raise error


@dataclass(slots=True)
class Visits:
    """Counts visits and writes a sample of them.

    gate: its clock, and the share that is written of visits which neither waited nor failed.
    """

    requests: Counter
    waits: Histogram
    gate: Gate
    journal: AccessJournal
    _models: set[str] = field(default_factory=set)

    @contextmanager
    def counted(self, visit: Visit) -> Iterator[None]:
        """Counts ``visit`` when the block ends, however it ends."""
        try:
            yield
        finally:
            self.count(visit)

    def count(self, visit: Visit) -> None:
        self.requests.labels(self._label(visit), visit.protocol.value, visit.outcome.value).inc()
        if visit.waited_s > 0:
            self.waits.observe(visit.waited_s)
        if (
            visit.waited_s > 0
            or visit.outcome not in _ORDINARY
            or random.random() < self.gate.limits.access_sample
        ):
            self.journal.write(visit, self.gate.now_s())

    def _label(self, visit: Visit) -> str:
        """Names that no repository has never become labels: anybody can send them."""
        if not self.gate.knows(visit.model):
            return ""
        if visit.model not in self._models:
            if len(self._models) >= MOST_MODELS:
                return OTHERS
            self._models.add(visit.model)
        return visit.model
