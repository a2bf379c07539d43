"""Which Ready pod a request goes to, as a service or a proxy before the pods decides.

Owns the four ways. A router knows who is Ready and how many requests each has, and nothing of
models' memory.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulations.scaling.replica import Replica
from simulations.workloads.arrivals import Arrivals

# How much more than its part of all requests a pod may have before a model goes on to its next.
_BOUND = 1.25
# With fewer requests no pod is full: a bound of one or two would send every other request on, and
# have each model loaded everywhere.
_UNBOUND = 8


class RoutingName(StrEnum):
    """random: as kube-proxy. round-robin and least-requests: as Envoy, the latter with all pods to
    choose from. by-model: each model to few pods, always the same ones, by rendezvous hashing
    with bounded load."""

    RANDOM = "random"
    ROUND_ROBIN = "round-robin"
    LEAST_REQUESTS = "least-requests"
    BY_MODEL = "by-model"


class Router(Protocol):
    def route(
        self, block: Arrivals, ready: Sequence[Replica]
    ) -> Iterator[tuple[Replica, Arrivals]]:
        """Each pod's part of ``block``; at least one is Ready, in a fixed order."""


def router(name: RoutingName, names: Sequence[str], seed: int) -> Router:
    match name:
        case RoutingName.RANDOM:
            return _Random(np.random.default_rng(seed))
        case RoutingName.ROUND_ROBIN:
            return _RoundRobin()
        case RoutingName.LEAST_REQUESTS:
            return _LeastRequests()
        case RoutingName.BY_MODEL:
            return _ByModel(names)


def picked(block: Arrivals, which: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Arrivals:
    service_s = None if block.service_s is None else block.service_s[which]
    return Arrivals(block.time_s[which], block.model[which], block.weight[which], service_s)


def _split(
    block: Arrivals, chosen: NDArray[np.int64], ready: Sequence[Replica]
) -> Iterator[tuple[Replica, Arrivals]]:
    for number, replica in enumerate(ready):
        mine = chosen == number
        if mine.any():
            yield replica, picked(block, mine)


@dataclass(slots=True)
class _Random:
    random: np.random.Generator

    def route(
        self, block: Arrivals, ready: Sequence[Replica]
    ) -> Iterator[tuple[Replica, Arrivals]]:
        return _split(block, self.random.integers(len(ready), size=len(block)), ready)


@dataclass(slots=True)
class _RoundRobin:
    _next: int = 0

    def route(
        self, block: Arrivals, ready: Sequence[Replica]
    ) -> Iterator[tuple[Replica, Arrivals]]:
        chosen = (self._next + np.arange(len(block))) % len(ready)
        self._next += len(block)
        return _split(block, chosen, ready)


@dataclass(slots=True)
class _LeastRequests:
    """Ties go round, or the first pod would have all of a light load."""

    _next: int = 0

    def route(
        self, block: Arrivals, ready: Sequence[Replica]
    ) -> Iterator[tuple[Replica, Arrivals]]:
        count = len(ready)
        for number, at_s in enumerate(block.time_s.tolist()):
            order = [(self._next + step) % count for step in range(count)]
            least = min(order, key=lambda each: ready[each].present(at_s))
            self._next = (least + 1) % count
            yield ready[least], picked(block, slice(number, number + 1))


@dataclass(slots=True)
class _ByModel:
    names: Sequence[str]
    _orders: dict[tuple[int, tuple[str, ...]], list[int]] = field(default_factory=dict)

    def route(
        self, block: Arrivals, ready: Sequence[Replica]
    ) -> Iterator[tuple[Replica, Arrivals]]:
        pods = tuple(replica.name for replica in ready)
        rows = zip(block.time_s.tolist(), block.model.tolist(), strict=True)
        for number, (at_s, model) in enumerate(rows):
            present = [replica.present(at_s) for replica in ready]
            most = max(_UNBOUND, math.ceil(_BOUND * (sum(present) + 1) / len(ready)))
            order = self._order(model, pods)
            chosen = next((each for each in order if present[each] + 1 <= most), order[0])
            yield ready[chosen], picked(block, slice(number, number + 1))

    def _order(self, model: int, pods: tuple[str, ...]) -> list[int]:
        """The pods as this model prefers them."""
        key = (model, pods)
        if key not in self._orders:
            name = self.names[model]
            weight = [zlib.crc32(f"{name} {pod}".encode()) for pod in pods]
            self._orders[key] = sorted(range(len(pods)), key=lambda each: (-weight[each], each))
        return self._orders[key]
