"""The external scaler on a real gRPC port, over a world that a test puts together."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from daemon.fleet.deployments import Deployments
from daemon.fleet.keda.demand import Demand
from daemon.fleet.keda.messages import MESSAGES, SERVICE
from daemon.fleet.keda.scaler import Scaler
from daemon.fleet.keda.serving import Certificate, listen
from daemon.fleet.samples import ModelSignal, Pod, Samples
from daemon.fleet.sidecars import read
from daemon.fleet.telemetry import Telemetry
from simulations.testbed.tritonserver import free_ports
from tests.daemon.fleet.apiserver import FakeApiServer
from tests.daemon.fleet.sidecar import said


@dataclass
class Fleet:
    """
    port: where KEDA calls.
    is_ready: what the scaler is told of the pods' list.
    """

    samples: Samples
    server: FakeApiServer
    telemetry: Telemetry
    port: int
    is_ready: bool = True

    def add(
        self,
        name: str,
        load: float | None = None,
        *,
        served: float | None = None,
        phase: str = "Running",
        models: Mapping[str, ModelSignal] | None = None,
    ) -> None:
        """A pod; without a load its sidecar never answered."""
        pod = Pod("prod", name, name, {}, "127.0.0.1", 9400, "triton", False, phase)
        self.samples.put_pod(pod)
        if load is None:
            return
        told = {
            model: {"resident": each.resident, "load": each.load, "absence_s": each.absence_s}
            for model, each in (models or {}).items()
        }
        self.samples.put_signals(pod, read(json.dumps(said(load, models=told)).encode()))
        before = {pod.key: self.samples.served(pod.key) for pod in self.samples.pods("prod")}
        known = {key: value for key, value in before.items() if value is not None}
        self.samples.serve({**known, pod.key: load if served is None else served})

    def add_deployment(self, replicas: int) -> None:
        """As the API server has it."""
        path = "/apis/apps/v1/namespaces/prod/deployments/triton"
        self.server.objects[path] = {"metadata": {"uid": "d"}, "spec": {"replicas": replicas}}

    def calls(self, method: str, code: str) -> float | None:
        labels = {"method": method, "code": code}
        return self.telemetry.registry.get_sample_value("remora_fleet_keda_calls_total", labels)


@asynccontextmanager
async def keda_port(
    servers: tuple[str, ...] = (), certificate: Certificate | None = None
) -> AsyncIterator[Fleet]:
    samples = Samples(30.0)
    telemetry = Telemetry(samples)
    (port,) = free_ports(1)
    async with FakeApiServer() as api_server:
        fleet = Fleet(samples, api_server, telemetry, port)
        cluster, demand = api_server.cluster(), Demand(telemetry, 0.05)
        known = Deployments(cluster)
        scaler = Scaler(samples, known, demand, telemetry, servers, lambda: fleet.is_ready, 0.02)
        server = await listen(scaler, "127.0.0.1", port, certificate)
        try:
            yield fleet
        finally:
            await server.stop(0)
            await demand.close()
            await cluster.close()


class Caller:
    """KEDA, as far as the wire tells."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Mapping[str, str]) -> None:
        self._channel = channel
        self.reference = MESSAGES["ScaledObjectRef"](
            name="triton", namespace="prod", scalerMetadata=metadata
        )

    async def call(self, method: str, answer: str, request: Any = None) -> Any:
        return await self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES[answer].FromString,
        )(self.reference if request is None else request)

    async def load(self, metric: str = "remora_load_milli") -> float:
        request = MESSAGES["GetMetricsRequest"](scaledObjectRef=self.reference, metricName=metric)
        answer = await self.call("GetMetrics", "GetMetricsResponse", request)
        (value,) = answer.metricValues
        assert value.metricValue == value.metricValueFloat
        return float(value.metricValueFloat)

    async def is_active(self) -> bool:
        return bool((await self.call("IsActive", "IsActiveResponse")).result)

    def activity(self) -> Any:
        """The stream of IsActive."""
        return self._channel.unary_stream(
            f"/{SERVICE}/StreamIsActive",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES["IsActiveResponse"].FromString,
        )(self.reference)


@asynccontextmanager
async def calling(fleet: Fleet, **metadata: str) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{fleet.port}") as channel:
        yield Caller(channel, metadata)
