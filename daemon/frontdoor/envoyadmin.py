"""The admin page of the pod's own Envoy: what it has in hand, and that its clients should go.

Owns those two questions. Refuses to know when they are asked, and takes an Envoy that does not
answer for one that is not there.
"""

import logging
from dataclasses import dataclass, field

import aiohttp

log = logging.getLogger("remora.envoy")

_TIMEOUT_S = 2.0
_ACTIVE = "^http\\.(http|grpc)\\.downstream_rq_active$"
"""Of the listeners that clients reach; those of the admin page and of the hop count apart."""


@dataclass(slots=True)
class EnvoyAdmin:
    """address: HOST:PORT."""

    address: str
    _session: aiohttp.ClientSession = field(init=False)

    def __post_init__(self) -> None:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)

    async def active(self) -> int | None:
        """Requests it has in hand; None where it does not say."""
        query = {"filter": _ACTIVE, "format": "json"}
        try:
            async with self._session.get(f"http://{self.address}/stats", params=query) as answer:
                answer.raise_for_status()
                found = await answer.json(content_type=None)
            return sum(int(each["value"]) for each in found["stats"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            log.warning("%s does not say what it has in hand: %s", self.address, error)
            return None

    async def let_go(self) -> bool:
        """Has it end each connection after the request under way, which clients then open anew,
        elsewhere; it goes on taking new ones. Whether it does."""
        try:
            async with self._session.post(f"http://{self.address}/healthcheck/fail") as answer:
                answer.raise_for_status()
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("%s was not told to let its clients go: %s", self.address, error)
            return False
        return True

    async def close(self) -> None:
        await self._session.close()
