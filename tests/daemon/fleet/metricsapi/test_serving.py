"""Who gets in at the port. TLS and certificates are real, the API server is a fake."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from daemon.fleet.samples import Samples
from tests.controlplane.authority import Authority
from tests.daemon.fleet.metricsapi.serving_pods import samples_of, signals
from tests.daemon.fleet.metricsapi.serving_port import LOADS, MASTER, PROXY, Port, open_port

HPA = {
    "X-Remote-User": "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    "X-Remote-Group": "system:authenticated",
}


@pytest.fixture
def samples() -> Samples:
    return samples_of({"a": signals(0.6)})


@pytest.fixture
async def port(samples: Samples, tmp_path: Path) -> AsyncIterator[Port]:
    async with open_port(samples, tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    "path", [LOADS, "/apis", "/apis/custom.metrics.k8s.io/v1beta2", "/nowhere"]
)
@pytest.mark.parametrize("headers", [{}, MASTER])
async def test_without_a_certificate_nobody_gets_in(
    port: Port, path: str, headers: dict[str, str]
) -> None:
    answer = await port.get_as(None, path, headers)
    assert answer.is_refusal(401, "Unauthorized")
    assert answer.headers["Connection"] == "close"


async def test_a_certificate_of_another_name_does_not_speak_for_others(port: Port) -> None:
    answer = await port.get_as(port.front_proxy.issue("somebody", groups=["system:masters"]))
    assert answer.is_refusal(401, "Unauthorized")


@pytest.mark.parametrize("name", [PROXY, "front-proxy-ca"])
async def test_a_certificate_of_another_authority_ends_the_handshake(
    port: Port, tmp_path: Path, name: str
) -> None:
    # It may call itself as the right one does.
    other = Authority.create(tmp_path / "other", "front-proxy-ca")
    with pytest.raises(aiohttp.ClientError):
        await port.get_as(other.issue(name))


async def test_a_servers_certificate_is_no_clients(port: Port) -> None:
    with pytest.raises(aiohttp.ClientError):
        await port.get_as(port.front_proxy.issue(PROXY, hosts=[PROXY]))


async def test_the_front_proxy_must_name_a_user(port: Port) -> None:
    answer = await port.get_as(port.proxy, headers={"X-Remote-Group": "system:masters"})
    assert answer.is_refusal(401, "Unauthorized")


async def test_masters_get_in(port: Port) -> None:
    answer = await port.get_as(port.proxy)
    assert answer.status == 200
    assert answer.json["items"][0]["value"] == "600m"
    assert port.api_server.reviews == []


async def test_others_get_in_where_the_cluster_lets_them(port: Port) -> None:
    assert (await port.get_as(port.proxy, headers=HPA)).is_refusal(403, "Forbidden")
    port.api_server.allowed.add((HPA["X-Remote-User"], "pods/remora_queue_boost"))
    boosts = LOADS.replace("remora_load", "remora_queue_boost")
    assert (await port.get_as(port.proxy, boosts, HPA)).status == 200
    assert (await port.get_as(port.proxy, headers=HPA)).is_refusal(403, "Forbidden")


async def test_what_is_not_allowed_is_not_told_to_exist(port: Port) -> None:
    unknown = LOADS.replace("remora_load", "no_metric")
    assert (await port.get_as(port.proxy, unknown, HPA)).is_refusal(403, "Forbidden")
    assert (await port.get_as(port.proxy, unknown)).is_refusal(404, "NotFound")


@pytest.mark.parametrize(
    ("path", "attributes"),
    [
        (
            "custom.metrics.k8s.io/v1beta2/namespaces/models/pods/%2A/remora_load",
            {"verb": "get", "resource": "pods", "subresource": "remora_load", "name": "*"},
        ),
        (
            "custom.metrics.k8s.io/v1beta1/namespaces/models/pods/a/remora_load",
            {"verb": "get", "resource": "pods", "subresource": "remora_load", "name": "a"},
        ),
        (
            "custom.metrics.k8s.io/v1beta2/namespaces/models/metrics/remora_load",
            {"verb": "get", "resource": "metrics", "name": "remora_load"},
        ),
        (
            "custom.metrics.k8s.io/v1beta2/namespaces/models/deployments.apps/d/remora_load",
            {
                "verb": "get",
                "resource": "deployments.apps",
                "subresource": "remora_load",
                "name": "d",
            },
        ),
        (
            "external.metrics.k8s.io/v1beta1/namespaces/models/remora_load",
            {"verb": "list", "resource": "remora_load"},
        ),
    ],
)
async def test_the_cluster_is_asked_in_the_words_of_its_own_rules(
    samples: Samples, tmp_path: Path, path: str, attributes: dict[str, str]
) -> None:
    async with open_port(samples, tmp_path, external_metrics=True) as port:
        await port.get("/apis/" + path, HPA)
        group, version = path.split("/")[:2]
        where = {"group": group, "version": version, "namespace": "models"}
        assert [each["resourceAttributes"] for each in port.api_server.reviews] == [
            attributes | where
        ]


async def test_discovery_is_for_whom_the_cluster_knows(port: Port) -> None:
    aggregator = {"X-Remote-User": "system:kube-aggregator"}
    anonymous = {"X-Remote-User": "system:anonymous", "X-Remote-Group": "system:unauthenticated"}
    path = "/apis/custom.metrics.k8s.io/v1beta2"
    assert (await port.get_as(port.proxy, path, aggregator)).status == 200
    assert (await port.get_as(port.proxy, path, anonymous)).is_refusal(403, "Forbidden")
    assert (await port.get_as(port.proxy, LOADS, anonymous)).is_refusal(403, "Forbidden")


async def test_while_the_api_server_is_down_it_is_unavailable_and_not_open(port: Port) -> None:
    port.api_server.is_down = True
    answer = await port.get_as(port.proxy, headers=HPA)
    assert answer.is_refusal(503, "ServiceUnavailable")
    assert answer.headers["Retry-After"] == "5"
    assert answer.json["details"] == {"retryAfterSeconds": 5}


async def test_health_is_told_to_everybody(port: Port) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        answer = await port.get_as(None, path, {})
        assert (answer.status, answer.body) == (200, b"ok")
