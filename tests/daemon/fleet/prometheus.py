"""A Prometheus that answers each query with what it is told to, on a real port."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class FakePrometheus:
    """
    result: of every query: its series' values, or bytes that go out as they are.
    queries: what was asked.
    """

    result: list[float | str] | bytes = field(default_factory=list)
    status: int = 200
    delay_s: float = 0.0
    queries: list[str] = field(default_factory=list)
    url: str = ""
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> "FakePrometheus":
        app = web.Application()
        app.router.add_get("/api/v1/query", self._query)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _query(self, request: web.Request) -> web.Response:
        self.queries.append(request.query["query"])
        await asyncio.sleep(self.delay_s)
        if isinstance(self.result, bytes):
            return web.Response(body=self.result, status=self.status)
        series: list[dict[str, Any]] = [
            {"metric": {"model": str(number)}, "value": [1_700_000_000.5, str(value)]}
            for number, value in enumerate(self.result)
        ]
        data = {"resultType": "vector", "result": series}
        return web.json_response({"status": "success", "data": data}, status=self.status)
