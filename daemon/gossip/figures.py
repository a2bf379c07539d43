"""What is told to Prometheus of the gossip; absent where it is not configured."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from policies.snapshot import ModelState, Snapshot

if TYPE_CHECKING:
    from daemon.gossip.part import Gossip

DESCRIPTIONS = (
    ("remora_gossip_connected", "gauge", "", "1 while the broker is connected."),
    ("remora_gossip_peers", "gauge", "", "Other pods that are alive."),
    (
        "remora_gossip_residents",
        "gauge",
        "elsewhere",
        "This pod's residents, by how many pods that stay hold them too: none, one, or more.",
    ),
    ("remora_gossip_messages_total", "counter", "direction", "Messages heard (in) and said (out)."),
    ("remora_gossip_bytes_total", "counter", "direction", "Content of those messages."),
    ("remora_gossip_dropped_total", "counter", "why", "Messages that were not used."),
)
"""Name, kind, labels and meaning of every metric."""

_TEXTS = {name: text for name, _, _, text in DESCRIPTIONS}
ELSEWHERE = ("none", "one", "more")
WHYS = (
    "duplicate",
    "malformed",
    "old",
    "too_large",
    "too_many_peers",
    "topic",
    "unknown_model",
    "version",
)


class Figures(Collector):
    def __init__(self, gossip: "Gossip") -> None:
        self._gossip = gossip

    def collect(self) -> Iterator[Metric]:
        gossip = self._gossip
        yield _gauge("remora_gossip_connected", gossip.is_connected)
        yield _gauge("remora_gossip_peers", len(gossip.peers()))
        yield _shared(gossip.telemetry.latest.snapshot)
        for what in ("messages", "bytes"):
            counts = {way: gossip.counted[f"{what}_{way}"] for way in ("in", "out")}
            yield _counter(f"remora_gossip_{what}_total", "direction", counts)
        dropped = {why: gossip.dropped[why] for why in WHYS}
        yield _counter("remora_gossip_dropped_total", "why", dropped)


def _shared(snapshot: Snapshot) -> Metric:
    """Absent while no peer is known of."""
    name = "remora_gossip_residents"
    family = GaugeMetricFamily(name, _TEXTS[name], labels=("elsewhere",))
    here = [model.copies for model in snapshot.models.values() if model.state is ModelState.READY]
    known = Counter(ELSEWHERE[min(copies.warm, 2)] for copies in here if copies is not None)
    for elsewhere in ELSEWHERE if known else ():
        family.add_metric((elsewhere,), known[elsewhere])
    return family


def _gauge(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, _TEXTS[name], value)


def _counter(name: str, label: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, _TEXTS[name], labels=(label,))
    for value, number in counts.items():
        family.add_metric((value,), number)
    return family
