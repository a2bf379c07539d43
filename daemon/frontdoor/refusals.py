"""How a request at the front door can end, and what is said to who is refused.

Owns the closed set of outcomes and their words in both protocols.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import grpc

RETRY = "x-remora-retry"
"""The model is ready now: Envoy sends its own copy of the request to Triton."""
FINAL = "x-envoy-ratelimited"
"""Envoy asks nobody again after an answer that carries this, and takes it off."""

ELSEWHERE = "x-remora-elsewhere"
"""Nothing was executed: the fleet's gateway sends its copy of the request to another pod."""


class Outcome(StrEnum):
    """What became of a request at the door."""

    SERVED = "served"
    RELEASED = "released"
    UNKNOWN_MODEL = "unknown_model"
    NOT_LOADED = "not_loaded"
    TURNED_AWAY = "turned_away"
    QUEUE_FULL = "queue_full"
    TIMED_OUT = "timed_out"
    DENIED = "denied"
    MALFORMED = "malformed"
    CLOSING = "closing"
    SENT_ELSEWHERE = "sent_elsewhere"
    CLIENT_GONE = "client_gone"
    TRITON_FAILED = "triton_failed"


@dataclass(frozen=True, slots=True)
class _Words:
    http: int
    grpc: grpc.StatusCode


_WORDS: Mapping[Outcome, _Words] = {
    Outcome.UNKNOWN_MODEL: _Words(404, grpc.StatusCode.NOT_FOUND),
    Outcome.NOT_LOADED: _Words(404, grpc.StatusCode.NOT_FOUND),
    Outcome.TURNED_AWAY: _Words(503, grpc.StatusCode.UNAVAILABLE),
    Outcome.QUEUE_FULL: _Words(503, grpc.StatusCode.UNAVAILABLE),
    Outcome.TIMED_OUT: _Words(503, grpc.StatusCode.UNAVAILABLE),
    Outcome.CLOSING: _Words(503, grpc.StatusCode.UNAVAILABLE),
    Outcome.SENT_ELSEWHERE: _Words(503, grpc.StatusCode.UNAVAILABLE),
    Outcome.DENIED: _Words(403, grpc.StatusCode.PERMISSION_DENIED),
    Outcome.MALFORMED: _Words(400, grpc.StatusCode.INVALID_ARGUMENT),
    Outcome.TRITON_FAILED: _Words(503, grpc.StatusCode.UNAVAILABLE),
}


class Refusal(Exception):
    """A request that is answered by us and not by Triton.

    retry_after_s: when asking again may help; None when it will not.
    """

    def __init__(self, outcome: Outcome, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.text = text
        self.retry_after_s = retry_after_s

    @property
    def http_status(self) -> int:
        return _WORDS[self.outcome].http

    @property
    def grpc_status(self) -> grpc.StatusCode:
        return _WORDS[self.outcome].grpc

    @property
    def headers(self) -> dict[str, str]:
        """Headers in HTTP, trailing metadata in gRPC."""
        said = {FINAL: "true"}
        if self.outcome is Outcome.SENT_ELSEWHERE:
            said[ELSEWHERE] = "1"
        if self.retry_after_s is not None:
            said["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        return said


OUR_LOADS = "models are loaded and unloaded by Remora"
