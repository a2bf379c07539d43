"""The metrics APIs as the HPA's client sees them, over TLS."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daemon.fleet.samples import ModelSignal, Samples
from tests.daemon.fleet.metricsapi.serving_pods import pod, samples_of, signals
from tests.daemon.fleet.metricsapi.serving_port import MASTER, Port, open_port

CUSTOM = "/apis/custom.metrics.k8s.io"
EXTERNAL = "/apis/external.metrics.k8s.io"
PODS = CUSTOM + "/v1beta2/namespaces/models/pods"
LOADS = PODS + "/%2A/remora_load"
AT = "2025-11-24T16:00:00Z"


@pytest.fixture
def samples() -> Samples:
    """a and b are known, c has not answered; d is of another Deployment."""
    resnet, bert = ModelSignal(True, 0.25, 3), ModelSignal(False, 0.5, 3)
    return samples_of(
        {
            "a": signals(0.6, queue_boost=1.25, models={"resnet": resnet, "bert": bert}),
            "b": signals(0.0, models={"resnet": resnet}),
            "c": None,
            "d": signals(1.5, models={"bert": bert}),
        },
        pod("d", labels={"app": "other"}, deployment="other"),
        pod("e", phase="Failed"),
        pod("f", namespace="elsewhere"),
    )


@pytest.fixture
async def port(samples: Samples, tmp_path: Path) -> AsyncIterator[Port]:
    async with open_port(samples, tmp_path, external_metrics=True) as opened:
        yield opened


async def items(port: Port, path: str) -> dict[str, str]:
    """Values by name of what they are of."""
    answer = await port.get(path)
    assert answer.status == 200, answer.body
    return {each["describedObject"]["name"]: each["value"] for each in answer.json["items"]}


async def test_a_list_of_the_newer_version_byte_by_byte(port: Port) -> None:
    answer = await port.get(LOADS + "?labelSelector=app%3Dtriton")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.body.decode() == (
        '{"kind":"MetricValueList","apiVersion":"custom.metrics.k8s.io/v1beta2","metadata":{},'
        '"items":[{"describedObject":{"kind":"Pod","namespace":"models","name":"a",'
        '"apiVersion":"/v1"},"metric":{"name":"remora_load","selector":null},'
        f'"timestamp":"{AT}","windowSeconds":0,"value":"600m"}},'
        '{"describedObject":{"kind":"Pod","namespace":"models","name":"b","apiVersion":"/v1"},'
        '"metric":{"name":"remora_load","selector":null},'
        f'"timestamp":"{AT}","windowSeconds":0,"value":"0m"}}]}}'
    )


async def test_a_list_of_the_older_version_byte_by_byte(port: Port) -> None:
    path = CUSTOM + "/v1beta1/namespaces/models/pods/*/remora_model_load"
    answer = await port.get(path + "?labelSelector=app!%3Dtriton&metricLabelSelector=model%3Dbert")
    assert answer.body.decode() == (
        '{"kind":"MetricValueList","apiVersion":"custom.metrics.k8s.io/v1beta1","metadata":{},'
        '"items":[{"describedObject":{"kind":"Pod","namespace":"models","name":"d",'
        '"apiVersion":"/v1"},"metricName":"remora_model_load",'
        f'"timestamp":"{AT}","window":0,"value":"500m",'
        '"selector":{"matchLabels":{"model":"bert"}}}]}'
    )


async def test_an_external_list_byte_by_byte(port: Port) -> None:
    path = EXTERNAL + "/v1beta1/namespaces/models/remora_model_load"
    answer = await port.get(path + "?labelSelector=deployment%3Dtriton,model%3Dresnet")
    assert answer.body.decode() == (
        '{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1",'
        '"metadata":{},"items":[{"metricName":"remora_model_load",'
        '"metricLabels":{"deployment":"triton","model":"resnet"},'
        f'"timestamp":"{AT}","value":"500m"}}]}}'
    )


async def test_pods_that_are_unknown_or_over_are_left_out(port: Port) -> None:
    assert await items(port, LOADS) == {"a": "600m", "b": "0m", "d": "1500m"}
    assert await items(port, LOADS + "?labelSelector=app%20notin%20(triton)") == {"d": "1500m"}
    assert await items(port, LOADS.replace("models", "elsewhere")) == {}
    assert await items(port, LOADS.replace("models", "nowhere")) == {}


async def test_models_are_picked_by_the_metrics_own_selector(port: Port) -> None:
    path = PODS + "/*/remora_model_load"
    assert await items(port, path) == {"a": "750m", "b": "250m", "d": "500m"}
    picked = path + "?metricLabelSelector=model%20in%20(bert)"
    assert await items(port, picked) == {"a": "500m", "b": "0m", "d": "500m"}


async def test_one_pod_is_asked_for_by_name(port: Port) -> None:
    assert await items(port, PODS + "/a/remora_queue_boost") == {"a": "1250m"}
    # The selector of labels is for lists.
    assert await items(port, PODS + "/a/remora_load?labelSelector=app%3Dother") == {"a": "600m"}


async def test_a_deployment_and_a_namespace_are_sums(port: Port) -> None:
    inside = CUSTOM + "/v1beta2/namespaces/models"
    answer = await port.get(inside + "/deployments.apps/triton/remora_load")
    assert answer.json["items"] == [
        {
            "describedObject": {
                "kind": "Deployment",
                "namespace": "models",
                "name": "triton",
                "apiVersion": "apps/v1",
            },
            "metric": {"name": "remora_load", "selector": None},
            "timestamp": AT,
            "windowSeconds": 0,
            "value": "600m",
        }
    ]
    answer = await port.get(inside + "/metrics/remora_load")
    (item,) = answer.json["items"]
    assert item["describedObject"] == {"kind": "Namespace", "name": "models", "apiVersion": "/v1"}
    assert item["value"] == "2100m"
    # Factors are not summed.
    answer = await port.get(inside + "/metrics/remora_queue_boost")
    assert answer.json["items"][0]["value"] == "1250m"


async def test_external_values_are_by_deployment(port: Port) -> None:
    path = EXTERNAL + "/v1beta1/namespaces/models"
    answer = await port.get(path + "/remora_load")
    assert [(each["metricLabels"], each["value"]) for each in answer.json["items"]] == [
        ({"deployment": "other"}, "1500m"),
        ({"deployment": "triton"}, "600m"),
    ]
    answer = await port.get(path + "/remora_model_load?labelSelector=model%3Dbert")
    assert [each["metricLabels"]["deployment"] for each in answer.json["items"]] == [
        "other",
        "triton",
    ]


@pytest.mark.parametrize(
    ("path", "message", "details"),
    [
        (
            PODS + "/*/queue_time",
            "no metric 'queue_time'; there are: remora_load, ",
            {"name": "queue_time"},
        ),
        (
            PODS + "/c/remora_load",
            "remora_load of pods 'c' is not known",
            {"name": "c", "kind": "pods"},
        ),
        (
            PODS + "/e/remora_load",
            "remora_load of pods 'e' is not known",
            {"name": "e", "kind": "pods"},
        ),
        (
            CUSTOM + "/v1beta1/namespaces/models/deployments.apps/none/remora_load",
            "remora_load of deployments.apps 'none' is not known",
            {"name": "none", "kind": "deployments.apps"},
        ),
        (
            CUSTOM + "/v1beta1/namespaces/elsewhere/metrics/remora_load",
            "remora_load of metrics 'elsewhere' is not known",
            {"name": "elsewhere", "kind": "metrics"},
        ),
        (PODS, "nothing is served at " + PODS, None),
        ("/openapi/v2", "nothing is served at /openapi/v2", None),
        (CUSTOM + "/v1", "nothing is served at", None),
    ],
)
async def test_what_is_not_there_is_not_found(
    port: Port, path: str, message: str, details: dict[str, str] | None
) -> None:
    answer = await port.get(path)
    assert answer.status == 404
    assert answer.json["message"].startswith(message)
    assert answer.json.get("details") == details
    assert {
        key: answer.json[key] for key in ("kind", "apiVersion", "status", "reason", "code")
    } == {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "NotFound",
        "code": 404,
    }


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("labelSelector=a%3D%3D%3Db", "labelSelector: selector 'a===b': found '='; allowed: "),
        ("metricLabelSelector=a,", "metricLabelSelector: selector 'a,': found its end; allowed: "),
        ("metricLabelSelector=model%3Da", "remora_load has no label 'model'; allowed: none"),
    ],
)
async def test_a_wrong_selector_is_a_bad_request(port: Port, query: str, message: str) -> None:
    answer = await port.get(f"{LOADS}?{query}")
    assert (answer.status, answer.json["reason"]) == (400, "BadRequest")
    assert answer.json["message"].startswith(message)


async def test_nothing_can_be_written(port: Port) -> None:
    answer = await port.get(LOADS, method="POST")
    assert (answer.status, answer.json["reason"]) == (405, "MethodNotAllowed")
    assert answer.headers["Allow"] == "GET, HEAD"


async def test_discovery_tells_groups_and_resources(port: Port) -> None:
    newer, older = (
        {"groupVersion": f"custom.metrics.k8s.io/{version}", "version": version}
        for version in ("v1beta2", "v1beta1")
    )
    group = {
        "name": "custom.metrics.k8s.io",
        "versions": [newer, older],
        "preferredVersion": newer,
    }
    answer = await port.get(CUSTOM)
    assert answer.json == {"kind": "APIGroup", "apiVersion": "v1", **group}
    answer = await port.get("/apis")
    assert answer.json["kind"] == "APIGroupList"
    assert answer.json["groups"][0] == group
    assert answer.json["groups"][1]["name"] == "external.metrics.k8s.io"
    for version in ("v1beta1", "v1beta2"):
        answer = await port.get(f"{CUSTOM}/{version}")
        assert answer.json["kind"] == "APIResourceList"
        assert answer.json["groupVersion"] == f"custom.metrics.k8s.io/{version}"
        resources = {each["name"]: each for each in answer.json["resources"]}
        assert resources["pods/remora_load"] == {
            "name": "pods/remora_load",
            "singularName": "",
            "namespaced": True,
            "kind": "MetricValueList",
            "verbs": ["get"],
        }
        assert not resources["namespaces/remora_load"]["namespaced"]
        assert len(resources) == 3 * 6
    answer = await port.get(EXTERNAL + "/v1beta1")
    assert {each["kind"] for each in answer.json["resources"]} == {"ExternalMetricValueList"}


async def test_external_metrics_are_served_only_where_they_are_wanted(
    samples: Samples, tmp_path: Path
) -> None:
    async with open_port(samples, tmp_path) as port:
        assert [each["name"] for each in (await port.get("/apis")).json["groups"]] == [
            "custom.metrics.k8s.io"
        ]
        assert (await port.get(EXTERNAL + "/v1beta1")).status == 404
        values = await port.get(EXTERNAL + "/v1beta1/namespaces/models/remora_load")
        assert values.status == 404


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/vnd.kubernetes.protobuf, */*", 200),
        ("application/json", 200),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", 200),
        ("application/*;q=0.5", 200),
        ("", 200),
        ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", 406),
        ("application/vnd.kubernetes.protobuf", 406),
    ],
)
async def test_only_plain_json_is_served(port: Port, accept: str, status: int) -> None:
    for path in ("/apis", LOADS):
        answer = await port.get(path, MASTER | {"Accept": accept})
        assert answer.status == status
        assert answer.json.get("reason") == ("NotAcceptable" if status == 406 else None)


async def test_a_thousand_pods_are_one_list(tmp_path: Path) -> None:
    names = [f"triton-{number:04d}" for number in range(1000)]
    models: dict[str, Any] = {f"m{number}": ModelSignal(True, 0.01, 1) for number in range(100)}
    samples = samples_of({name: signals(0.5, models=models) for name in names})
    async with open_port(samples, tmp_path) as port:
        answer = await port.get(PODS + "/*/remora_model_load?labelSelector=app%3Dtriton")
    found = json.loads(answer.body)["items"]
    assert [each["describedObject"]["name"] for each in found] == names
    assert {each["value"] for each in found} == {"1000m"}
