"""As much of a sidecar as its gossip needs: a tick that was, and what was learned."""

from collections.abc import Iterable

from daemon.clock import Clock
from daemon.demand import Demand
from daemon.frontdoor.gate import Gate
from daemon.gossip.client import Broker
from daemon.gossip.part import Gossip
from daemon.gossip.topics import Topics
from daemon.learned import LearnedStore
from daemon.telemetry import Latest, Telemetry
from policies.actions import Plan
from policies.history import History
from policies.pace import Pace
from policies.snapshot import (
    HOST,
    Device,
    Footprint,
    FootprintSource,
    Model,
    ModelState,
    Snapshot,
)
from policies.source import parse

MIB = 2**20
QUICK = Pace(change_s=0.05, drift_s=0.2, heartbeat_s=0.6, expiry_s=2.0)


def snapshot_of(residents: Iterable[str], now_s: float, models: Iterable[str] = "abc") -> Snapshot:
    """``residents`` of ``models`` are ready, on a host of 1 GiB."""
    residents = set(residents)
    return Snapshot(
        now_s,
        devices={HOST: Device(HOST, 1024 * MIB, 64 * MIB)},
        models={
            name: Model(
                name,
                ModelState.READY if name in residents else ModelState.UNLOADED,
                Footprint({HOST: 10 * MIB}, FootprintSource.MEASURED),
            )
            for name in sorted({*models, *residents})
        },
    )


def telemetry_of(residents: Iterable[str], now_s: float = 0.0) -> Telemetry:
    latest = Latest(parse(""), snapshot_of(residents, now_s), Plan((), (), History()))
    return Telemetry(latest, Gate(lambda: now_s))


def gossip_of(
    broker: str | Broker,
    pod: str,
    telemetry: Telemetry,
    store: LearnedStore | None = None,
    pace: Pace | None = None,
    root: str = "remora",
) -> Gossip:
    """Not opened yet; its first tick has been."""
    clock = Clock()
    gossip = Gossip(
        broker=broker if isinstance(broker, Broker) else Broker(broker),
        topics=Topics(root),
        pod=pod,
        place=pod,
        telemetry=telemetry,
        store=store or LearnedStore(None),
        file_bytes=lambda _: None,
        demand=Demand(),
        now_s=clock.now_s,
        wake=lambda: None,
        pace=pace or Pace(),
    )
    gossip.took()
    return gossip


def tick(gossip: Gossip, residents: Iterable[str]) -> None:
    """The next tick finds these residents."""
    latest = gossip.telemetry.latest
    now = snapshot_of(residents, gossip.now_s())
    gossip.telemetry.took(Latest(latest.policy, now, latest.plan))
    gossip.took()
