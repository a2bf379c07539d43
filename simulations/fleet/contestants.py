"""Who contends: by which ranking sidecars decide, whether they gossip, and who sends them requests.

Owns those, and what the first of them is set against. The policy is the scenario's in all of them,
but for what is said here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulations.fleet.outcome import Outcome
from simulations.fleet.routing import RoutingName

OURS = "remora"
RANDOM_LRU = "lru-random"


@dataclass(frozen=True, slots=True)
class Contestant:
    """values: of its policy, by dotted key, in place of the scenario's."""

    label: str
    routing: RoutingName
    gossips: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)


_BY_MODEL = {"scaling.routing": "by-model"}
_LRU = {"ranking": "lru"}

CONTESTANTS: Mapping[str, Contestant] = {
    each.label: each
    for each in (
        Contestant(OURS, RoutingName.BY_MODEL, gossips=True, values=_BY_MODEL),
        Contestant("no-gossip", RoutingName.BY_MODEL),
        Contestant("lru-by-model", RoutingName.BY_MODEL, values=_LRU),
        Contestant(RANDOM_LRU, RoutingName.RANDOM, values=_LRU),
    )
}


def _ratio(ours: float, theirs: float) -> float:
    return theirs / ours if ours else float("inf") if theirs else 1.0


RATIOS: Mapping[str, Callable[[Outcome, Outcome], float]] = {
    "cold_s_saved": lambda ours, theirs: _ratio(ours.cold_s, theirs.cold_s),
}
"""Of a contestant and LRU behind random routing: how many times as much the latter had."""
