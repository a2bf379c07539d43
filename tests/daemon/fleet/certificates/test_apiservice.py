"""APIServices: ours are told whom to trust, another's are left alone."""

import pytest

from daemon.fleet.certificates.apiservice import (
    Service,
    TakenByOthers,
    check_claims,
    claims,
    publish_ca_bundle,
)
from daemon.fleet.cluster import ClusterError
from tests.daemon.fleet.metricsapi.serving_apiserver import APISERVICES, running

CUSTOM, EXTERNAL = "custom.metrics.k8s.io", "external.metrics.k8s.io"
OURS = Service("ours", "remora-fleet")
FIRST, SECOND = f"v1beta1.{CUSTOM}", f"v1beta2.{CUSTOM}"


async def test_claims_say_whose_a_group_is() -> None:
    async with running() as (server, cluster):
        server.claim("v1beta2", CUSTOM, "ours/remora-fleet")
        server.claim("v1beta1", CUSTOM, "monitoring/prometheus-adapter")
        server.claim("v1", "apps", None)
        server.claim("v1beta1", EXTERNAL, None)
        told = {claim.name: claim.by for claim in await claims(cluster, (CUSTOM, EXTERNAL))}
    assert told == {
        FIRST: "Service monitoring/prometheus-adapter",
        SECOND: "Service ours/remora-fleet",
        f"v1beta1.{EXTERNAL}": "the API server itself",
    }


async def test_anothers_group_is_refused_by_name() -> None:
    async with running() as (server, cluster):
        assert await check_claims(cluster, OURS, (CUSTOM,)) == ()
        server.claim("v1beta2", CUSTOM, "ours/remora-fleet")
        server.claim("v1beta1", EXTERNAL, "keda/keda-operator-metrics-apiserver")
        assert len(await check_claims(cluster, OURS, (CUSTOM,))) == 1
        with pytest.raises(
            TakenByOthers,
            match=f"v1beta1.{EXTERNAL} by Service keda/keda-operator-metrics-apiserver; remove",
        ):
            await check_claims(cluster, OURS, (CUSTOM, EXTERNAL))


async def test_a_service_of_our_name_elsewhere_is_anothers() -> None:
    async with running() as (server, cluster):
        server.claim("v1beta2", CUSTOM, "elsewhere/remora-fleet")
        with pytest.raises(TakenByOthers):
            await check_claims(cluster, OURS, (CUSTOM,))


async def test_a_bundle_is_written_only_where_it_differs() -> None:
    async with running() as (server, cluster):
        server.claim("v1beta1", CUSTOM, "ours/remora-fleet", b"old")
        server.claim("v1beta2", CUSTOM, "ours/remora-fleet")
        assert await publish_ca_bundle(cluster, OURS, (CUSTOM,), b"old") == (SECOND,)
        assert await publish_ca_bundle(cluster, OURS, (CUSTOM,), b"old+new") == (FIRST, SECOND)
        assert await publish_ca_bundle(cluster, OURS, (CUSTOM,), b"old+new") == ()
        assert server.bundle(FIRST) == server.bundle(SECOND) == b"old+new"
        # Nothing else of it is touched.
        assert server.objects[f"{APISERVICES}/{SECOND}"]["spec"]["service"]["name"] == OURS.name


async def test_nothing_is_written_beside_anothers() -> None:
    async with running() as (server, cluster):
        server.claim("v1beta1", CUSTOM, "monitoring/prometheus-adapter", b"theirs")
        server.claim("v1beta2", CUSTOM, "ours/remora-fleet")
        with pytest.raises(TakenByOthers):
            await publish_ca_bundle(cluster, OURS, (CUSTOM,), b"ours")
        assert server.writes == []


async def test_an_apiservice_that_is_taken_meanwhile_is_not_written() -> None:
    async with running() as (server, cluster):
        server.claim("v1beta2", CUSTOM, "ours/remora-fleet")
        server.meanwhile = lambda: server.claim("v1beta2", CUSTOM, "others/adapter", b"theirs")
        assert await publish_ca_bundle(cluster, OURS, (CUSTOM,), b"ours") == ()
        assert server.bundle(SECOND) == b"theirs"


async def test_a_cluster_that_does_not_answer_is_an_error() -> None:
    async with running() as (server, cluster):
        server.is_down = True
        with pytest.raises(ClusterError):
            await publish_ca_bundle(cluster, OURS, (CUSTOM,), b"ours")
