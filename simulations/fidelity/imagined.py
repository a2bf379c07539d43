"""Plays a setting in the simulated pod.

Owns how the real installation is told to the simulator. Everything told was measured before the
comparison or stands in the installation's own settings.
"""

import numpy as np
from numpy.typing import NDArray

from policies.actions import Action, Plan
from policies.snapshot import HOST, Snapshot
from policies.source import parse
from simulations.demo.stage import METRICS_INTERVAL_S
from simulations.fidelity.calibration import Calibration
from simulations.fidelity.real import event
from simulations.fidelity.record import Event, Record
from simulations.fidelity.setting import Setting
from simulations.outcome import Outcome, Stay
from simulations.pod.run import simulate
from simulations.pod.spec import PodSpec


class ImaginedError(RuntimeError):
    """The simulated run cannot be compared request by request."""


def imagine(setting: Setting, policy: str, calibration: Calibration, device_bytes: int) -> Record:
    """What the same arrivals come to under the same policy. Raises ImaginedError.

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
    seen = _Seen(pod.epoch_s)
    imagined = simulate(
        setting.workload(),
        calibration.profiles,
        parse(policy, "the policy"),
        pod,
        seed=setting.seed,
        keep_stays=True,
        on_tick=seen,
    )
    if imagined.failed:
        # Which ones is not told, so the latencies of the others are nobody's.
        raise ImaginedError(
            f"{imagined.failed:g} requests failed in the simulator: {_why(imagined)}"
        )
    return _record(setting, calibration, imagined, tuple(seen.events))


def _why(outcome: Outcome) -> str:
    failed = [each for each in outcome.notes if each.startswith("failed: ")]
    return ", ".join(each.removeprefix("failed: ") for each in failed)


class _Seen:
    """Keeps what the plans decided."""

    def __init__(self, epoch_s: float) -> None:
        self.events: list[Event] = []
        self._epoch_s = epoch_s
        self._before: tuple[Action, ...] = ()

    def __call__(self, snapshot: Snapshot, decision: Plan) -> None:
        for action in decision.actions:
            if action not in self._before:
                self.events.append(event(snapshot.now_s - self._epoch_s, action))
        self._before = decision.actions


def _record(
    setting: Setting, calibration: Calibration, outcome: Outcome, events: tuple[Event, ...]
) -> Record:
    service_s = np.array(
        [calibration.profiles[arrival.model].service_s for arrival in setting.arrivals]
    )
    return Record(
        requests=round(outcome.requests),
        failed=round(outcome.failed),
        latency_s=outcome.wait_s + service_s,
        cold=_cold(setting, outcome.stays, events),
        cold_starts=outcome.cold_starts,
        load_s=outcome.load_s,
        events=events,
        memory_s=outcome.memory_s,
        memory_bytes=outcome.memory_bytes,
    )


def _cold(
    setting: Setting, stays: tuple[Stay, ...], events: tuple[Event, ...]
) -> NDArray[np.bool_]:
    """Which requests came while their model could not serve: not yet READY, or on its way out."""
    open_s = [(stay.model, stay.ready_s, _closed_s(stay, events)) for stay in stays]
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


def _closed_s(stay: Stay, events: tuple[Event, ...]) -> float:
    """When a model was told to leave, which is before it has left."""
    unloads = [
        each.at_s
        for each in events
        if each.action == "unload"
        and each.model == stay.model
        and stay.ready_s <= each.at_s <= stay.to_s
    ]
    return min(unloads, default=stay.to_s)
