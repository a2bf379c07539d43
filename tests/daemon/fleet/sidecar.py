"""A sidecar that says what it is told to, on a real port."""

import asyncio
import json
import ssl
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]


def said(load: float | None = 0.4, at_s: float = 1000.0, **more: Any) -> Json:
    """A whole answer of GET /v1/signals."""
    return {
        "version": 1,
        "at_s": at_s,
        "reachable": True,
        "load": load,
        "compute": load,
        "device": None,
        "memory": None,
        "queue_boost": 1.0,
        "advice": "enough",
        "budget_bytes": 8_000_000_000,
        "pinned_bytes": 100,
        "pins_fit": True,
        "models": {},
        **more,
    }


def model(load: float = 0.1, *, resident: bool = True, absence_s: float = 3.0) -> Json:
    return {"resident": resident, "load": load, "absence_s": absence_s}


@dataclass
class FakeSidecar:
    """
    answer: its body; a mapping goes out as JSON, with a time of its own that moves on.
    requests: the headers of each.
    connections: how many were opened.
    """

    answer: Json | bytes = field(default_factory=said)
    status: int = 200
    delay_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = 0
    context: ssl.SSLContext | None = None
    is_standing_still: bool = False
    requests: list[Any] = field(default_factory=list)
    peers: list[Any] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> "FakeSidecar":
        app = web.Application()
        app.router.add_get("/v1/signals", self._signals)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self.context)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _signals(self, request: web.Request) -> web.Response:
        self.requests.append(request.headers.copy())
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername"))
        self.peers.append(request.transport.get_extra_info("peercert"))
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if isinstance(self.answer, bytes):
            return web.Response(body=self.answer, status=self.status, headers=self.headers)
        at_s = self.answer["at_s"] + (0 if self.is_standing_still else len(self.requests))
        body = json.dumps({**self.answer, "at_s": at_s}).encode()
        return web.Response(body=body, status=self.status, headers=self.headers)
