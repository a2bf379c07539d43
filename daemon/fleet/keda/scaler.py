"""KEDA's external scaler: the load of a Deployment, and whether it should run at all.

Owns what is answered. KEDA compares the metric with a target per pod (AverageValue), so the
value is a sum over pods. It is told in thousandths of a pod, the whole numbers and the floats
alike, because the whole ones would make 1 of 0.7.

What is not known is never told as 0: then the call fails as UNAVAILABLE and KEDA keeps what it
has. KEDA asks for the metric first and for activity only if it got one, so a Deployment without
pods does have a metric, 0, or nothing could ever wake it.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc

from daemon.fleet.cluster import ClusterError
from daemon.fleet.deployments import Deployments
from daemon.fleet.keda.demand import Demand, DemandUnknown
from daemon.fleet.keda.messages import MESSAGES
from daemon.fleet.keda.trigger import Trigger, TriggerError, trigger
from daemon.fleet.samples import Pod, Samples
from daemon.fleet.telemetry import Telemetry

METRIC = "remora_load_milli"

_MILLI = 1000

Context = grpc.aio.ServicerContext[Any, Any]


class _Refused(RuntimeError):
    def __init__(self, code: grpc.StatusCode, what: str) -> None:
        super().__init__(what)
        self.code = code


@dataclass(frozen=True, slots=True)
class Scaler:
    """The four methods.

    is_ready: whether pods are listed and were asked once.
    look_every_s: how often a stream looks whether activity has changed.
    """

    samples: Samples
    deployments: Deployments
    demand: Demand
    telemetry: Telemetry
    servers: Sequence[str]
    is_ready: Callable[[], bool]
    look_every_s: float = 1.0

    async def is_active(self, request: Any, context: Context) -> Any:
        try:
            active = await self._active(self._trigger(request))
        except _Refused as error:
            await self._abort("IsActive", context, error)
        self._count("IsActive", grpc.StatusCode.OK)
        return MESSAGES["IsActiveResponse"](result=active)

    async def stream_is_active(self, request: Any, context: Context) -> AsyncIterator[Any]:
        """Says it at first and whenever it changes; while it is not known, nothing."""
        said: bool | None = None
        while True:
            try:
                active = await self._active(self._trigger(request))
            except _Refused as error:
                if error.code is not grpc.StatusCode.UNAVAILABLE:
                    await self._abort("StreamIsActive", context, error)
            else:
                if active != said:
                    said = active
                    self._count("StreamIsActive", grpc.StatusCode.OK)
                    yield MESSAGES["IsActiveResponse"](result=active)
            await asyncio.sleep(self.look_every_s)

    async def get_metric_spec(self, request: Any, context: Context) -> Any:
        try:
            wanted = self._trigger(request)
        except _Refused as error:
            await self._abort("GetMetricSpec", context, error)
        self._count("GetMetricSpec", grpc.StatusCode.OK)
        target = round(wanted.target * _MILLI)
        spec = MESSAGES["MetricSpec"](
            metricName=METRIC, targetSize=target, targetSizeFloat=float(target)
        )
        return MESSAGES["GetMetricSpecResponse"](metricSpecs=[spec])

    async def get_metrics(self, request: Any, context: Context) -> Any:
        try:
            if request.metricName != METRIC:
                what = f"metric {request.metricName!r}; allowed: {METRIC}"
                raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, what)
            load = await self._load(self._trigger(request.scaledObjectRef))
        except _Refused as error:
            await self._abort("GetMetrics", context, error)
        self._count("GetMetrics", grpc.StatusCode.OK)
        milli = math.ceil(load * _MILLI)
        value = MESSAGES["MetricValue"](
            metricName=METRIC, metricValue=milli, metricValueFloat=float(milli)
        )
        return MESSAGES["GetMetricsResponse"](metricValues=[value])

    async def _load(self, wanted: Trigger) -> float:
        pods = await self._pods(wanted)
        if not pods:
            return 0.0
        load = whole([self._served(pod, wanted.model) for pod in _running(pods)], wanted.target)
        if load is None:
            raise _Refused(grpc.StatusCode.UNAVAILABLE, "no sidecar has answered of late")
        return load

    async def _active(self, wanted: Trigger) -> bool:
        """True as soon as one source says so; False only when all of them do."""
        why = ""
        if wanted.query:
            try:
                demand = await self.demand.value(wanted.server, wanted.query)
            except DemandUnknown as error:
                why = str(error)
            else:
                if demand > wanted.activation_threshold:
                    return True
        pods = await self._pods(wanted)
        loads = [self._offered(pod, wanted.model) for pod in _running(pods)]
        if math.fsum(load for load in loads if load is not None) > wanted.activation_load:
            return True
        if None in loads:
            why = why or "some sidecars have not answered of late"
        if why:
            raise _Refused(grpc.StatusCode.UNAVAILABLE, why)
        return False

    async def _pods(self, wanted: Trigger) -> Sequence[Pod]:
        """None at all only where the Deployment is there and wants none."""
        if not self.is_ready():
            raise _Refused(grpc.StatusCode.UNAVAILABLE, "the sidecars have not been asked yet")
        owner = wanted.namespace, wanted.deployment
        if pods := self.samples.deployments().get(owner):
            return pods
        try:
            found = await self.deployments.get(owner)
        except ClusterError as error:
            raise _Refused(grpc.StatusCode.UNAVAILABLE, str(error)) from None
        if found is None:
            what = f"no Deployment {wanted.deployment!r} in namespace {wanted.namespace!r}"
            raise _Refused(grpc.StatusCode.UNAVAILABLE, what)
        if found.replicas > 0:
            what = f"Deployment {wanted.deployment!r} has no pod with our labels"
            raise _Refused(grpc.StatusCode.UNAVAILABLE, what)
        return ()

    def _served(self, pod: Pod, model: str) -> float | None:
        return self._offered(pod, model) if model else self.samples.served(pod.key)

    def _offered(self, pod: Pod, model: str) -> float | None:
        """As the sidecar tells it, not steadied: what falls slowly would never be idle."""
        signals = self.samples.signals(pod.key)
        if signals is None or not model:
            return signals.load if signals else None
        asked = signals.models.get(model)
        return asked.load if asked else 0.0

    def _trigger(self, request: Any) -> Trigger:
        metadata = dict(request.scalerMetadata)
        try:
            return trigger(request.name, request.namespace, metadata, self.servers)
        except TriggerError as error:
            raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None

    def _count(self, method: str, code: grpc.StatusCode) -> None:
        self.telemetry.keda_calls.labels(method, code.name).inc()

    async def _abort(self, method: str, context: Context, error: _Refused) -> NoReturn:
        self._count(method, error.code)
        await context.abort(error.code, str(error))
        raise AssertionError("abort raises")


def whole(loads: Sequence[float | None], target: float) -> float | None:
    """The sum over pods; those that are unknown count as the HPA counts missing pods.

    Below the target they count as the target, so that their silence removes nobody; above it as
    idle, so that it adds nobody; and they never turn the one into the other. None where nothing
    is known.
    """
    known = [load for load in loads if load is not None]
    if not known:
        return None
    total, missing = math.fsum(known), len(loads) - len(known)
    if not missing:
        return total
    if total < target * len(known):
        return total + target * missing
    return max(total, target * len(loads))


def _running(pods: Sequence[Pod]) -> Iterator[Pod]:
    """A pod that still starts has no load, known or not: nobody sends it anything."""
    return (pod for pod in pods if pod.phase == "Running")
