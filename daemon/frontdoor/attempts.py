"""What Envoy tells us of a request and its attempts at it, in HTTP headers or gRPC metadata.

Owns the reading of those headers. Envoy lets no client of its own write them. Who reaches
our port past Envoy can: that request may be answered by a signal that its sender does not
understand, or look as if it had waited longer than it has.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_NUMBER = "x-envoy-attempt-count"
_BEGAN = "x-remora-began"
_EXPECTED_MS = "x-envoy-expected-rq-timeout-ms"
_LONGEST_NUMBER = 9
GATEWAY = "x-remora-gateway"
"""Set on the port of the fleet's gateway, which can send the request to another pod."""

BETWEEN_US = (_NUMBER, _BEGAN, GATEWAY)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt.

    number: 0 when it comes from elsewhere; Envoy's first goes to Triton, so ours are 2, 4, …
        But 1 is a request that Envoy cannot send a second time: it has brought it to us at once.
    began_s: when Envoy first saw the request, seconds since the epoch.
    deadline_s: when its client gives up, where Envoy knows.
    by_gateway: whether it has come by the fleet's gateway.
    """

    number: int
    began_s: float
    deadline_s: float | None
    by_gateway: bool = False

    @property
    def can_be_replayed(self) -> bool:
        """Whether Envoy keeps a copy, and sends it to Triton when we say so."""
        return self.number > 1

    @property
    def is_movable(self) -> bool:
        """Whether another pod gets it when we say so: the gateway must have a copy too."""
        return self.by_gateway and self.can_be_replayed

    @property
    def is_first(self) -> bool:
        return self.number <= 2


def attempt(headers: Mapping[str, str | bytes], now_s: float) -> Attempt:
    number = _number(headers.get(_NUMBER, ""))
    if not number:
        return Attempt(0, now_s, None)
    expected_ms = _number(headers.get(_EXPECTED_MS, ""))
    began_s = _began_s(headers.get(_BEGAN, ""), now_s)
    deadline_s = now_s + expected_ms / 1000 if expected_ms else None
    return Attempt(number, began_s, deadline_s, came_by_gateway(headers))


def came_by_gateway(headers: Mapping[str, str | bytes]) -> bool:
    return headers.get(GATEWAY) == "1"


def _number(written: str | bytes) -> int:
    is_number = isinstance(written, str) and written.isascii() and written.isdigit()
    return int(written) if is_number and len(written) <= _LONGEST_NUMBER else 0


def _began_s(written: str | bytes, now_s: float) -> float:
    """Envoy's clock is ours; it is never in the future."""
    try:
        began_s = float(written)
    except ValueError:
        return now_s
    return began_s if 0 < began_s < now_s else now_s
