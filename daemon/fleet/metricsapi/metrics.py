"""What each served metric says of one pod, and of several together.

Owns the names, and the rule that an unknown value is absent while an idle one is 0. Knows
nothing of HTTP, nor of the shape of an answer.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeGuard

from daemon.fleet.metricsapi.selectors import Selector
from daemon.fleet.samples import Key, ModelSignal, Samples, Signals

# The wire carries 64-bit integers; whatever comes near them is no measurement.
_LARGEST = 1e12

MODEL = "model"

Read = Callable[[Samples, Key], float | None]
"""The value of one pod; None is unknown."""


@dataclass(frozen=True, slots=True)
class Metric:
    """``reading``: how it is read where a selector on its labels was given.

    together: the value of several pods that are known.
    labels: what such a selector may ask about.
    """

    name: str
    reading: Callable[[Selector], Read]
    together: Callable[[Iterable[float]], float] = math.fsum
    labels: frozenset[str] = frozenset()


def is_value(value: float | None) -> TypeGuard[float]:
    """Whether it can be served: NaN, or what is no amount of pods, counts as unknown.

    One NaN on the wire would fail the whole list in the HPA's client.
    """
    return value is not None and 0 <= value <= _LARGEST


def milli(value: float) -> str:
    """The quantity in integer milli units: a decimal fraction is never written."""
    return f"{round(value * 1000)}m"


def _signal(read: Callable[[Signals], float | None]) -> Callable[[Selector], Read]:
    def of(samples: Samples, key: Key) -> float | None:
        signals = samples.signals(key)
        return read(signals) if signals else None

    return lambda _: of


def _served(_: Selector) -> Read:
    return Samples.served


def _model_load(selector: Selector) -> Read:
    """The sum over the models that the selector picks.

    A model that a known pod does not name was not asked for of late: that is 0, not unknown.
    """
    if not selector.requirements:
        return Samples.models_load
    load_of = _picking(selector)

    def of(samples: Samples, key: Key) -> float | None:
        signals = samples.signals(key)
        return load_of(signals.models) if signals and signals.load is not None else None

    return of


def _picking(selector: Selector) -> Callable[[Mapping[str, ModelSignal]], float]:
    only = selector.only(MODEL)
    if only is not None:
        # It costs as much as the selector names, and not as many models as there are.
        picked = sorted(name for name in only if selector.matches({MODEL: name}))
        return lambda models: math.fsum(models[name].load for name in picked if name in models)
    verdicts: dict[str, bool] = {}

    def is_picked(name: str) -> bool:
        """Asked of each model once, however many pods have it."""
        verdict = verdicts.get(name)
        if verdict is None:
            verdict = verdicts[name] = selector.matches({MODEL: name})
        return verdict

    return lambda models: math.fsum(model.load for name, model in models.items() if is_picked(name))


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric("remora_load", _served),
            Metric("remora_load_compute", _signal(lambda signals: signals.compute)),
            Metric("remora_load_device", _signal(lambda signals: signals.device)),
            Metric("remora_load_memory", _signal(lambda signals: signals.memory)),
            Metric("remora_model_load", _model_load, labels=frozenset((MODEL,))),
            # A factor: the sum of factors over pods would say nothing.
            Metric("remora_queue_boost", _signal(lambda signals: signals.queue_boost), max),
        )
    }
)
