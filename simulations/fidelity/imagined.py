"""Plays a setting in the simulated pod.

Owns how the real installation is told to the simulator. Everything told was measured before the
comparison or stands in the installation's own settings.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from policies.actions import Action, Plan
from policies.snapshot import HOST, Snapshot
from policies.source import parse
from simulations.demo.stage import METRICS_INTERVAL_S
from simulations.fidelity.calibration import Calibration
from simulations.fidelity.record import Event, Record, events
from simulations.fidelity.setting import Setting
from simulations.outcome import Outcome, Stay
from simulations.pod.run import simulate
from simulations.pod.spec import PodSpec


def imagine(setting: Setting, policy: str, calibration: Calibration, device_bytes: int) -> Record:
    """What the same arrivals come to under the same policy.

    device_bytes: the host's memory.
    """
    pod = PodSpec(
        device_bytes=device_bytes,
        device_id=HOST,
        gauge_s=METRICS_INTERVAL_S,
        # The catalogue's times are of whole calls.
        load_overhead_s=0.0,
        look_s=calibration.look_s,
        request_s=calibration.request_s,
        unload_jitter=calibration.unload_jitter,
        loads_known=False,
    )
    plans: list[tuple[float, Sequence[Action]]] = []

    def seen(snapshot: Snapshot, decision: Plan) -> None:
        plans.append((snapshot.now_s - pod.epoch_s, decision.actions))

    imagined = simulate(
        setting.workload(),
        calibration.profiles,
        parse(policy, "the policy"),
        pod,
        seed=setting.seed,
        keep_stays=True,
        on_tick=seen,
    )
    return _record(setting, calibration, imagined, tuple(events(plans)))


def _record(
    setting: Setting, calibration: Calibration, outcome: Outcome, decided: tuple[Event, ...]
) -> Record:
    service_s = np.array(
        [calibration.profiles[arrival.model].service_s for arrival in setting.arrivals]
    )
    return Record(
        requests=round(outcome.requests),
        failed=round(outcome.failed),
        latency_s=outcome.wait_s + service_s[outcome.served],
        cold=_cold(setting, outcome.stays, decided)[outcome.served],
        cold_starts=outcome.cold_starts,
        load_s=outcome.load_s,
        events=decided,
        memory_s=outcome.memory_s,
        memory_bytes=outcome.memory_bytes,
    )


def _cold(
    setting: Setting, stays: tuple[Stay, ...], decided: tuple[Event, ...]
) -> NDArray[np.bool_]:
    """Which requests came while their model could not serve: not yet READY, or on its way out."""
    open_s = [(stay.model, stay.ready_s, _closed_s(stay, decided)) for stay in stays]
    return np.array(
        [
            not any(
                model == arrival.model and from_s <= arrival.at_s < to_s
                for model, from_s, to_s in open_s
            )
            for arrival in setting.arrivals
        ],
        np.bool_,
    )


def _closed_s(stay: Stay, decided: tuple[Event, ...]) -> float:
    """When a model was told to leave, which is before it has left."""
    unloads = [
        each.at_s
        for each in decided
        if each.action == "unload"
        and each.model == stay.model
        and stay.ready_s <= each.at_s <= stay.to_s
    ]
    return min(unloads, default=stay.to_s)
