"""Our HTTP port: metrics, health, state, explanations, and reports of demand.

Owns the routes and their OpenAPI description. Reading is open unless it is guarded; what changes
state is taken from loopback only, or with the token where one is set.
"""

import asyncio
import hmac
import ipaddress
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from daemon.sidecar import Sidecar
from daemon.signals import signals
from policies.actions import Action, Load
from policies.explain import explain
from policies.memory import Ledger
from policies.snapshot import Model
from policies.source import effective
from policies.units import Units

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MOST_WAITING = 1_000_000
_LONGEST_WAIT_S = 86400.0
_LARGEST_BODY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Guard:
    """Who may do what on our port.

    token: what a bearer shows; "" where there is none. knows: whether the caller at the other end
    of a connection has shown a certificate that counts as much; None where none does. reads: all
    of /v1/ is guarded.
    """

    token: str = ""
    knows: Callable[[asyncio.BaseTransport | None], bool] | None = None
    reads: bool = False

    def lets_in(self, request: web.Request) -> bool:
        if self.knows is not None and self.knows(request.transport):
            return True
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        return bool(self.token) and hmac.compare_digest(given, f"Bearer {self.token}".encode())

    @web.middleware
    async def readers(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turns away who reads what is guarded; what changes state is guarded where it is done."""
        if self.reads and request.path.startswith("/v1/") and not self.lets_in(request):
            return _problem(401, "a bearer token or a client's certificate is needed")
        return await handler(request)


def application(sidecar: Sidecar, guard: Guard) -> web.Application:
    """The port's application."""
    api = _Api(sidecar, guard)
    app = web.Application(client_max_size=_LARGEST_BODY_BYTES, middlewares=[guard.readers])
    app.router.add_get("/metrics", api.metrics)
    app.router.add_get("/healthz", api.healthz)
    app.router.add_get("/readyz", api.readyz)
    app.router.add_get("/openapi.json", api.openapi)
    app.router.add_get("/v1/state", api.state)
    app.router.add_get("/v1/signals", api.signals)
    app.router.add_get("/v1/explain/{model}", api.explain)
    app.router.add_post("/v1/demand", api.demand)
    app.router.add_post("/v1/leave", api.leave)
    return app


class _Api:
    def __init__(self, sidecar: Sidecar, guard: Guard) -> None:
        self._sidecar = sidecar
        self._guard = guard

    async def metrics(self, request: web.Request) -> web.Response:
        page = generate_latest(self._sidecar.telemetry.registry)
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(self, request: web.Request) -> web.Response:
        alive = self._sidecar.is_alive
        return web.Response(text="ok\n" if alive else "no ticks\n", status=200 if alive else 503)

    async def readyz(self, request: web.Request) -> web.Response:
        if self._sidecar.is_ready:
            return web.Response(text="ok\n")
        return web.Response(text="triton is unreachable\n", status=503)

    async def openapi(self, request: web.Request) -> web.Response:
        return web.json_response(OPENAPI)

    async def state(self, request: web.Request) -> web.Response:
        return _json(_state(self._sidecar))

    async def signals(self, request: web.Request) -> web.Response:
        telemetry = self._sidecar.telemetry
        return _json(signals(telemetry.latest, telemetry.pressure()))

    async def explain(self, request: web.Request) -> web.Response:
        latest, name = self._sidecar.telemetry.latest, request.match_info["model"]
        found = explain(latest.policy, latest.snapshot, latest.plan, name)
        if found is None:
            return _problem(404, f"model {name!r} is not in the repository")
        return _json(asdict(found))

    async def demand(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        try:
            reports = _reports(await request.json())
        except (ValueError, RecursionError) as error:
            return _problem(400, str(error))
        models = self._sidecar.telemetry.latest.snapshot.models
        unknown = sorted({model for model, *_ in reports if model not in models})
        now_s = self._sidecar.clock.now_s()
        news = [
            self._sidecar.demand.report(model, count, waiting, oldest_wait_s, now_s)
            for model, count, waiting, oldest_wait_s in reports
            if model in models
        ]
        if any(news):
            self._sidecar.wake()
        if unknown:
            return _problem(404, f"not in the repository: {', '.join(unknown)}")
        return web.Response(status=202)

    async def leave(self, request: web.Request) -> web.Response:
        """Answers when the pod may end; who goes away before only stops watching."""
        if refusal := self._refusal(request):
            return refusal
        leaving = self._sidecar.leaving
        if leaving is None:
            return _problem(503, "this sidecar is only starting")
        leaving.begin("asked for over HTTP")
        await leaving.out()
        return _json(leaving.told())

    def _refusal(self, request: web.Request) -> web.Response | None:
        """Why this call may not change anything; None when it may."""
        if request.content_type != "application/json":
            # A page in somebody's browser can send forms to loopback, but not this.
            return _problem(415, "Content-Type must be application/json")
        if self._guard.lets_in(request):
            return None
        if self._guard.token:
            return _problem(401, "the bearer token is missing or wrong")
        if not _is_loopback(request.remote):
            return _problem(403, "only loopback may change state while no token is set")
        return None


def _is_loopback(remote: str | None) -> bool:
    try:
        return ipaddress.ip_address(remote or "").is_loopback
    except ValueError:
        return False


def _reports(body: Any) -> list[tuple[str, float, int, float]]:
    """Reports of a body: model, count, waiting, oldest wait in seconds.

    Raises ValueError that names the key, the value and what is allowed.
    """
    rows = body.get("models") if isinstance(body, dict) and "models" in body else [body]
    if not isinstance(rows, list) or not rows:
        raise ValueError("models: a list of reports is needed")
    return [_report(row) for row in rows]


def _report(row: Any) -> tuple[str, float, int, float]:
    if not isinstance(row, dict):
        raise ValueError(f"{row!r}: a report is an object")
    if extra := sorted(set(row) - {"model", "count", "waiting", "oldest_wait_s"}):
        raise ValueError(f"{extra[0]}: unknown key; allowed: model, count, waiting, oldest_wait_s")
    model = row.get("model")
    if not isinstance(model, str) or not model:
        raise ValueError(f"model: {model!r}; allowed: a model's name")
    waiting = _number(row, "waiting", 0, _MOST_WAITING)
    return (
        model,
        _number(row, "count", 1, _MOST_WAITING),
        int(waiting),
        _number(row, "oldest_wait_s", 0, _LONGEST_WAIT_S),
    )


def _number(row: dict[str, Any], key: str, default: float, most: float) -> float:
    value = row.get(key, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value <= most:
        raise ValueError(f"{key}: {value!r}; allowed: a number from 0 to {most:g}")
    return float(value)


def _state(sidecar: Sidecar) -> dict[str, Any]:
    latest = sidecar.telemetry.latest
    snapshot, plan = latest.snapshot, latest.plan
    ledger = Ledger(latest.policy, snapshot, Units(latest.policy, snapshot.models))
    return {
        "now_s": snapshot.now_s,
        "ticks": sidecar.ticks,
        "mode": latest.policy.mode,
        "reachable": snapshot.reachable,
        "problems": _problems(sidecar),
        "policy": effective(latest.policy),
        "devices": {
            name: asdict(account)
            | {"total": (device := snapshot.devices.get(name)) and device.total_bytes}
            | {"used": device and device.used_bytes}
            for name, account in sorted(ledger.accounts.items())
        },
        "models": {name: _model(model) for name, model in sorted(snapshot.models.items())},
        "actions": [_action(action) for action in plan.actions],
        "holds": [asdict(hold) for hold in plan.holds],
        "recent": list(sidecar.recent),
        "gossip": sidecar.gossip.told() if sidecar.gossip else None,
        "leaving": sidecar.leaving.told() if sidecar.leaving else None,
        "prometheus": sidecar.foresight.told() if sidecar.foresight else None,
    }


def _problems(sidecar: Sidecar) -> dict[str, str]:
    own = {
        "policy": sidecar.policy_file.problem,
        "journal": sidecar.journal.problem,
        "learned": sidecar.learned.problem,
        "access": sidecar.access.problem,
        "gossip": sidecar.gossip.problem if sidecar.gossip else None,
        "prometheus": sidecar.foresight.problem if sidecar.foresight else None,
    }
    return sidecar.observer.problems | {name: text for name, text in own.items() if text}


def _model(model: Model) -> dict[str, Any]:
    return {
        "state": model.state,
        "footprint_bytes": model.footprint.total_bytes if model.footprint else None,
        "footprint_source": model.footprint.source if model.footprint else None,
        "load_s": model.load_s,
        "arrivals": model.arrivals,
        "expected_rate": model.expected_rate,
        "waiting": model.waiting,
        "oldest_wait_s": model.oldest_wait_s,
        "in_flight": model.in_flight,
        "in_flight_counted": model.in_flight_counted,
        "leases": model.leases,
        "draining": model.draining,
        "pending": model.pending,
        "sick": model.sick,
        "failure": asdict(model.failure) if model.failure else None,
    }


def _action(action: Action) -> dict[str, Any]:
    return {"action": "load" if isinstance(action, Load) else "unload", **asdict(action)}


def _json(value: Any) -> web.Response:
    return web.json_response(value, dumps=lambda v: json.dumps(v, default=str))


def _problem(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def _read(summary: str, *statuses: str, kind: str = "application/json") -> dict[str, Any]:
    described: dict[str, Any] = {
        status: {"description": text} for status, text in map(_split, statuses)
    }
    described["200"] = {"description": "The answer.", "content": {kind: {}}}
    return {"get": {"summary": summary, "responses": described}}


def _split(status: str) -> tuple[str, str]:
    number, text = status.split(" ", 1)
    return number, text


_REPORT = {
    "type": "object",
    "required": ["model"],
    "additionalProperties": False,
    "properties": {
        "model": {"type": "string", "description": "Name of the absent model."},
        "count": {"type": "number", "default": 1, "description": "New requests for it."},
        "waiting": {"type": "integer", "default": 0, "description": "Requests that wait now."},
        "oldest_wait_s": {"type": "number", "default": 0, "description": "Longest wait, seconds."},
    },
}

_BODY = {
    "oneOf": [
        _REPORT,
        {
            "type": "object",
            "required": ["models"],
            "properties": {"models": {"type": "array", "items": _REPORT, "minItems": 1}},
        },
    ]
}

OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Remora sidecar", "version": "1"},
    "paths": {
        "/metrics": _read("Prometheus metrics.", kind="text/plain"),
        "/healthz": _read("Whether ticks come.", "503 No ticks.", kind="text/plain"),
        "/readyz": _read("Whether Triton answers.", "503 It does not.", kind="text/plain"),
        "/openapi.json": _read("This description."),
        "/v1/state": _read("The latest tick: devices, models, actions, holds."),
        "/v1/signals": _read("What the fleet service asks for: load, its parts, models."),
        "/v1/explain/{model}": {
            "parameters": [
                {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
            ],
            **_read("Why a model is resident or not.", "404 Not in the repository."),
        },
        "/v1/demand": {
            "post": {
                "summary": "Reports requests for models that are not there.",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _BODY}},
                },
                "responses": {
                    "202": {"description": "Taken; the loop is woken."},
                    "400": {"description": "The body is wrong; it says where."},
                    "401": {"description": "The token is missing or wrong."},
                    "403": {"description": "Not from loopback, and no token is set."},
                    "404": {"description": "Some models are not in the repository."},
                    "415": {"description": "Not JSON."},
                },
            }
        },
        "/v1/leave": {
            "post": {
                "summary": "Makes the pod leave, and answers when it may end.",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"type": "object"}}},
                },
                "responses": {
                    "200": {"description": "It may end; what only it held is named."},
                    "401": {"description": "The token is missing or wrong."},
                    "403": {"description": "Not from loopback, and no token is set."},
                    "415": {"description": "Not JSON."},
                },
            }
        },
    },
}
