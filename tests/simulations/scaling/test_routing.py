"""Who gets which request."""

from collections import Counter

import numpy as np
import pytest

from policies.policy import Policy
from simulations.pod.spec import PodSpec
from simulations.scaling.replica import Replica
from simulations.scaling.routing import RoutingName, router
from simulations.scaling.traffic import Line, Traffic
from simulations.workloads.arrivals import Arrivals
from simulations.workloads.catalogue import GIB, Profile

NAMES = tuple(f"m{n}" for n in range(6))
CATALOGUE = {name: Profile(GIB, load_s=1.0, service_s=1.0) for name in NAMES}
TRAFFIC = Traffic(Line([(0, 1)]), 100, dict.fromkeys(NAMES, 1.0), CATALOGUE)


def pods(count: int) -> list[Replica]:
    found = []
    for number in range(count):
        pod = Replica(f"pod-{number}", 0, 0.0, TRAFFIC, Policy(), PodSpec(16 * GIB), seed=number)
        pod.run(0.0, resident=NAMES)
        pod.ready_s = 0.0
        found.append(pod)
    return found


def block(*models: int, at_s: float = 1.0) -> Arrivals:
    count = len(models)
    return Arrivals(
        np.full(count, at_s), np.array(models, np.int32), np.ones(count), np.ones(count)
    )


def routed(name: RoutingName, said: Arrivals, ready: list[Replica]) -> list[tuple[str, int]]:
    """The pod and the model of each request; the pods take them."""
    found = []
    for replica, part in router(name, NAMES, seed=1).route(said, ready):
        replica.take(part)
        found += [(replica.name, int(model)) for model in part.model]
    return found


@pytest.mark.parametrize("name", RoutingName)
def test_every_request_goes_to_one_pod(name: RoutingName) -> None:
    said = block(*range(6), *range(6))
    found = routed(name, said, pods(3))
    assert sorted(model for _, model in found) == sorted(said.model.tolist())


def test_round_robin_gives_each_the_same_number() -> None:
    found = Counter(pod for pod, _ in routed(RoutingName.ROUND_ROBIN, block(*[0] * 9), pods(3)))
    assert set(found.values()) == {3}


def test_random_gives_each_about_the_same_number() -> None:
    found = Counter(pod for pod, _ in routed(RoutingName.RANDOM, block(*[0] * 900), pods(3)))
    assert all(250 < count < 350 for count in found.values())


def test_least_requests_avoids_a_pod_that_is_full() -> None:
    ready = pods(3)
    ready[1].take(block(*[0] * 5))
    found = Counter(pod for pod, _ in routed(RoutingName.LEAST_REQUESTS, block(*[1] * 6), ready))
    assert found == {"pod-0": 3, "pod-2": 3}


def test_by_model_each_has_its_pod_and_most_keep_it_when_another_comes() -> None:
    before, after = (
        {model: pod for pod, model in routed(RoutingName.BY_MODEL, block(*range(6)), pods(count))}
        for count in (3, 4)
    )
    assert all(after[model] in (before[model], "pod-3") for model in before)


def test_by_model_a_crowd_for_one_goes_on_to_others() -> None:
    ready = pods(3)
    found = Counter(pod for pod, _ in routed(RoutingName.BY_MODEL, block(*[0] * 30), ready))
    assert len(found) == 3
    # A quarter more than the mean of all, rounded up.
    assert max(found.values()) <= 13
