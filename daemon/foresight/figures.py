"""What is told to Prometheus of asking Prometheus; absent where it is not configured."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from daemon.foresight.answers import WHYS

if TYPE_CHECKING:
    from daemon.foresight.part import Foresight

DESCRIPTIONS = (
    ("remora_prometheus_up", "gauge", "", "1 while Prometheus answers."),
    (
        "remora_prometheus_answer_age_seconds",
        "gauge",
        "",
        "Age of the latest rates; absent before the first.",
    ),
    ("remora_prometheus_models", "gauge", "", "Models whose rate is known of late."),
    ("remora_prometheus_questions_total", "counter", "outcome", "Questions to Prometheus."),
    ("remora_prometheus_dropped_total", "counter", "why", "Series and samples not used."),
)
"""Name, kind, labels and meaning of every metric."""

_TEXTS = {name: text for name, _, _, text in DESCRIPTIONS}
_OUTCOMES = ("answered", "failed")


class Figures(Collector):
    def __init__(self, foresight: "Foresight") -> None:
        self._foresight = foresight

    def collect(self) -> Iterator[Metric]:
        foresight = self._foresight
        yield _gauge("remora_prometheus_up", foresight.problem is None)
        if (age_s := foresight.age_s()) is not None:
            yield _gauge("remora_prometheus_answer_age_seconds", age_s)
        yield _gauge("remora_prometheus_models", len(foresight.rates()))
        outcomes = {outcome: foresight.counted[outcome] for outcome in _OUTCOMES}
        yield _counter("remora_prometheus_questions_total", "outcome", outcomes)
        dropped = {why: foresight.dropped[why] for why in WHYS}
        yield _counter("remora_prometheus_dropped_total", "why", dropped)


def _gauge(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, _TEXTS[name], value)


def _counter(name: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, _TEXTS[name], labels=(label,))
    for value, number in counts.items():
        family.add_metric((value,), number)
    return family
