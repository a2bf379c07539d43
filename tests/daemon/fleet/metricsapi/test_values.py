"""Values of pods and of several: the unknown is left out, a sum is as old as its parts."""

import math

import pytest

from daemon.fleet.metricsapi.metrics import METRICS
from daemon.fleet.metricsapi.selectors import EVERYTHING, parse
from daemon.fleet.metricsapi.values import Values
from daemon.fleet.samples import ModelSignal, Samples
from tests.daemon.fleet.metricsapi.serving_pods import NAMESPACE, pod, samples_of, signals

LOAD, BOOST, MODELS = (METRICS[f"remora_{name}"] for name in ("load", "queue_boost", "model_load"))


def listed(samples: Samples, metric: str = "remora_load") -> dict[str, float]:
    found = Values(samples).of_pods(NAMESPACE, EVERYTHING, METRICS[metric], EVERYTHING)
    return {value.of.name: value.value for value in found}


@pytest.mark.parametrize("odd", [math.nan, math.inf, -1.0])
def test_what_is_no_number_is_left_out_of_a_list(odd: float) -> None:
    samples = samples_of({"a": signals(0.5), "b": signals(odd)})
    assert listed(samples) == {"a": 0.5}
    assert listed(samples, "remora_load_device") == {"a": 0.5}
    assert Values(samples).of_pod(NAMESPACE, "b", LOAD, EVERYTHING) is None


def test_a_pod_with_a_model_whose_load_is_no_number_is_left_out() -> None:
    models = {"odd": ModelSignal(True, math.nan, 3), "bert": ModelSignal(True, 0.5, 3)}
    samples = samples_of({"a": signals(0.5, models=models)})
    assert listed(samples, "remora_model_load") == {}
    assert Values(samples).external(NAMESPACE, MODELS, EVERYTHING) == []


def test_a_sum_is_as_old_as_its_oldest_part() -> None:
    now_s = 100.0
    samples = Samples(30.0, monotonic_s=lambda: 0.0, wall_s=lambda: now_s)
    for name in ("a", "b", "c"):
        samples.put_pod(pod(name))
        samples.put_signals(pod(name), signals(0.5))
        now_s += 7.0
    samples.serve({(NAMESPACE, name): 0.5 for name in ("a", "b", "c")})
    values = Values(samples)
    whole = values.of_deployment(NAMESPACE, "triton", LOAD, EVERYTHING)
    assert whole is not None
    assert (whole.value, whole.at_s) == (1.5, 100.0)
    (outside,) = values.external(NAMESPACE, LOAD, EVERYTHING)
    assert (outside.value, outside.at_s) == (1.5, 100.0)
    one = values.of_pod(NAMESPACE, "b", LOAD, EVERYTHING)
    assert one is not None
    assert one.at_s == 107.0


def test_an_unknown_pod_is_no_part_of_a_sum_and_none_are_no_sum() -> None:
    values = Values(samples_of({"a": signals(0.5), "b": None}))
    whole = values.of_namespace(NAMESPACE, LOAD, EVERYTHING)
    assert whole is not None
    assert whole.value == 0.5
    silent = Values(samples_of({"a": None, "b": None}))
    assert silent.of_namespace(NAMESPACE, LOAD, EVERYTHING) is None
    assert silent.of_deployment(NAMESPACE, "triton", LOAD, EVERYTHING) is None
    assert silent.external(NAMESPACE, LOAD, EVERYTHING) == []


def test_a_pod_without_a_deployment_is_of_its_namespace_only() -> None:
    samples = samples_of({"a": signals(0.5), "b": signals(0.25)}, pod("b", deployment=None))
    values = Values(samples)
    whole = values.of_namespace(NAMESPACE, LOAD, EVERYTHING)
    assert whole is not None
    assert whole.value == 0.75
    assert [each.value for each in values.external(NAMESPACE, LOAD, EVERYTHING)] == [0.5]


def test_outside_the_models_of_a_deployment_are_told_one_by_one() -> None:
    resnet, bert = ModelSignal(True, 0.25, 3), ModelSignal(False, 0.5, 3)
    samples = samples_of(
        {
            "a": signals(0.5, models={"resnet": resnet, "bert": bert}, queue_boost=1.5),
            "b": signals(0.5, models={"resnet": resnet}),
        }
    )
    values = Values(samples)
    told = [
        (dict(each.labels), each.value) for each in values.external(NAMESPACE, MODELS, EVERYTHING)
    ]
    assert told == [
        ({"deployment": "triton", "model": "bert"}, 0.5),
        ({"deployment": "triton", "model": "resnet"}, 0.5),
    ]
    assert values.external(NAMESPACE, MODELS, parse("model=gpt")) == []
    assert [each.value for each in values.external(NAMESPACE, BOOST, EVERYTHING)] == [1.5]
