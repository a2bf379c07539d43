"""Refusals in the words of Kubernetes: an HTTP status and a ``Status`` object that says why.

Whoever refuses raises a Refusal; the application turns it into the answer. Knows no HTTP library.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Refusal(Exception):
    """``reason`` is from the closed set of Kubernetes; clients tell errors apart by it."""

    code: int
    reason: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details:
            status["details"] = self.details
        return status | {"code": self.code}


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)


def unauthorized(message: str) -> Refusal:
    return Refusal(401, "Unauthorized", message)


def forbidden(message: str, **details: str) -> Refusal:
    return Refusal(403, "Forbidden", message, _told(details))


def not_found(message: str, **details: str) -> Refusal:
    return Refusal(404, "NotFound", message, _told(details))


def not_allowed(method: str, allowed: str) -> Refusal:
    message = f"{method} is not supported here; allowed: {allowed}"
    return Refusal(405, "MethodNotAllowed", message, headers={"Allow": allowed})


def not_acceptable() -> Refusal:
    return Refusal(406, "NotAcceptable", "only application/json can be served here")


def unavailable(message: str, retry_s: int) -> Refusal:
    details = {"retryAfterSeconds": retry_s}
    return Refusal(503, "ServiceUnavailable", message, details, {"Retry-After": str(retry_s)})


def _told(details: dict[str, str]) -> dict[str, Any]:
    return {key: text for key, text in details.items() if text}
