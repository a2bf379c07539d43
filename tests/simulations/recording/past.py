"""A past of two Tritons over 50 hours, scraped every 15 s, of which every request is known.

alpha runs on both; triton-0 restarts at hour 12, and triton-1 joins at hour 10 with 500 requests
that nobody saw. beta is loaded twice on triton-0, hours 3 to 5 and 20 to 22, and counts from
zero each time. gamma is loaded throughout and never asked. Prometheus is away from hour 30 to
30.5, while requests go on.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tests.simulations.recording.prometheus import Past

BEGIN_S = 20_370 * 86_400
SCRAPE_S = 15
STEP_S = 60
HOURS = 50
HOUR_S = 3600
UNSEEN = 500
AWAY_S = (30 * HOUR_S, 30 * HOUR_S + 1800)

SUCCESS, FAILURE = "nv_inference_request_success", "nv_inference_request_failure"


@dataclass
class Written:
    """The samples, and how many requests each model had in each step that can be told apart."""

    samples: dict[str, dict[str, list[tuple[int, float]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    requests: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    away: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def past(self) -> Past:
        return self.samples

    def total(self, model: str) -> int:
        counted = sum(count for (name, _), count in self.requests.items() if name == model)
        return counted + self.away[model]


def written() -> Written:
    random, held = np.random.default_rng(4), Written()
    for instance in ("triton-0", "triton-1"):
        for at_s in _scrapes(instance):
            up = f'job="triton",instance="{instance}"'
            held.samples["up"][up].append((BEGIN_S + at_s, 1))
    for model, metric, instance, rate in (
        ("alpha", SUCCESS, "triton-0", 1.5),
        ("alpha", SUCCESS, "triton-1", 0.4),
        ("beta", SUCCESS, "triton-0", 3.0),
        ("beta", FAILURE, "triton-0", 0.2),
        ("gamma", SUCCESS, "triton-0", 0.0),
    ):
        _write(held, model, metric, instance, rate, random)
    return held


def _scrapes(instance: str) -> Iterator[int]:
    first = 0 if instance == "triton-0" else 10 * HOUR_S
    for at_s in range(first, HOURS * HOUR_S + 1, SCRAPE_S):
        if not AWAY_S[0] <= at_s < AWAY_S[1]:
            yield at_s


def _write(
    held: Written,
    model: str,
    metric: str,
    instance: str,
    rate: float,
    random: np.random.Generator,
) -> None:
    labels = f'job="triton",instance="{instance}",model="{model}",version="1"'
    value, last_s = (UNSEEN if instance == "triton-1" else 7), 0
    loaded = False
    for at_s in _scrapes(instance):
        if model == "beta" and not (3 <= at_s / HOUR_S < 5 or 20 <= at_s / HOUR_S < 22):
            loaded = False
            continue
        if at_s == 12 * HOUR_S and instance == "triton-0":
            loaded = False
        begins = at_s == (0 if instance == "triton-0" else 10 * HOUR_S)
        asked = 0 if begins else int(random.poisson(rate * max(1, (at_s - last_s) // SCRAPE_S)))
        if model == "beta" and not loaded:
            asked = int(random.poisson(rate))
        value = asked if not loaded and not begins else value + asked
        loaded, last_s = True, at_s
        held.samples[metric][labels].append((BEGIN_S + at_s, value))
        if at_s == AWAY_S[1]:
            held.away[model] += asked
        elif asked:
            held.requests[model, (at_s - 1) // STEP_S] += asked
