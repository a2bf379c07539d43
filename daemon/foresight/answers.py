"""What Prometheus answers, as rates and counts of models that there are; the rest is counted.

Owns the suspicion: whatever a query gives, only plausible numbers of models of the repository go
on, and no answer of any size or shape makes an error here.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from policies.seeding import Counts

MOST_SERIES = 100_000
"""Of one answer; no more of them are looked at."""
HIGHEST_RATE = 1e6
"""Requests per second of one model that are believed."""
WHYS = (
    "malformed",
    "no_label",
    "not_a_number",
    "out_of_range",
    "too_many_series",
    "unknown_model",
)


def rates(
    answer: Sequence[Any], label: str, models: Collection[str], dropped: Counter[str]
) -> dict[str, float]:
    """Requests per second by model, to three digits; several series of a model add up."""
    found: dict[str, float] = {}
    for model, series in _known(answer, label, models, dropped):
        rate = _sample(series.get("value"), dropped)
        if rate is not None:
            found[model] = found.get(model, 0.0) + rate[1]
    return {model: float(f"{min(rate, HIGHEST_RATE):.3g}") for model, rate in sorted(found.items())}


def counts(
    answer: Sequence[Any],
    label: str,
    models: Collection[str],
    asked: range,
    dropped: Counter[str],
) -> Counts:
    """Requests by model and step, from rates that each speak of the step that ends there.

    asked: when the steps end.
    """
    names = sorted(models)
    place = {name: index for index, name in enumerate(names)}
    found: dict[tuple[int, float], float] = {}
    for model, series in _known(answer, label, models, dropped):
        samples = series.get("values")
        if not isinstance(samples, list):
            dropped["malformed"] += 1
            continue
        for each in samples:
            sample = _sample(each, dropped)
            if sample is not None and sample[0] not in asked:
                dropped["out_of_range"] += 1
            elif sample is not None and sample[1] > 0:
                key = place[model], sample[0]
                found[key] = found.get(key, 0.0) + sample[1]
    size = len(found)
    at_s = np.fromiter((at_s for _, at_s in found), np.float64, size)
    rate = np.minimum(np.fromiter(found.values(), np.float64, size), HIGHEST_RATE)
    return Counts(
        names=names,
        model=np.fromiter((row for row, _ in found), np.intp, size),
        from_s=at_s - asked.step,
        length_s=np.full(size, float(asked.step)),
        requests=rate * asked.step,
    )


def _known(
    answer: Sequence[Any], label: str, models: Collection[str], dropped: Counter[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The series of models that there are."""
    if len(answer) > MOST_SERIES:
        dropped["too_many_series"] += len(answer) - MOST_SERIES
    for series in answer[:MOST_SERIES]:
        labels = series.get("metric") if isinstance(series, dict) else None
        if not isinstance(labels, dict):
            dropped["malformed"] += 1
            continue
        model = labels.get(label)
        if not isinstance(model, str) or not model:
            dropped["no_label"] += 1
        elif model not in models:
            dropped["unknown_model"] += 1
        else:
            yield model, series


def _sample(sample: Any, dropped: Counter[str]) -> tuple[float, float] | None:
    """When, in seconds, and requests per second; None, counted, for what cannot be."""
    try:
        at_s, value = sample
        at_s, value = float(at_s), float(value)
    except (TypeError, ValueError, OverflowError):
        dropped["malformed"] += 1
        return None
    if math.isnan(value) or not math.isfinite(at_s):
        dropped["not_a_number"] += 1
        return None
    if not 0 <= value <= HIGHEST_RATE:
        dropped["out_of_range"] += 1
        return None
    return at_s, value
