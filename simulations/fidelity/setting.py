"""What is played: the models, the traffic over them, and the policy that decides.

Owns the choice, which was made in the simulator and is the same for every seed. Four models in
twelve are busy and take nearly all requests, and every minute one of them gives way to another; the
rest are asked for now and then. The budget holds three fifths of all. So most of what happens is
the work of production: rare models come and go beside busy ones that stay. A budget so tight that
the busy ones push each other out answers a small difference with a wholly different course: at four
times the rate and half the memory, p95 was 14 % off.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import yaml

from simulations.testbed.protocols import Protocol
from simulations.testbed.repository import ModelSpec, demo_models
from simulations.testbed.traffic import Arrival, shifting_hot_set
from simulations.workloads.arrivals import Arrivals, Workload

RATE_PER_S = 5.0
HOT_COUNT = 4
HOT_SHARE = 0.93
SHIFT_EVERY_S = 60.0
BUDGET_SHARE = 0.6
# Both go through Envoy straight to Triton, which is what `PodSpec.through_envoy` is about.
PROTOCOLS: Sequence[Protocol] = ("http", "grpc")

# Minutes stand for hours, so what the policy remembers is shortened likewise.
_POLICY = {
    "preset": "latency-first",
    "tick": "500ms",
    "horizon": "60s",
    "demand": {"fast": "10s", "slow": "2m"},
    "residency": {"minimum": "3s", "cooldown": "1s", "hysteresis": 0.25},
    # A stub never takes more while it loads than afterwards.
    "loads": {"concurrent": 2, "peak_factor": 1.0},
}


@dataclass(frozen=True, slots=True)
class Setting:
    """models: in the repository. arrivals: in order of time, over ``seconds``."""

    models: tuple[ModelSpec, ...]
    arrivals: tuple[Arrival, ...]
    seconds: float
    seed: int

    def workload(self) -> Workload:
        """The same arrivals, as the simulator takes them."""
        names = tuple(spec.name for spec in self.models)
        number = {name: index for index, name in enumerate(names)}
        time_s = np.array([arrival.at_s for arrival in self.arrivals], np.float64)
        model = np.array([number[arrival.model] for arrival in self.arrivals], np.int32)
        run = Arrivals(time_s, model, np.ones(len(time_s)))
        return Workload(names, self.seconds, lambda: iter([run]))


def models() -> tuple[ModelSpec, ...]:
    """The demo's, each answering a plain request."""
    return tuple(replace(spec, decoupled=False) for spec in demo_models())


def drawn(seconds: float, seed: int, specs: Sequence[ModelSpec] | None = None) -> Setting:
    """Traffic for ``specs``, the demo's by default."""
    chosen = models() if specs is None else tuple(specs)
    hot = shifting_hot_set(
        [spec.name for spec in chosen],
        duration_s=seconds,
        rate_per_s=RATE_PER_S,
        hot_count=min(HOT_COUNT, len(chosen)),
        hot_share=HOT_SHARE,
        shift_every_s=SHIFT_EVERY_S,
        seed=seed,
    )
    chance = random.Random(seed)
    arrivals = tuple(replace(arrival, protocol=chance.choice(PROTOCOLS)) for arrival in hot)
    return Setting(chosen, arrivals, seconds, seed)


def budget_bytes(size_bytes: Mapping[str, int]) -> int:
    """What the policy lets residents share."""
    return round(BUDGET_SHARE * sum(size_bytes.values()))


def policy_text(size_bytes: Mapping[str, int]) -> str:
    """The policy as a file, with a budget of a part of all and the sizes declared.

    Declared, since what the sidecar would measure of this machine's memory while it is busy is
    another question than the one asked here.
    """
    values = {
        **_POLICY,
        "budget": budget_bytes(size_bytes),
        "models": {name: {"footprint": size} for name, size in sorted(size_bytes.items())},
    }
    return yaml.safe_dump(values, sort_keys=False)
