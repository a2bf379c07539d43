"""Keeps the parts of the service running, each by itself.

A part handles the errors that it expects. One that it does not is a fault of ours: it is told
whole, counted, and the part begins anew, so that the others and the HPA go on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from daemon.fleet.telemetry import Telemetry

log = logging.getLogger("remora.fleet")

AGAIN_AFTER_S = 1.0


class Parts:
    def __init__(self, telemetry: Telemetry, again_after_s: float = AGAIN_AFTER_S) -> None:
        self._telemetry = telemetry
        self._again_after_s = again_after_s
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, parts: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        for name, run in parts.items():
            self._tasks.append(asyncio.create_task(self._keep(name, run), name=name))

    async def stop(self) -> None:
        """Ends them all, the last one first."""
        while self._tasks:
            task = self._tasks.pop()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
            except Exception:
                self._telemetry.restarts.labels(name).inc()
                log.exception("%s failed, and begins anew", name)
            await asyncio.sleep(self._again_after_s)
