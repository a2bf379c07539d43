"""One pod that is stepped from outside is the simulated pod that runs by itself."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.policy import Policy
from simulations.pod.run import simulate
from simulations.pod.spec import PodSpec
from simulations.scaling.replica import Replica
from simulations.scaling.routing import picked
from simulations.scaling.traffic import Line, Traffic
from simulations.workloads.arrivals import Arrivals, Workload
from simulations.workloads.catalogue import GIB, Profile

POLICY = Policy.model_validate({"budget": 4 * GIB})
SPEC = PodSpec(8 * GIB)


def traffic(instances: int = 1, max_batch: int = 1, rate: float = 12.0) -> Traffic:
    catalogue = {
        name: Profile(2 * GIB, load_s=3.0, service_s=0.2, instances=instances, max_batch=max_batch)
        for name in ("a", "b", "c")
    }
    return Traffic(Line([(0, rate)]), 60, dict.fromkeys(catalogue, 1.0), catalogue, 0.3, seed=4)


def stepped(said: Traffic, cuts_s: list[float]) -> Replica:
    """A pod that has been given all arrivals, in parts that end at ``cuts_s``."""
    replica = Replica("a", 0, 0.0, said, POLICY, SPEC, seed=7)
    replica.run(0.0)
    arrivals = said.arrivals()
    bounds = [0, *np.searchsorted(arrivals.time_s, sorted(cuts_s)).tolist(), len(arrivals)]
    for (first, last), cut_s in zip(pairwise(bounds), [*sorted(cuts_s), 60.0], strict=True):
        if first < last:
            replica.take(picked(arrivals, slice(first, last)))
        replica.until(cut_s)
    return replica


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0, 60), max_size=6), st.sampled_from([(1, 1), (3, 1), (1, 4)]))
def test_whoever_steps_it_and_how_often_changes_no_wait(
    cuts_s: list[float], servers: tuple[int, int]
) -> None:
    said = traffic(*servers)
    found = stepped(said, cuts_s).finish(600.0)

    def runs() -> Iterator[Arrivals]:
        yield said.arrivals()

    alone = simulate(Workload(said.names, 60.0, runs), said.catalogue, POLICY, SPEC, seed=7)
    # Those that were turned away at the door got no answer in either.
    assert np.isfinite(found.wait_s).tolist() == alone.served.tolist()
    assert found.wait_s[alone.served].tolist() == pytest.approx(alone.wait_s.tolist())


@pytest.mark.parametrize("instances", [1, 3])
def test_requests_that_are_here_are_those_that_came_and_have_not_ended(instances: int) -> None:
    said, now_s = traffic(instances, rate=30.0), 42.3
    service_s = said.arrivals().service_s
    assert service_s is not None
    replica = Replica("a", 0, 0.0, said, Policy(), SPEC, seed=7)
    replica.run(0.0, resident=("a", "b", "c"))
    arrivals = said.arrivals()
    count = int(np.searchsorted(arrivals.time_s, now_s))
    replica.take(picked(arrivals, slice(0, count)))
    present = replica.present(now_s)
    found = replica.finish(600.0)
    ends_s = found.came_s + found.wait_s + service_s[:count]
    assert present == int((ends_s > now_s).sum()) > 0


def test_its_clock_begins_when_it_runs() -> None:
    said = traffic()
    replica = Replica("a", 0, 100.0, said, POLICY, SPEC, seed=7)
    replica.run(130.0, resident=("a",))
    replica.until(190.0)
    told = replica.pressure()
    assert told.load == 0.0
    replica.take(Arrivals(np.array([190.5]), np.zeros(1, np.int32), np.ones(1), np.array([0.2])))
    found = replica.finish(200.0)
    assert (found.came_s.tolist(), found.wait_s.tolist()) == ([190.5], [0.0])


def test_what_triton_would_have_counted_is_counted() -> None:
    replica = stepped(traffic(rate=6.0), [10.0, 55.0])
    replica.until(80.0)
    counters = replica.counters
    found = replica.finish(600.0)
    served = np.isfinite(found.wait_s)
    assert counters.served == pytest.approx(float(served.sum()))
    assert sum(counters.busy_s.values()) == pytest.approx(counters.compute_s)
    assert counters.compute_s == pytest.approx(0.2 * counters.served, rel=0.1)
