"""A gateway's demand, as Prometheus tells it: one number for one query.

Owns the question, its bounds, and that many who ask the same within a moment make one question.
Whom we may ask is the trigger's reader's to decide.
"""

import asyncio
import math
import time

import aiohttp
from pydantic import BaseModel, ValidationError

from daemon.fleet.telemetry import Telemetry

_TIMEOUT_S = 2.0
_LARGEST_ANSWER_BYTES = 64 * 1024
_MOST_QUERIES = 1024


class DemandUnknown(RuntimeError):
    """No number could be had, and why."""


class _Series(BaseModel):
    # When, and a number that is written as a string.
    value: tuple[float, float]


class _Data(BaseModel):
    result: list[_Series] | tuple[float, float]


class _Answer(BaseModel):
    data: _Data


class Demand:
    """Questions to Prometheus; close it."""

    def __init__(self, telemetry: Telemetry, remembered_s: float) -> None:
        """remembered_s: how long an answer, or that there was none, holds."""
        self._telemetry = telemetry
        self._remembered_s = remembered_s
        self._asked: dict[tuple[str, str], tuple[float, asyncio.Task[float | str]]] = {}
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), auto_decompress=False
        )

    async def value(self, server: str, query: str) -> float:
        """Raises DemandUnknown."""
        now_s = time.monotonic()
        self._forget(now_s)
        key = server, query
        if key not in self._asked:
            if len(self._asked) >= _MOST_QUERIES:
                raise DemandUnknown(f"more than {_MOST_QUERIES} queries at once")
            self._asked[key] = now_s, asyncio.create_task(self._ask(server, query))
        # Who asked first may give up; the others still wait for the answer.
        found = await asyncio.shield(self._asked[key][1])
        if isinstance(found, str):
            raise DemandUnknown(found)
        return found

    async def close(self) -> None:
        tasks = [task for _, task in self._asked.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()

    def _forget(self, now_s: float) -> None:
        self._asked = {
            key: (at_s, task)
            for key, (at_s, task) in self._asked.items()
            if not task.done() or now_s - at_s < self._remembered_s
        }

    async def _ask(self, server: str, query: str) -> float | str:
        """The number, or why there is none."""
        try:
            found: float | str = _number(await self._get(server, query))
        except TimeoutError:
            found = f"{server}: no answer within {_TIMEOUT_S:g} s"
        except (aiohttp.ClientError, OSError, DemandUnknown) as error:
            found = f"{server}: {error}"
        outcome = "unknown" if isinstance(found, str) else "known"
        self._telemetry.queries.labels(outcome).inc()
        return found

    async def _get(self, server: str, query: str) -> bytes:
        async with self._session.get(
            f"{server}/api/v1/query",
            params={"query": query},
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            allow_redirects=False,
        ) as response:
            body = await response.content.read(_LARGEST_ANSWER_BYTES)
            if response.status != 200:
                raise DemandUnknown(f"status {response.status}: {body[:200]!r}")
            while not response.content.at_eof():
                body += await response.content.read(_LARGEST_ANSWER_BYTES)
                if len(body) > _LARGEST_ANSWER_BYTES:
                    raise DemandUnknown(f"more than {_LARGEST_ANSWER_BYTES} bytes")
            return body


def _number(body: bytes) -> float:
    """The scalar, or the one series' value. Raises DemandUnknown."""
    try:
        result = _Answer.model_validate_json(body).data.result
    except ValidationError:
        raise DemandUnknown("the answer is not that of a query") from None
    if isinstance(result, list):
        if len(result) != 1:
            # None at all is not zero: perhaps the gateway is not scraped any more.
            raise DemandUnknown(f"{len(result)} series; one is needed, as by `or vector(0)`")
        result = result[0].value
    if not math.isfinite(result[1]):
        raise DemandUnknown(f"the answer is {result[1]}")
    return result[1]
