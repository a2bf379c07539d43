"""Puts the foresight together with the sidecar that it is a part of."""

import asyncio
import contextlib

from daemon.foresight.figures import Figures
from daemon.foresight.part import Foresight
from daemon.foresight.server import Address, Server
from daemon.settings import Settings
from daemon.sidecar import Sidecar


def joined(sidecar: Sidecar, settings: Settings) -> Foresight:
    """The foresight of this sidecar, not opened yet; its rates reach the observer."""
    address = Address(
        settings.prometheus,
        settings.prometheus_credentials,
        settings.prometheus_ca,
        settings.prometheus_certificate,
        settings.prometheus_key,
    )
    loop = asyncio.get_running_loop()

    def wake() -> None:
        # The loop may have ended while the thread was still asking.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(sidecar.wake)

    foresight = Foresight(
        server=Server(address),
        policy=lambda: sidecar.policy_file.policy,
        models=lambda: sidecar.observer.last.models.keys(),
        wake=wake,
        began_s=sidecar.clock.now_s(),
    )
    sidecar.observer.expected = foresight.rates
    sidecar.telemetry.registry.register(Figures(foresight))
    return foresight
