"""The metrics APIs that the HPA reads: custom.metrics.k8s.io, and external.metrics.k8s.io.

Owns the routes, and the order in which a call is looked at: who asks, whether they may, and only
then what. Values come from `samples`; the shapes of answers, and who may ask, are others'.
"""

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from daemon.fleet.certificates.contexts import Serving
from daemon.fleet.metricsapi import discovery, lists
from daemon.fleet.metricsapi.authentication import user_of
from daemon.fleet.metricsapi.authorization import Attributes, Authorization, check_discovery
from daemon.fleet.metricsapi.discovery import CUSTOM, EXTERNAL, VERSIONS
from daemon.fleet.metricsapi.frontproxy import FrontProxy
from daemon.fleet.metricsapi.lists import Value
from daemon.fleet.metricsapi.metrics import METRICS, Metric
from daemon.fleet.metricsapi.selectors import Selector, SelectorError, parse
from daemon.fleet.metricsapi.status import (
    Refusal,
    bad_request,
    not_acceptable,
    not_allowed,
    not_found,
)
from daemon.fleet.metricsapi.values import DEPLOYMENT, Values
from daemon.fleet.samples import Samples

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ALL = "*"
_HEALTH = ("/healthz", "/livez", "/readyz")
_VERSION = "{version:" + "|".join(VERSIONS[CUSTOM]) + "}"
_CUSTOM = f"/apis/{CUSTOM}/{_VERSION}"
_EXTERNAL = f"/apis/{EXTERNAL}/{VERSIONS[EXTERNAL][0]}"


def application(
    samples: Samples,
    serving: Serving,
    front_proxy: FrontProxy,
    authorization: Authorization,
    *,
    is_external: bool,
    is_ready: Callable[[], bool],
    wall_s: Callable[[], float] = time.time,
) -> web.Application:
    """is_external: whether external.metrics.k8s.io is served beside the custom one."""
    groups = (CUSTOM, EXTERNAL) if is_external else (CUSTOM,)
    guard = _Guard(serving, front_proxy, authorization, wall_s)
    app = web.Application(middlewares=[_in_their_words, guard.checked])
    answers, told = _Answers(samples), _Discovery(groups, is_ready)
    for path in _HEALTH:
        app.router.add_get(path, told.health)
    app.router.add_get("/apis", told.groups)
    for group in groups:
        app.router.add_get(f"/apis/{{group:{group}}}", told.group)
        versions = "|".join(VERSIONS[group])
        app.router.add_get(f"/apis/{{group:{group}}}/{{version:{versions}}}", told.resources)
    namespaced = _CUSTOM + "/namespaces/{namespace}"
    app.router.add_get(namespaced + "/{resource:metrics}/{metric}", answers.of_namespace)
    app.router.add_get(namespaced + "/{resource:pods}/{name}/{metric}", answers.of_pods)
    deployments = "/{resource:deployments\\.apps}/{name}/{metric}"
    app.router.add_get(namespaced + deployments, answers.of_deployment)
    if is_external:
        app.router.add_get(_EXTERNAL + "/namespaces/{namespace}/{metric}", answers.external)
    return app


@web.middleware
async def _in_their_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal, whoever's it is, as a Status."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return _refused(refusal)
    except web.HTTPMethodNotAllowed as error:
        return _refused(not_allowed(error.method, ", ".join(sorted(error.allowed_methods))))
    except web.HTTPNotFound:
        return _refused(not_found(f"nothing is served at {request.path}"))


class _Guard:
    """Nothing but health is told to whom it does not know."""

    def __init__(
        self,
        serving: Serving,
        front_proxy: FrontProxy,
        authorization: Authorization,
        wall_s: Callable[[], float],
    ) -> None:
        self._serving = serving
        self._front_proxy = front_proxy
        self._authorization = authorization
        self._wall_s = wall_s

    @web.middleware
    async def checked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in _HEALTH:
            return await handler(request)
        certificate = self._serving.peer_certificate(request.transport)
        user = user_of(self._front_proxy.trust, certificate, request.headers, self._wall_s())
        if wanted := attributes(request.match_info):
            await self._authorization.check(user, wanted)
        else:
            check_discovery(user)
        if not _takes_json(request.headers.getall("Accept", ())):
            raise not_acceptable()
        return await handler(request)


def attributes(match: Mapping[str, str]) -> Attributes | None:
    """What RBAC is asked about; None for what is no value, as discovery."""
    metric = match.get("metric")
    if metric is None:
        return None
    namespace, resource = match["namespace"], match.get("resource")
    if resource is None:
        # Of the external API each metric is a resource of its own, and there are no names.
        version = VERSIONS[EXTERNAL][0]
        return Attributes(
            verb="list", group=EXTERNAL, version=version, resource=metric, namespace=namespace
        )
    is_of_namespace = resource == "metrics"
    return Attributes(
        verb="get",
        group=CUSTOM,
        version=match["version"],
        resource=resource,
        subresource="" if is_of_namespace else metric,
        name=metric if is_of_namespace else match["name"],
        namespace=namespace,
    )


