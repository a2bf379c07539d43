"""Puts the gossip together with the sidecar that it is a part of."""

from daemon.gossip.client import Broker
from daemon.gossip.figures import Figures
from daemon.gossip.part import Gossip
from daemon.gossip.topics import Topics
from daemon.settings import Settings
from daemon.sidecar import Sidecar


def joined(sidecar: Sidecar, settings: Settings) -> Gossip:
    """The gossip of this sidecar, not opened yet; what it hears reaches the sidecar's observer."""
    gossip = Gossip(
        broker=Broker(
            settings.gossip,
            settings.gossip_credentials,
            settings.gossip_ca,
            settings.gossip_certificate,
            settings.gossip_key,
        ),
        topics=Topics(settings.gossip_root),
        pod=settings.pod_name,
        place=settings.gossip_place or settings.pod_name,
        telemetry=sidecar.telemetry,
        store=sidecar.learned,
        file_bytes=sidecar.observer.file_bytes,
        demand=sidecar.demand,
        now_s=sidecar.clock.now_s,
        wake=sidecar.wake,
    )
    sidecar.observer.heard = gossip.learned
    sidecar.observer.copies = gossip.copies
    sidecar.observer.leaves = lambda: gossip.is_leaving
    sidecar.telemetry.registry.register(Figures(gossip))
    return gossip
