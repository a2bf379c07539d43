"""The one clock: wall time that steps only when the wall clock was set on purpose."""

import time

# Beyond this the wall clock was set on purpose, and schedules should follow it.
_TOLERANCE_S = 2.0


class Clock:
    """Seconds since the Unix epoch, carried by the monotonic clock between settings.

    Small corrections of the wall clock would make intervals negative; large ones (a
    machine that woke up, a clock set by hand) are followed, since weekly schedules are
    meant in wall time.
    """

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def now_s(self) -> float:
        carried_s = time.monotonic() + self._offset_s
        wall_s = time.time()
        if abs(wall_s - carried_s) > _TOLERANCE_S:
            self._offset_s += wall_s - carried_s
            return wall_s
        return carried_s
