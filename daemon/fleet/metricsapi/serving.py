"""The TLS port of the metrics APIs: put together, opened, kept up to date, and closed.

Owns the order in which things are there: a certificate before the port, and the front proxy as
soon as the cluster tells of it. Decides nothing about callers or values.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from daemon.fleet.certificates.apiservice import (
    Service,
    TakenByOthers,
    check_claims,
    publish_ca_bundle,
)
from daemon.fleet.certificates.authority import names_of
from daemon.fleet.certificates.contexts import CertificateError, Serving, Source
from daemon.fleet.certificates.files import GivenFiles
from daemon.fleet.certificates.secret import SelfSigned
from daemon.fleet.cluster import Cluster, ClusterError
from daemon.fleet.metricsapi.app import application
from daemon.fleet.metricsapi.authorization import Authorization
from daemon.fleet.metricsapi.discovery import CUSTOM, EXTERNAL
from daemon.fleet.metricsapi.frontproxy import FrontProxy
from daemon.fleet.samples import Samples
from daemon.fleet.settings import FleetSettings
from daemon.fleet.trouble import Trouble

log = logging.getLogger("remora.fleet")

# An API server with a new authority is refused until we have read of it.
REFRESH_S = 10.0
# While no front proxy is known everybody is refused.
_UNKNOWN_S = 1.0
# Clients in Go close an idle connection after 90 s; the one who does so first should be they.
_KEEPALIVE_S = 120.0
_SHUTDOWN_S = 5.0


class ListenError(RuntimeError):
    """The port cannot be opened: where, and why."""


@dataclass(frozen=True, slots=True)
class Listening:
    """An open port. Run it, or the certificate and the front proxy grow old; close it."""

    runner: web.AppRunner
    serving: Serving
    front_proxy: FrontProxy
    cluster: Cluster
    service: Service
    groups: tuple[str, ...]
    _trouble: Trouble = field(default_factory=lambda: Trouble("cannot look after APIServices"))

    async def run(self, refresh_s: float = REFRESH_S) -> None:
        """Runs until it is cancelled."""
        while True:
            known = self.front_proxy.trust is not None
            await asyncio.sleep(refresh_s if known else min(refresh_s, _UNKNOWN_S))
            await self.refresh()

    async def refresh(self) -> None:
        """Takes in what has changed; whatever cannot be read stays as it was."""
        await self.serving.refresh()
        await self.front_proxy.refresh()
        if trust := self.front_proxy.trust:
            self.serving.trust(trust.authorities_pem)

    async def publish(self) -> None:
        """Tells the API server whom to trust behind our APIServices, if they are ours.

        For the replica that writes, every few seconds. The authority of a certificate that was
        given to us is published by whoever gave it: then nothing is written.
        """
        bundle = self.serving.ca_bundle()
        try:
            if bundle is None:
                await check_claims(self.cluster, self.service, self.groups)
            else:
                await publish_ca_bundle(self.cluster, self.service, self.groups, bundle)
        except (ClusterError, TakenByOthers) as error:
            self._trouble.began(error)
        else:
            self._trouble.ended()

    async def close(self) -> None:
        await self.runner.cleanup()


async def listen(
    samples: Samples,
    cluster: Cluster,
    settings: FleetSettings,
    is_ready: Callable[[], bool] = lambda: True,
) -> Listening:
    """Opens the port. Raises ListenError.

    is_ready: whether the values are worth asking for; that callers can be known, we know.
    """
    serving = Serving(source_of(cluster, settings))
    front_proxy = FrontProxy(cluster)
    groups = (CUSTOM, EXTERNAL) if settings.external_metrics else (CUSTOM,)
    app = application(
        samples,
        serving,
        front_proxy,
        Authorization(cluster),
        is_external=settings.external_metrics,
        is_ready=lambda: front_proxy.trust is not None and is_ready(),
    )
    runner = web.AppRunner(
        app, access_log=None, keepalive_timeout=_KEEPALIVE_S, shutdown_timeout=_SHUTDOWN_S
    )
    service = Service(settings.home, settings.service)
    listening = Listening(runner, serving, front_proxy, cluster, service, groups)
    try:
        await listening.refresh()
        await _open(listening, settings.host, settings.api_port)
    except CertificateError as error:
        raise ListenError(str(error)) from None
    return listening


def source_of(cluster: Cluster, settings: FleetSettings) -> Source:
    """Given files, or a certificate that we sign with authorities shared by the replicas."""
    if settings.certificate is not None and settings.key is not None:
        return GivenFiles(settings.certificate, settings.key)
    namespace = settings.home
    names = names_of(settings.service, namespace)
    return SelfSigned(cluster, namespace, f"{settings.service}-ca", names)


async def _open(listening: Listening, host: str, port: int) -> None:
    runner = listening.runner
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=listening.serving.ssl_context)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    log.info("metrics APIs on %s:%d", host, port)
