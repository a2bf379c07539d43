"""Which pod a request goes to: by its model, as the gateway does, or any.

Owns the choice among pods, and what a gateway knows of them: who is healthy, and how many requests
each has in flight, counted anew at every step of the run and estimated within it. Refuses to know
what pods hold.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import Protocol
from zlib import crc32

import numpy as np

from policies.places import Places
from simulations.fleet.member import Member
from simulations.scaling.routing import picked
from simulations.workloads.arrivals import Arrivals

# So many other pods a request is offered to when its model's own has too many.
_TRIED = 8


class RoutingName(StrEnum):
    """random: any pod that is healthy, as kube-proxy has it. by-model: one pod for a model, and
    when that one has too many requests in flight another, the same one as long as no pod comes or
    goes; Envoy shuffles them anew for each model, and not by their order in its table."""

    RANDOM = "random"
    BY_MODEL = "by-model"


class Router(Protocol):
    def route(
        self, block: Arrivals, step_s: float, pods: Sequence[Member], inside: Sequence[int]
    ) -> Iterator[tuple[Member, Arrivals]]:
        """Each pod's part of what arrives within a step. pods: that take requests, at least one;
        inside: the requests that each has in flight when the step begins."""


@dataclass(slots=True)
class Random:
    random: np.random.Generator

    def route(
        self, block: Arrivals, step_s: float, pods: Sequence[Member], inside: Sequence[int]
    ) -> Iterator[tuple[Member, Arrivals]]:
        return _split(block, self.random.integers(len(pods), size=len(block)).tolist(), pods)


@dataclass(slots=True)
class ByModel:
    """balance: how much more than the mean of requests in flight one pod may have; 0: no limit.
    service_s: by model, for how long a request that need not wait is in flight."""

    names: Sequence[str]
    service_s: Sequence[float]
    balance: float
    _places: Places = field(default_factory=lambda: Places(()))
    _orders: dict[int, list[int]] = field(default_factory=dict)

    def route(
        self, block: Arrivals, step_s: float, pods: Sequence[Member], inside: Sequence[int]
    ) -> Iterator[tuple[Member, Arrivals]]:
        places = Places.of(pod.place for pod in pods)
        if places != self._places:
            self._places = places
            self._orders.clear()
        numbers = {pod.place: number for number, pod in enumerate(pods)}
        loads, total, chosen = [float(each) for each in inside], float(sum(inside)), []
        for model in block.model.tolist():
            order = self._orders.get(model)
            if order is None:
                order = self._orders[model] = self._order(self.names[model], numbers)
            pod = order[0]
            if self.balance:
                most = max(1, ceil((total + 1) * self.balance / len(pods)))
                pod = next((each for each in order if loads[each] < most), pod)
                serves = pods[pod].serves(self.names[model])
                share = min(1.0, self.service_s[model] / step_s) if serves else 1.0
                loads[pod] += share
                total += share
            chosen.append(pod)
        return _split(block, chosen, pods)

    def _order(self, model: str, numbers: Mapping[str, int]) -> list[int]:
        """The model's own pod, and who gets what is too much for it."""
        home = self._places.first(model)
        assert home is not None, "there is a pod at least"
        shuffled = np.random.default_rng(crc32(model.encode())).permutation(len(numbers))
        return list(dict.fromkeys([numbers[home], *shuffled[:_TRIED].tolist()]))


def _split(
    block: Arrivals, chosen: Sequence[int], pods: Sequence[Member]
) -> Iterator[tuple[Member, Arrivals]]:
    by_pod = np.array(chosen, np.int64)
    order = np.argsort(by_pod, kind="stable")
    found, first = np.unique(by_pod[order], return_index=True)
    for number, part in zip(found.tolist(), np.split(order, first[1:]), strict=True):
        yield pods[number], picked(block, part)
