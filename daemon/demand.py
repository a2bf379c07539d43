"""Requests for models that are not there, as gateways and the front door report them.

Owns what has been reported since the last snapshot. Triton counts such requests nowhere,
so this is the only way they reach a plan.
"""

from dataclasses import dataclass

# A reported wait says nothing after this; a gateway that still waits reports again.
WAIT_STANDS_S = 3.0


@dataclass(frozen=True, slots=True)
class Missed:
    """Requests for one absent model.

    count: new ones since the last snapshot. waiting: those that wait now.
    oldest_wait_s: the longest of those waits.
    """

    count: float = 0.0
    waiting: int = 0
    oldest_wait_s: float = 0.0


@dataclass(slots=True)
class _Waiting:
    number: int
    since_s: float
    reported_at_s: float


class Demand:
    """Gathers reports; a snapshot takes what has gathered."""

    def __init__(self) -> None:
        self._counts: dict[str, float] = {}
        self._waiting: dict[str, _Waiting] = {}

    def report(
        self, model: str, count: float, waiting: int, oldest_wait_s: float, now_s: float
    ) -> bool:
        """``count`` new requests for ``model``; ``waiting`` wait now, one for that long.

        A wait reported again goes on from where it began, also when its age is not told.
        True when this is news: nothing was known of requests for ``model`` until now.
        """
        known = model in self._counts or model in self._waiting
        if count > 0:
            self._counts[model] = self._counts.get(model, 0.0) + count
        if waiting > 0:
            before = self._waiting.get(model)
            since_s = now_s - oldest_wait_s
            since_s = min(since_s, before.since_s) if before else since_s
            self._waiting[model] = _Waiting(waiting, since_s, now_s)
        else:
            self._waiting.pop(model, None)
        return not known and (count > 0 or waiting > 0)

    def served(self, model: str) -> None:
        """``model`` can serve: nobody waits for it any more."""
        self._waiting.pop(model, None)

    def take(self, now_s: float) -> dict[str, Missed]:
        """What was reported since the last call, and the waits that still stand."""
        counts, self._counts = self._counts, {}
        self._waiting = {
            model: waiting
            for model, waiting in self._waiting.items()
            if now_s - waiting.reported_at_s <= WAIT_STANDS_S
        }
        return {
            model: self._missed(counts.get(model, 0.0), self._waiting.get(model), now_s)
            for model in sorted({*counts, *self._waiting})
        }

    @staticmethod
    def _missed(count: float, waiting: _Waiting | None, now_s: float) -> Missed:
        if waiting is None:
            return Missed(count)
        return Missed(count, waiting.number, max(0.0, now_s - waiting.since_s))