class _Discovery:
    def __init__(self, groups: tuple[str, ...], is_ready: Callable[[], bool]) -> None:
        self._groups = groups
        self._is_ready = is_ready

    async def health(self, request: web.Request) -> web.Response:
        is_well = request.path != "/readyz" or self._is_ready()
        return web.Response(text="ok" if is_well else "not ready", status=200 if is_well else 503)

    async def groups(self, request: web.Request) -> web.Response:
        return _json(discovery.group_list(self._groups))

    async def group(self, request: web.Request) -> web.Response:
        return _json(discovery.group(request.match_info["group"]))

    async def resources(self, request: web.Request) -> web.Response:
        match = request.match_info
        return _json(discovery.resource_list(match["group"], match["version"], METRICS))


class _Answers:
    def __init__(self, samples: Samples) -> None:
        self._values = Values(samples)

    async def of_pods(self, request: web.Request) -> web.Response:
        match = request.match_info
        namespace, name = match["namespace"], match["name"]
        metric, selector = _asked(request)
        if name != ALL:
            found = self._values.of_pod(namespace, name, metric, selector)
            return _only(request, found, metric, selector)
        labels = _selector(request, "labelSelector")
        values = self._values.of_pods(namespace, labels, metric, selector)
        return _text(lists.custom(match["version"], metric.name, selector.shape(), values))

    async def of_deployment(self, request: web.Request) -> web.Response:
        match = request.match_info
        metric, selector = _asked(request)
        found = self._values.of_deployment(match["namespace"], match["name"], metric, selector)
        return _only(request, found, metric, selector)

    async def of_namespace(self, request: web.Request) -> web.Response:
        metric, selector = _asked(request)
        found = self._values.of_namespace(request.match_info["namespace"], metric, selector)
        return _only(request, found, metric, selector)

    async def external(self, request: web.Request) -> web.Response:
        match = request.match_info
        metric, labels = _metric(match["metric"]), _selector(request, "labelSelector")
        _check_labels(metric, labels, metric.labels | {DEPLOYMENT})
        values = self._values.external(match["namespace"], metric, labels)
        return _text(lists.external(metric.name, values))


def _only(
    request: web.Request, found: Value | None, metric: Metric, selector: Selector
) -> web.Response:
    """Where one object was asked for, an unknown value is an error, and never 0."""
    match = request.match_info
    if found is None:
        kind, name = match["resource"], match.get("name", match["namespace"])
        raise not_found(f"{metric.name} of {kind} {name!r} is not known", name=name, kind=kind)
    return _text(lists.custom(match["version"], metric.name, selector.shape(), (found,)))


def _asked(request: web.Request) -> tuple[Metric, Selector]:
    """The metric and the selector on its labels. Raises Refusal."""
    metric = _metric(request.match_info["metric"])
    selector = _selector(request, "metricLabelSelector")
    _check_labels(metric, selector, metric.labels)
    return metric, selector


def _check_labels(metric: Metric, selector: Selector, allowed: frozenset[str]) -> None:
    """What can never match is an error to be told, and not an empty list to wonder about."""
    if foreign := sorted(selector.keys() - allowed):
        told = ", ".join(sorted(allowed)) or "none"
        raise bad_request(f"{metric.name} has no label {foreign[0]!r}; allowed: {told}")


def _metric(name: str) -> Metric:
    metric = METRICS.get(name)
    if metric is None:
        raise not_found(f"no metric {name!r}; there are: {', '.join(METRICS)}", name=name)
    return metric


def _selector(request: web.Request, parameter: str) -> Selector:
    try:
        return parse(request.query.get(parameter, ""))
    except SelectorError as error:
        raise bad_request(f"{parameter}: {error}") from None


def _takes_json(accepted: Iterable[str]) -> bool:
    """Whether plain JSON will do; a form of it, as APIGroupDiscoveryList or Table, is not ours."""
    clauses = [clause for header in accepted for clause in header.split(",") if clause.strip()]
    return not clauses or any(map(_is_json, clauses))


def _is_json(clause: str) -> bool:
    kind, *parameters = (part.strip().lower() for part in clause.split(";"))
    is_plain = not any(parameter.startswith("as=") for parameter in parameters)
    return is_plain and kind in ("*/*", "application/*", "application/json")


def _refused(refusal: Refusal) -> web.Response:
    answer = web.json_response(refusal.status(), status=refusal.code, headers=refusal.headers)
    if refusal.code == 401:
        # Who is not known now will not be known later on the same connection.
        answer.force_close()
    return answer


def _json(value: dict[str, Any]) -> web.Response:
    return _text(json.dumps(value, separators=(",", ":")))


def _text(text: str) -> web.Response:
    # aiohttp would name a charset, which JSON has none of.
    return web.Response(body=text.encode(), headers={"Content-Type": "application/json"})
