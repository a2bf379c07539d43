"""Puts the sidecar together from its settings, and runs it until it is told to stop."""

import asyncio
import logging
import signal
from ssl import SSLContext
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import disable_created_metrics

from daemon import hostmemory
from daemon.api import Guard, application
from daemon.clock import Clock
from daemon.demand import Demand
from daemon.frontdoor.door import Address, Door, DoorError
from daemon.frontdoor.envoyadmin import EnvoyAdmin
from daemon.frontdoor.gate import Gate
from daemon.frontdoor.sequences import Sequences
from daemon.frontdoor.visits import AccessJournal, Visits
from daemon.journal import JournalWriter
from daemon.learned import LearnedStore
from daemon.leaving import Leaving
from daemon.logs import log_as
from daemon.measuring import Measuring
from daemon.metrics import Scraper
from daemon.observer import Observer
from daemon.policyfile import PolicyFile
from daemon.repository import Repository
from daemon.settings import Settings
from daemon.sidecar import Sidecar
from daemon.triton import Triton

if TYPE_CHECKING:
    from daemon.foresight.part import Foresight
    from daemon.gossip.part import Gossip
    from daemon.tls import PortTls

log = logging.getLogger("remora")

# A tick of a hundred models changes a few kilobytes; a keyframe every five minutes keeps
# the way to any tick short.
KEYFRAME_EVERY = 300


class StartError(RuntimeError):
    """The sidecar cannot start here."""


async def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT. Triton is left as it is.

    Raises PolicyError for a wrong first policy and StartError for a port in use.
    """
    log_as(settings.log_format)
    # A time stamp beside every counter would make a third of the page.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    sidecar, scraper = _build(settings)
    sidecar.gossip = gossip = _gossip(sidecar, settings)
    sidecar.leaving = leaving = _leaving(sidecar, settings)
    sidecar.foresight = foresight = _foresight(sidecar, settings)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, leaving.terminate, sidecar.stop)
    loop.add_signal_handler(signal.SIGINT, sidecar.stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: sidecar.reload_policy(always=True))
    tls = _tls(settings)
    guard = Guard(settings.token, tls.knows if tls else None, settings.guard_reads)
    runner = web.AppRunner(application(sidecar, guard), access_log=None)
    await runner.setup()
    door = _door(sidecar, settings) if settings.front_door else None
    try:
        await _listen(runner, settings, await _context(tls))
        if door:
            await door.open()
        if gossip:
            await gossip.open()
        if foresight:
            foresight.open()
        await sidecar.run()
    except DoorError as error:
        raise StartError(str(error)) from None
    finally:
        await leaving.close()
        if foresight:
            await asyncio.to_thread(foresight.close)
        if gossip:
            await gossip.close()
        if door:
            await door.close()
        sidecar.access.close()
        await runner.cleanup()
        if tls:
            await tls.close()
        await scraper.close()
        await sidecar.triton.close()
    log.info("stopped; Triton keeps what it has")


def _build(settings: Settings) -> tuple[Sidecar, Scraper]:
    policy_file = PolicyFile(settings.policy)
    learned = LearnedStore(settings.state_directory / "learned.json")
    triton = Triton(settings.triton_grpc)
    scraper = Scraper(settings.triton_metrics, settings.triton_timeout_s)
    repository = Repository(settings.model_repository) if settings.model_repository else None
    demand, clock = Demand(), Clock()
    gate = Gate(clock.now_s)
    observer = Observer(
        triton=triton,
        scraper=scraper,
        repository=repository,
        learned=learned,
        demand=demand,
        gate=gate,
        clock=clock,
        measuring=Measuring(settings.metrics_interval_s),
        timeout_s=settings.triton_timeout_s,
        host_limit=lambda: settings.host_memory_bytes or hostmemory.limit_bytes(),
    )
    journal = JournalWriter(
        settings.state_directory / "journal",
        rotate_bytes=settings.journal_rotate_bytes,
        keep_bytes=settings.journal_keep_bytes,
        keyframe_every=KEYFRAME_EVERY,
        compress=True,
    )
    for problem in (learned.problem, journal.problem):
        if problem:
            log.warning("%s", problem)
    access = AccessJournal(settings.state_directory / "access" / "access.jsonl")
    parts = (policy_file, triton, observer, learned, journal, access, demand, clock, gate)
    return Sidecar(*parts), scraper


def _door(sidecar: Sidecar, settings: Settings) -> Door:
    address = Address(
        host=settings.front_door_host,
        http_port=settings.front_door_http_port,
        grpc_port=settings.front_door_grpc_port,
        triton_http=settings.triton_http,
        triton_grpc=settings.triton_grpc,
        message_bytes=settings.front_door_message_bytes,
        certificate=settings.front_door_certificate,
        key=settings.front_door_key,
    )
    gate, telemetry = sidecar.gate, sidecar.telemetry
    visits = Visits(
        requests=telemetry.door_requests,
        waits=telemetry.door_waits,
        gate=gate,
        journal=sidecar.access,
    )
    return Door(address, gate, sidecar.triton, visits, Sequences(gate))


def _gossip(sidecar: Sidecar, settings: Settings) -> "Gossip | None":
    """Imported where it is configured only, as the extra `gossip` is."""
    if not settings.gossip:
        return None
    try:
        from daemon.gossip.joining import joined
    except ModuleNotFoundError as error:
        raise StartError(f"{error.name} is missing: pip install 'remora[gossip]'") from None
    return joined(sidecar, settings)


def _leaving(sidecar: Sidecar, settings: Settings) -> Leaving:
    return Leaving(
        telemetry=sidecar.telemetry,
        now_s=sidecar.clock.now_s,
        wake=sidecar.wake,
        deadline_s=settings.leave_deadline_s,
        notice_s=settings.leave_notice_s,
        fleet=sidecar.gossip,
        envoy=EnvoyAdmin(settings.envoy_admin) if settings.envoy_admin else None,
    )


def _foresight(sidecar: Sidecar, settings: Settings) -> "Foresight | None":
    """Imported where it is configured only, as the extra `prometheus` is."""
    if not settings.prometheus:
        return None
    try:
        from daemon.foresight.joining import joined
    except ModuleNotFoundError as error:
        raise StartError(f"{error.name} is missing: pip install 'remora[prometheus]'") from None
    return joined(sidecar, settings)


def _tls(settings: Settings) -> "PortTls | None":
    """Imported where it is configured only: what it needs takes ten megabytes."""
    if settings.http_certificate is None or settings.http_key is None:
        return None
    from daemon.tls import PortTls

    return PortTls(settings.http_certificate, settings.http_key, settings.http_client_ca)


async def _context(tls: "PortTls | None") -> SSLContext | None:
    if tls is None:
        return None
    from daemon.fleet.certificates.contexts import CertificateError

    try:
        return await tls.open()
    except CertificateError as error:
        raise StartError(str(error)) from None


async def _listen(runner: web.AppRunner, settings: Settings, tls: SSLContext | None) -> None:
    site = web.TCPSite(runner, settings.http_host, settings.http_port, ssl_context=tls)
    try:
        await site.start()
    except OSError as error:
        place = f"{settings.http_host}:{settings.http_port}"
        raise StartError(f"cannot listen on {place}: {error.strerror}") from None
    log.info("listening on %s:%d", settings.http_host, settings.http_port)
