"""Which pod hurts least to lose: a deletion cost for each pod of one Deployment.

When a Deployment shrinks, Kubernetes removes the pods with the lowest cost first. A pod's loss
costs the work that comes while its models are absent everywhere, in pod-seconds: for each model
that only it holds, the work offered to that model x the seconds that an absence of it lasts. A
model that others hold as well costs nothing of the kind. What the pod is doing now has to find
another place too, which is quickly done and counts as a moment of its load.

Costs are told in four bands, an octave each, around the mean of the Deployment, because each
change is a write to the API server, and a small difference is none. A pod leaves its band only
when it is clearly beyond the edge.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

COSTS = (-100, 0, 100, 200)
"""By band, the cheapest to lose first. A pod without a cost counts as 0 to Kubernetes: so pods
that are like each other need no write at all."""

_USUAL = COSTS.index(0)
# Edges between the bands, as multiples of the mean.
_EDGES = (0.7, 1.4, 2.8)
# Beyond an edge by this factor, the band changes.
_CLEARLY = 1.25
# Work of a model that nobody asks for of late: somebody may again.
_FAINT = 0.001
# How long the work of a pod that leaves takes to find another.
_MOVED_S = 0.1


@dataclass(frozen=True, slots=True)
class Holding:
    """One model in one pod.

    load: the work that is offered to it there, in pods.
    absence_s: what an absence of it would last.
    """

    resident: bool
    load: float
    absence_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What one pod holds and does; the load is None where it is unknown."""

    load: float | None
    models: Mapping[str, Holding]


def removal_cost(pods: Mapping[str, Standing], name: str) -> float:
    """What the loss of this pod would cost, in pod-seconds."""
    return _costs(pods)[name]


def deletion_costs(
    pods: Mapping[str, Standing], before: Mapping[str, int | None]
) -> dict[str, int]:
    """The deletion cost of each of the pods.

    pods: those that are known; of one that is not, nothing is said.
    before: what they cost now; None where nothing says so, which is as 0.
    """
    costs = _costs(pods)
    if not costs:
        return {}
    mean = math.fsum(costs[name] for name in sorted(costs)) / len(costs)
    return {name: COSTS[_band(costs[name], mean, before.get(name))] for name in sorted(costs)}


def _costs(pods: Mapping[str, Standing]) -> dict[str, float]:
    work: dict[str, list[float]] = {}
    holders: dict[str, int] = {}
    for standing in pods.values():
        for model, held in standing.models.items():
            work.setdefault(model, []).append(held.load)
            holders[model] = holders.get(model, 0) + held.resident
    # fsum rounds once, so the order of the pods does not show.
    asked = {model: max(_FAINT, math.fsum(loads)) for model, loads in work.items()}
    return {
        name: math.fsum(
            (
                (standing.load or 0.0) * _MOVED_S,
                *(
                    asked[model] * held.absence_s
                    for model, held in standing.models.items()
                    if held.resident and holders[model] == 1
                ),
            )
        )
        for name, standing in pods.items()
    }


def _band(cost: float, mean: float, before: int | None) -> int:
    """The band of this cost, or the one before as long as it is not clearly another."""
    share = cost / mean if mean > 0 else 1.0
    band = COSTS.index(before) if before in COSTS else _USUAL
    while band < len(_EDGES) and share >= _EDGES[band] * _CLEARLY:
        band += 1
    while band > 0 and share < _EDGES[band - 1] / _CLEARLY:
        band -= 1
    return band
