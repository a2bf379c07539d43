"""Puts the fleet service together from its settings, and runs it until it is told to stop."""

import asyncio
import gc
import logging
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import disable_created_metrics

from daemon.clock import Clock
from daemon.fleet.cluster import ClusterError, connected
from daemon.fleet.collecting import Collecting
from daemon.fleet.credentials import Credentials, CredentialsError, Files
from daemon.fleet.deployments import Deployments
from daemon.fleet.lease import Lease
from daemon.fleet.pages import application
from daemon.fleet.parts import Parts
from daemon.fleet.pods import Watching
from daemon.fleet.samples import Samples
from daemon.fleet.service import Fleet
from daemon.fleet.settings import FleetSettings
from daemon.fleet.sidecars import Sidecars
from daemon.fleet.steadying import Steadying
from daemon.fleet.telemetry import Telemetry
from daemon.logs import log_as
from daemon.policyfile import PolicyFile

log = logging.getLogger("remora.fleet")

# While the cluster learns that we end.
_LINGER_S = 3.0


class StartError(RuntimeError):
    """The service cannot start here."""


async def serve(settings: FleetSettings) -> None:
    """Runs until SIGTERM or SIGINT.

    Raises PolicyError for a wrong first policy, FleetSettingsError where our own namespace is not
    known, and StartError for what else is wrong with where we are.
    """
    log_as(settings.log_format)
    # A time stamp beside every counter would make a third of the page.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    stopping = _Stopping()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.begin, _LINGER_S)
    loop.add_signal_handler(signal.SIGINT, stopping.begin, 0.0)
    # What was imported stays for good. A full collection that goes through it as well took 52 ms
    # beside the signals of 100,000 models, and 6 ms without it; meanwhile the HPA waits.
    gc.collect()
    gc.freeze()
    async with running(settings) as fleet:
        await stopping.begun.wait()
        log.info("stopping")
        fleet.linger_s = stopping.linger_s


@dataclass(slots=True)
class _Stopping:
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    linger_s: float = 0.0

    def begin(self, linger_s: float) -> None:
        self.linger_s = linger_s
        self.begun.set()


@asynccontextmanager
async def running(settings: FleetSettings) -> AsyncIterator[Fleet]:
    """The service, from its first listing to the release of its Lease. Raises as `serve`."""
    async with AsyncExitStack() as stack:
        fleet = await _built(settings, stack)
        await stack.enter_async_context(_plain_port(fleet))
        parts = Parts(fleet.telemetry)
        # What serves goes on while the writer's duties end and its Lease passes on.
        stack.push_async_callback(parts.stop)
        parts.start(fleet.serving_parts())
        if settings.keda_port:
            stack.push_async_callback(await _keda(fleet, stack))
        stack.push_async_callback(fleet.linger)
        writers = Parts(fleet.telemetry)
        stack.push_async_callback(fleet.lease.release)
        stack.push_async_callback(writers.stop)
        writers.start(fleet.writing_parts())
        try:
            yield fleet
        finally:
            fleet.is_stopping = True


async def _built(settings: FleetSettings, stack: AsyncExitStack) -> Fleet:
    policy_file = PolicyFile(settings.policy)
    home = settings.home
    try:
        cluster = await connected(settings.kubeconfig)
        stack.push_async_callback(cluster.close)
        credentials = Credentials(_files(settings))
    except (ClusterError, CredentialsError) as error:
        raise StartError(str(error)) from None
    samples = Samples(settings.stale_s)
    telemetry = Telemetry(samples)
    sidecars = Sidecars(credentials, settings.collect_timeout_s, settings.collect_interval_s)
    stack.push_async_callback(sidecars.close)
    steadying = Steadying(samples, policy_file, Clock().now_s)
    identity = settings.identity or f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    lease = Lease(cluster, home, settings.lease, identity, settings.lease_duration_s)
    telemetry.writes_while(lease.is_held)
    return Fleet(
        settings=settings,
        cluster=cluster,
        samples=samples,
        telemetry=telemetry,
        watching=Watching(cluster, samples, telemetry, settings.selector, settings.namespace),
        collecting=Collecting(
            samples,
            sidecars,
            telemetry,
            steadying.step,
            settings.collect_interval_s,
            settings.collect_concurrency,
        ),
        steadying=steadying,
        deployments=Deployments(cluster),
        lease=lease,
    )


def _files(settings: FleetSettings) -> Files:
    return Files(
        ca=settings.sidecar_ca,
        name=settings.sidecar_name,
        certificate=settings.sidecar_certificate,
        key=settings.sidecar_key,
        token=settings.sidecar_token,
    )


@asynccontextmanager
async def _plain_port(fleet: Fleet) -> AsyncIterator[None]:
    settings = fleet.settings
    pages = application(fleet.telemetry.registry, fleet.why_dead, fleet.why_unready)
    runner = web.AppRunner(pages, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.http_port)
        try:
            await site.start()
        except OSError as error:
            place = f"{settings.host}:{settings.http_port}"
            raise StartError(f"cannot listen on {place}: {error.strerror}") from None
        log.info("listening on %s:%d", settings.host, settings.http_port)
        yield
    finally:
        await runner.cleanup()


async def _keda(fleet: Fleet, stack: AsyncExitStack) -> Callable[[], Awaitable[None]]:
    """Opens the gRPC port, and says how it is closed; imported only where it is wanted."""
    from daemon.fleet.keda import serving as keda_serving
    from daemon.fleet.keda.demand import Demand
    from daemon.fleet.keda.scaler import Scaler

    settings = fleet.settings
    demand = Demand(fleet.telemetry, remembered_s=settings.collect_interval_s)
    stack.push_async_callback(demand.close)
    scaler = Scaler(
        samples=fleet.samples,
        deployments=fleet.deployments,
        demand=demand,
        telemetry=fleet.telemetry,
        servers=settings.prometheus_servers,
        is_ready=fleet.is_collected,
    )
    certificate = None
    if settings.keda_certificate is not None and settings.keda_key is not None:
        certificate = keda_serving.Certificate(
            settings.keda_certificate, settings.keda_key, settings.keda_ca
        )
    try:
        server = await keda_serving.listen(scaler, settings.host, settings.keda_port, certificate)
    except (keda_serving.KedaError, OSError) as error:
        raise StartError(str(error)) from None
    log.info("KEDA's external scaler on %s:%d", settings.host, settings.keda_port)

    async def close() -> None:
        await server.stop(1.0)

    return close
