"""The plain port: metrics, and whether we live and are ready. Nothing here tells of a model."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest


def application(
    registry: CollectorRegistry,
    why_dead: Callable[[], str | None],
    why_unready: Callable[[], str | None],
) -> web.Application:
    """why_dead, why_unready: None when all is well."""

    async def metrics(request: web.Request) -> web.Response:  # noqa: ARG001 - a handler's shape
        page = generate_latest(registry)
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(request: web.Request) -> web.Response:  # noqa: ARG001
        return _told(why_dead())

    async def readyz(request: web.Request) -> web.Response:  # noqa: ARG001
        return _told(why_unready())

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


def _told(why: str | None) -> web.Response:
    return web.Response(text=f"{why or 'ok'}\n", status=503 if why else 200)
