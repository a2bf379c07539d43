"""What a metric says of a pod: unknown is absent, idle is 0, and models are picked by name."""

import math
from collections.abc import Mapping

import pytest

from daemon.fleet.metricsapi.metrics import METRICS, is_value, milli
from daemon.fleet.metricsapi.selectors import parse
from daemon.fleet.samples import Key, ModelSignal, Samples, Signals
from tests.daemon.fleet.metricsapi.serving_pods import pod, samples_of, signals

KEY: Key = ("models", "a")


def value(metric: str, told: Signals | None, selector: str = "") -> float | None:
    samples = samples_of({"a": told})
    return METRICS[metric].reading(parse(selector))(samples, KEY)


def models(**loads: float) -> Mapping[str, ModelSignal]:
    return {
        name: ModelSignal(resident=True, load=load, absence_s=1) for name, load in loads.items()
    }


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_not_known_has_no_value(metric: str) -> None:
    assert value(metric, None) is None
    assert value(metric, signals(None, reachable=False)) is None


@pytest.mark.parametrize(
    "metric", ["remora_load_compute", "remora_load_device", "remora_load_memory"]
)
def test_an_idle_pod_is_zero_and_an_unknown_part_is_absent(metric: str) -> None:
    part = metric.removeprefix("remora_load_")
    assert value(metric, signals(0.5, **{part: 0.0})) == 0.0
    assert value(metric, signals(0.5, **{part: None})) is None


def test_the_load_is_the_steadied_one() -> None:
    samples = samples_of({"a": signals(0.5)})
    samples.serve({KEY: 0.75})
    assert METRICS["remora_load"].reading(parse(""))(samples, KEY) == 0.75


def test_models_are_summed_or_picked() -> None:
    told = signals(0.5, models=models(resnet=0.2, bert=0.3, gpt=0.0))
    assert value("remora_model_load", told) == pytest.approx(0.5)
    assert value("remora_model_load", told, "model=resnet") == 0.2
    assert value("remora_model_load", told, "model in (resnet,bert)") == pytest.approx(0.5)
    assert value("remora_model_load", told, "model!=resnet") == pytest.approx(0.3)
    assert value("remora_model_load", told, "model") == pytest.approx(0.5)
    assert value("remora_model_load", told, "model=resnet,model!=resnet") == 0.0
    assert value("remora_model_load", told, "!model") == 0.0


def test_a_model_that_nobody_asks_for_is_idle_and_not_unknown() -> None:
    assert value("remora_model_load", signals(0.5, models=models(bert=0.3)), "model=resnet") == 0.0
    assert value("remora_model_load", signals(None, models=models(bert=0.3))) is None


@pytest.mark.parametrize("odd", [math.nan, math.inf, -0.1, 1e13, None])
def test_what_is_no_amount_of_pods_is_no_value(odd: float | None) -> None:
    assert not is_value(odd)
    assert is_value(0.0)


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        (0.0, "0m"),
        (0.6, "600m"),
        (0.07, "70m"),
        (1.0, "1000m"),
        (2.0004, "2000m"),
        (1e12, "1" + "0" * 15 + "m"),
    ],
)
def test_a_quantity_is_whole_thousandths(amount: float, written: str) -> None:
    assert milli(amount) == written


def test_a_factor_is_never_summed() -> None:
    assert METRICS["remora_queue_boost"].together([1.0, 1.5, 1.2]) == 1.5
    assert METRICS["remora_load"].together([1.0, 1.5, 1.2]) == pytest.approx(3.7)


def test_a_pod_that_leaves_has_no_value() -> None:
    samples = samples_of({"a": signals(0.5)})
    samples.put_pod(pod("a", is_leaving=True))
    assert isinstance(samples, Samples)
    assert METRICS["remora_load"].reading(parse(""))(samples, KEY) is None
