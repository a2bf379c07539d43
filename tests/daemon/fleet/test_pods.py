"""The watch of pods, against a fake API server on a real port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from daemon.fleet.pods import Watching, pod_from
from daemon.fleet.samples import Samples
from daemon.fleet.telemetry import Telemetry
from tests.daemon.fleet.apiserver import FakeApiServer, pod
from tests.daemon.fleet.waiting import eventually


@asynccontextmanager
async def watching(
    server: FakeApiServer, selector: str = "remora.dev/sidecar=true", namespace: str = ""
) -> AsyncIterator[Samples]:
    samples = Samples(30.0)
    cluster = server.cluster()
    watch = Watching(cluster, samples, Telemetry(samples), selector, namespace, 0.05, 1)
    task = asyncio.create_task(watch.run())
    try:
        await asyncio.wait_for(watch.listed.wait(), 10)
        await eventually(lambda: server.watches == 1)
        yield samples
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await cluster.close()


def names(samples: Samples, namespace: str = "default") -> list[str]:
    return [each.name for each in samples.pods(namespace)]


async def test_pods_are_listed_page_by_page() -> None:
    async with FakeApiServer() as server:
        for number in range(250):
            server.put(pod(f"p{number:03}"))
        async with watching(server) as samples:
            assert len(samples.pods("default")) == 250
        lists = [each for each in server.requests if "limit=100" in each]
        assert len(lists) == 3


async def test_the_watch_follows_what_happens() -> None:
    async with FakeApiServer() as server:
        server.put(pod("a"))
        server.put(pod("stranger", labels={"remora.dev/sidecar": "false"}))
        async with watching(server) as samples:
            assert names(samples) == ["a"]
            server.put(pod("b", ip=None, phase="Pending"))
            await eventually(lambda: names(samples) == ["a", "b"])
            server.put(pod("b", ip="127.0.0.2"))
            await eventually(lambda: samples.pods("default")[1].ip == "127.0.0.2")
            server.delete("default", "a")
            await eventually(lambda: names(samples) == ["b"])


async def test_a_pod_with_a_deletion_timestamp_is_dropped_at_once() -> None:
    async with FakeApiServer() as server:
        server.put(pod("a"))
        async with watching(server) as samples:
            server.put(pod("a", deletionTimestamp="2026-01-01T00:00:00Z"))
            await eventually(lambda: names(samples) == [])


async def test_a_watch_that_ends_is_resumed_where_it_ended() -> None:
    async with FakeApiServer() as server:
        server.put(pod("a"))
        async with watching(server) as samples:
            server.end_watches()
            await eventually(lambda: server.watches == 0)
            server.put(pod("b"))
            await eventually(lambda: names(samples) == ["a", "b"])
        lists = [each for each in server.requests if "limit=" in each]
        assert len(lists) == 1


async def test_a_place_that_the_server_forgot_is_listed_anew() -> None:
    async with FakeApiServer() as server:
        server.put(pod("a"))
        server.put(pod("b"))
        async with watching(server) as samples:
            server.end_watches()
            await eventually(lambda: server.watches == 0)
            server.delete("default", "a")
            server.compact()
            await eventually(lambda: names(samples) == ["b"])


async def test_an_error_event_of_a_lost_place_is_listed_anew() -> None:
    async with FakeApiServer() as server:
        server.put(pod("a"))
        async with watching(server) as samples:
            server.objects.clear()
            error = {"metadata": {"labels": {"remora.dev/sidecar": "true"}}, "code": 410}
            server.version += 1
            server.history.append((server.version, "ERROR", error))
            server._changed.set()
            await eventually(lambda: names(samples) == [])


async def test_a_bookmark_moves_the_place_to_resume_from() -> None:
    async with FakeApiServer() as server:
        server.put(pod("a"))
        async with watching(server) as samples:
            mark: dict[str, Any] = {"metadata": {"labels": {"remora.dev/sidecar": "true"}}}
            server.version = 5000
            mark["metadata"]["resourceVersion"] = "5000"
            server.history.append((5000, "BOOKMARK", mark))
            server._changed.set()
            await asyncio.sleep(0.1)
            server.end_watches()
            await eventually(lambda: "resourceVersion=5000" in server.requests[-1])
            assert names(samples) == ["a"]


async def test_a_failing_server_is_said_once_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeApiServer() as server:
        server.put(pod("a"))
        server.refuses = [500, 500]
        async with watching(server) as samples:
            assert names(samples) == ["a"]
        said = [each.message for each in caplog.records if "cannot watch pods" in each.message]
        assert said[0].endswith("/api/v1/pods: 500 told to answer 500")
        assert sum("trying on" in each for each in said) == 1


async def test_a_place_where_nothing_can_be_read_is_left_for_a_new_list() -> None:
    async with FakeApiServer() as server:
        server.put(pod("a"))
        async with watching(server) as samples:
            # Refused again and again from here on, as a line longer than can be read would be.
            server.is_refusing_watches = True
            server.end_watches()
            server.put(pod("b"))
            await eventually(lambda: names(samples) == ["a", "b"], 30)
        lists = [each for each in server.requests if "limit=" in each]
        assert len(lists) >= 2


async def test_one_namespace_may_be_all_that_is_watched() -> None:
    async with FakeApiServer() as server:
        server.put(pod("a"))
        server.put(pod("b", "other"))
        async with watching(server, namespace="other") as samples:
            assert names(samples, "other") == ["b"]
            assert names(samples) == []


def test_the_port_is_the_annotations_else_the_named_one_else_the_default() -> None:
    assert pod_from(pod("a", port=1234)).port == 1234
    named = pod("a")
    ports = [{"name": "http", "containerPort": 1}, {"name": "remora", "containerPort": 7}]
    named["spec"]["initContainers"] = [{"name": "remora", "ports": ports}]
    assert pod_from(named).port == 7
    assert pod_from(pod("a")).port == 9400
    for wrong in ("no", "0", "65536", "-1"):
        assert pod_from(pod("a", annotations={"remora.dev/port": wrong})).port == 9400


def test_the_deployment_is_the_replica_set_without_its_hash() -> None:
    assert pod_from(pod("a", deployment="my-triton")).deployment == "my-triton"
    assert pod_from(pod("a", deployment=None)).deployment is None
    stateful = pod("a", deployment=None)
    owner = {"kind": "StatefulSet", "name": "triton", "controller": True}
    stateful["metadata"]["ownerReferences"] = [owner]
    assert pod_from(stateful).deployment is None
    by_hand = pod("a")
    del by_hand["metadata"]["labels"]["pod-template-hash"]
    assert pod_from(by_hand).deployment is None


def test_a_deletion_cost_is_read_where_it_is_one() -> None:
    key = "controller.kubernetes.io/pod-deletion-cost"
    assert pod_from(pod("a", annotations={key: "200"})).deletion_cost == 200
    assert pod_from(pod("a", annotations={key: "dear"})).deletion_cost is None
    assert pod_from(pod("a")).deletion_cost is None
