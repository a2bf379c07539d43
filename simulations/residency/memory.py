"""What is in memory, as a residency policy sees it, and who has to leave.

Owns the arrays of models, the budget's arithmetic and the choice of victims by value. Refuses to
know what a value means, and when anything happens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulations.workloads.catalogue import Catalogue

Values = NDArray[np.float64]
Models = NDArray[np.int32]
Chosen = NDArray[np.bool_]


class MissingProfile(ValueError):
    """A model of the workload of which the catalogue does not know what it is like."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the catalogue has no model {name!r}, which the workload may ask for")
        self.name = name

    def __reduce__(self) -> tuple[type["MissingProfile"], tuple[str]]:
        return MissingProfile, (self.name,)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What each model takes, in the workload's order.

    size_bytes, load_s: (n,) float64. cost_per_byte: (n,) seconds of loading that a byte saves.
    """

    size_bytes: Values
    load_s: Values
    cost_per_byte: Values

    @classmethod
    def of(cls, names: Sequence[str], catalogue: Catalogue) -> "Sizes":
        for name in names:
            if name not in catalogue:
                raise MissingProfile(name)
        size = np.array([catalogue[name].size_bytes for name in names], np.float64)
        load = np.array([catalogue[name].load_s for name in names], np.float64)
        return cls(size, load, load / np.maximum(size, 1.0))

    def __len__(self) -> int:
        return len(self.size_bytes)


class Memory:
    """Which models are resident now. Only the replay changes it; policies look.

    The invariant: used_bytes never exceeds budget_bytes. Both sides of the comparison are
    whole bytes, far below the 2**53 from which on a float64 would no longer be exact.
    """

    def __init__(self, sizes: Sizes, budget_bytes: int) -> None:
        self.sizes = sizes
        self.budget_bytes = budget_bytes
        self.resident = np.zeros(len(sizes), np.bool_)
        self.used_bytes = 0.0

    def lacks_bytes(self, model: int) -> float:
        """How much has to be freed before ``model`` fits; 0 or less where it fits already."""
        return self.used_bytes + float(self.sizes.size_bytes[model]) - self.budget_bytes

    def enter(self, model: int) -> None:
        assert not self.resident[model]
        assert self.lacks_bytes(model) <= 0, "over budget"
        self.resident[model] = True
        self.used_bytes += float(self.sizes.size_bytes[model])

    def leave(self, model: int) -> None:
        assert self.resident[model]
        self.resident[model] = False
        self.used_bytes -= float(self.sizes.size_bytes[model])


def lowest(
    candidates: NDArray[np.intp],
    value: Values | NDArray[np.int64],
    memory: Memory,
    lacks_bytes: float,
    clean_up: bool,
) -> list[int]:
    """Those of ``candidates`` that leave, the least valuable first, until enough is free.

    value: one for each of the candidates; ties leave in the candidates' order. Victims chosen
    before a large one may turn out not to be needed: ``clean_up`` gives those back, the most
    valuable first.
    """
    if lacks_bytes <= 0 or not len(candidates):
        return []
    least = int(candidates[value.argmin()])
    if memory.sizes.size_bytes[least] >= lacks_bytes:
        return [least]
    order = candidates[np.argsort(value, kind="stable")]
    size = memory.sizes.size_bytes[order]
    freed = np.cumsum(size)
    count = int(np.searchsorted(freed, lacks_bytes, side="left")) + 1
    victims: list[int] = order[:count].tolist()
    if not clean_up or count <= 1 or count > len(order):
        return victims
    return _needed(victims, size[:count].tolist(), float(freed[count - 1]) - lacks_bytes)


def _needed(victims: list[int], size_bytes: Iterable[float], spare_bytes: float) -> list[int]:
    """The victims without those that the spare room takes back, the last chosen first."""
    kept = []
    for victim, size in zip(reversed(victims), reversed(list(size_bytes)), strict=True):
        if size <= spare_bytes:
            spare_bytes -= size
        else:
            kept.append(victim)
    return kept[::-1]
