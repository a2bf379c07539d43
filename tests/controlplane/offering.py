"""Offers work to pods: requests at even times, taken in turn by the pods that there are.

Owns the requests and when they are sent, whatever becomes of those before. Knows nothing of the
cluster: who there is to ask is asked for before each request.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import aiohttp

Doors = Callable[[], Mapping[str, str]]
"""Name of each pod that serves to where it takes requests, host:port."""

BODY = {"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
TIMEOUT_S = 60.0


class Offering:
    """A context manager; `rate` holds from now on for all pods together, `to` for one of them."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._rates: dict[tuple[str, str], float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.outcomes: Counter[str] = Counter()

    def rate(self, model: str, per_s: float, to: str = "") -> None:
        self._rates[model, to] = per_s

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=0)
        due: dict[tuple[str, str], float] = {}
        turns: Counter[str] = Counter()
        asked: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while not self._stopping.is_set():
                now_s, doors = loop.time(), dict(sorted(self._doors().items()))
                for (model, to), per_s in list(self._rates.items()):
                    at_s = due.get((model, to), now_s)
                    places = [doors[to]] if to in doors else [] if to else list(doors.values())
                    while per_s > 0 and at_s <= now_s and places:
                        place = places[turns[model] % len(places)]
                        turns[model] += 1
                        asked.add(asyncio.create_task(self._ask(session, place, model)))
                        at_s += 1 / per_s
                    due[model, to] = max(at_s, now_s - 1)
                asked = {task for task in asked if not task.done()}
                await asyncio.sleep(0.01)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, session: aiohttp.ClientSession, place: str, model: str) -> None:
        try:
            async with session.post(f"http://{place}/v2/models/{model}/infer", json=BODY) as answer:
                await answer.read()
                self.outcomes[str(answer.status)] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self.outcomes[type(error).__name__] += 1
