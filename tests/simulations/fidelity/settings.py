"""Settings small enough to be worked out by hand."""

from collections.abc import Sequence

from simulations.fidelity.calibration import Calibration
from simulations.fidelity.setting import Setting
from simulations.testbed.repository import ModelSpec
from simulations.testbed.traffic import Arrival
from simulations.workloads.catalogue import Profile

MIB = 2**20
GIB = 2**30


def spec(name: str, *, load_s: float = 0.8) -> ModelSpec:
    return ModelSpec(name, 60, load_s=load_s, compute_ms=4)


def setting(asks: Sequence[tuple[float, str]], names: str, seconds: float) -> Setting:
    arrivals = tuple(Arrival(at_s, name, "http") for at_s, name in asks)
    return Setting(tuple(spec(name) for name in names), arrivals, seconds, seed=1)


def calibration(names: str, *, load_s: float = 2.0, unload_s: float = 1.25) -> Calibration:
    profile = Profile(
        80 * MIB, load_s, unload_s=unload_s, service_s=0.02, max_batch=8, batch_share=0.0
    )
    return Calibration(
        dict.fromkeys(names, profile), request_s=0.003, look_s=0.006, unload_jitter=0.0
    )
