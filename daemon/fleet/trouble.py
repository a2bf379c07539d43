"""Says that something fails when it begins to, and that it works again, and never in floods."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger("remora.fleet")

_SELDOM_S = 60.0


class Trouble:
    """One thing that may fail again and again, such as asking one server.

    What lasts is said once. What comes and goes, or fails in another way each time, as writes to
    a thousand pods do, is said once a minute.
    """

    def __init__(self, what: str, now_s: Callable[[], float] = time.monotonic) -> None:
        """what: goes before the error, as `cannot watch pods`."""
        self._what = what
        self._now_s = now_s
        self._said: str | None = None
        self._said_s = -float("inf")

    def began(self, error: object) -> None:
        words, now_s = str(error), self._now_s()
        if words != self._said and now_s - self._said_s >= _SELDOM_S:
            self._said, self._said_s = words, now_s
            log.warning("%s, trying on: %s", self._what, words)

    def ended(self) -> None:
        """Said only after the beginning was."""
        if self._said is not None:
            self._said = None
            log.info("no longer: %s", self._what)
