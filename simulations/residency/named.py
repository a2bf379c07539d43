"""Every residency policy by the name that reports and command lines use.

Owns the names, and which of them know what will be. A policy is made anew for each replay, for it
remembers.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from simulations.residency.clairvoyant import Belady, BestStatic
from simulations.residency.frequency import LeastFrequent, faascache, gdsf
from simulations.residency.idle import IdleHistogram
from simulations.residency.memory import Sizes
from simulations.residency.policy import Policy
from simulations.residency.recency import LeastRecent, LeastRecentTwice, ModelMesh
from simulations.residency.remora import Remora
from simulations.workloads.arrivals import Workload
from simulations.workloads.catalogue import Catalogue

Maker = Callable[[Sizes, Workload, int], Policy]

# What the workload will be is for those that foresee only; the others are not shown it.
POLICIES: Mapping[str, Maker] = MappingProxyType(
    {
        "remora": lambda sizes, _workload, _budget: Remora(sizes),
        "remora-no-prewarm": lambda sizes, _workload, _budget: Remora(sizes, prewarm=False),
        "lru-seldon": lambda sizes, _workload, _budget: LeastRecent(sizes),
        "lru-modelmesh": lambda sizes, _workload, _budget: ModelMesh(sizes),
        "lru-2": lambda sizes, _workload, _budget: LeastRecentTwice(sizes),
        "lfu": lambda sizes, _workload, _budget: LeastFrequent(sizes),
        "gdsf": lambda sizes, _workload, _budget: gdsf(sizes),
        "faascache": lambda sizes, _workload, _budget: faascache(sizes),
        "idle-histogram": lambda sizes, _workload, _budget: IdleHistogram(sizes),
        "static": BestStatic,
        "belady": lambda sizes, workload, _budget: Belady(sizes, workload),
    }
)

FORESEEING = frozenset({"static", "belady"})
"""They are made with the whole workload in hand, and stand beside the others for what is
possible."""


class UnknownPolicy(ValueError):
    """A name that no residency policy has."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no policy is called {name!r}; allowed: {', '.join(POLICIES)}")
        self.name = name


def make(name: str, catalogue: Catalogue, workload: Workload, budget_bytes: int) -> Policy:
    """A fresh policy of this name.

    Raises UnknownPolicy, and MissingProfile where the catalogue lacks one of the models.
    """
    if name not in POLICIES:
        raise UnknownPolicy(name)
    return POLICIES[name](Sizes.of(workload.names, catalogue), workload, budget_bytes)
