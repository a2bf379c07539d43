"""One writer among replicas, as a timeline: each replica has a clock of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from daemon.fleet.cluster import Cluster
from daemon.fleet.lease import Lease
from tests.daemon.fleet.apiserver import FakeApiServer

PATH = "/apis/coordination.k8s.io/v1/namespaces/remora/leases/remora-fleet"


@dataclass
class Time:
    """A monotonic clock: those of two machines have nothing to do with each other."""

    now_s: float


@dataclass
class Replica:
    lease: Lease
    cluster: Cluster
    time: Time

    @property
    def writes(self) -> bool:
        return self.lease.is_held()


def replica(server: FakeApiServer, name: str, now_s: float) -> Replica:
    cluster, time = server.cluster(), Time(now_s)
    lease = Lease(cluster, "remora", "remora-fleet", name, 15.0, lambda: time.now_s)
    return Replica(lease, cluster, time)


@asynccontextmanager
async def replicas(server: FakeApiServer, *names: str) -> AsyncIterator[list[Replica]]:
    found = [replica(server, name, 1000.0 * number) for number, name in enumerate(names, 1)]
    try:
        yield found
    finally:
        for each in found:
            await each.cluster.close()


def pass_s(seconds: float, *them: Replica) -> None:
    for each in them:
        each.time.now_s += seconds


async def test_the_first_takes_it_and_the_second_waits() -> None:
    async with FakeApiServer() as server, replicas(server, "one", "two") as (one, two):
        await one.lease.attempt()
        await two.lease.attempt()
        assert (one.writes, two.writes) == (True, False)
        spec = server.objects[PATH]["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("one", 15)
        assert spec["leaseTransitions"] == 0


async def test_a_lease_that_is_renewed_is_never_taken() -> None:
    async with FakeApiServer() as server, replicas(server, "one", "two") as (one, two):
        for _ in range(20):
            await one.lease.attempt()
            await two.lease.attempt()
            assert (one.writes, two.writes) == (True, False)
            pass_s(2.0, one, two)
        assert server.objects[PATH]["spec"]["leaseTransitions"] == 0


async def test_a_holder_that_died_is_succeeded_when_its_lease_stood_still_for_long() -> None:
    async with FakeApiServer() as server, replicas(server, "one", "two") as (one, two):
        await one.lease.attempt()
        await two.lease.attempt()
        pass_s(14.9, two)
        await two.lease.attempt()
        assert not two.writes
        pass_s(0.2, two)
        await two.lease.attempt()
        assert two.writes
        assert server.objects[PATH]["spec"]["leaseTransitions"] == 1


async def test_one_that_comes_late_waits_the_whole_duration_whatever_the_lease_says() -> None:
    async with FakeApiServer() as server, replicas(server, "one", "two") as (one, two):
        await one.lease.attempt()
        # Its renewal lies years back by the wall clock of two: that alone says nothing.
        server.objects[PATH]["spec"]["renewTime"] = "2001-01-01T00:00:00.000000Z"
        await two.lease.attempt()
        assert not two.writes


async def test_a_holder_cut_off_stops_before_another_can_begin() -> None:
    async with FakeApiServer() as server, replicas(server, "one", "two") as (one, two):
        await one.lease.attempt()
        await two.lease.attempt()
        both = []
        for _ in range(20):
            pass_s(1.0, one, two)
            server.refuses = [503]
            await one.lease.attempt()
            await two.lease.attempt()
            both.append((one.writes, two.writes))
        assert (True, True) not in both
        assert both[8] == (True, False)
        assert both[10] == (False, False)
        assert both[15] == (False, True)


async def test_the_one_cut_off_does_not_take_it_back() -> None:
    async with FakeApiServer() as server, replicas(server, "one", "two") as (one, two):
        await one.lease.attempt()
        await two.lease.attempt()
        pass_s(15.0, one, two)
        await two.lease.attempt()
        await one.lease.attempt()
        assert (one.writes, two.writes) == (False, True)


async def test_a_lease_that_is_released_is_taken_at_once() -> None:
    async with FakeApiServer() as server, replicas(server, "one", "two") as (one, two):
        await one.lease.attempt()
        await two.lease.attempt()
        await one.lease.release()
        assert not one.writes
        await two.lease.attempt()
        assert two.writes


async def test_releasing_what_another_holds_by_now_changes_nothing() -> None:
    async with FakeApiServer() as server, replicas(server, "one") as (one,):
        await one.lease.attempt()
        server.objects[PATH]["spec"]["holderIdentity"] = "two"
        await one.lease.release()
        assert server.objects[PATH]["spec"]["holderIdentity"] == "two"


async def test_of_two_that_find_it_free_one_takes_it() -> None:
    async with FakeApiServer() as server, replicas(server, "one", "two") as (one, two):
        await one.lease.attempt()
        await one.lease.release()
        # Both have read the same version before either writes.
        await asyncio.gather(one.lease.attempt(), two.lease.attempt())
        assert one.writes != two.writes


async def test_an_api_server_that_fails_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeApiServer() as server, replicas(server, "one") as (one,):
        server.refuses = [500, 500, 500]
        for _ in range(4):
            await one.lease.attempt()
        assert one.writes
        assert sum("cannot renew or read the Lease, trying" in m for m in caplog.messages) == 1


async def test_a_call_that_hangs_does_not_outlast_what_is_believed() -> None:
    async with FakeApiServer() as server:
        cluster = server.cluster()
        lease = Lease(cluster, "remora", "remora-fleet", "one", 0.3)
        await lease.attempt()
        assert lease.is_held()
        server.is_hanging = True
        await asyncio.wait_for(lease.attempt(), 5)
        await asyncio.sleep(0.2)
        assert not lease.is_held()
        await cluster.close()
