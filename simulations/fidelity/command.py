"""What `remora fidelity` does: measure, play, imagine, compare.

Owns the order of these and the file of raw figures.
"""

import asyncio
import json
import os
from pathlib import Path

import aiohttp

from simulations.demo.stage import DemoError
from simulations.fidelity.calibration import ROUNDS, Calibration, calibrate
from simulations.fidelity.imagined import imagine
from simulations.fidelity.real import play
from simulations.fidelity.record import Record
from simulations.fidelity.setting import Setting, budget_bytes, drawn, policy_text
from simulations.fidelity.table import Comparison, difference, text

# The last is what is left of a conversation with a server that has died.
ERRORS = (DemoError, OSError, aiohttp.ClientError)


def fidelity(
    *, seconds: float, seed: int, directory: Path | None = None, json_out: Path | None = None
) -> None:
    """Plays ``seconds`` of traffic on the real Triton and in the simulator, and prints both.

    directory: where repository, logs and journal stay, by default ./remora-fidelity. json_out:
    for the raw figures. Raises one of ``ERRORS``.
    """
    comparison = compare(drawn(seconds, seed), directory or Path("remora-fidelity"))
    print(text(comparison))
    if json_out is not None:
        json_out.write_text(as_json(comparison), "utf-8")


def compare(setting: Setting, directory: Path, *, rounds: int = ROUNDS) -> Comparison:
    """Measures, plays and imagines ``setting``; rounds: how often each model is measured."""
    print(f"measuring {len(setting.models)} models alone", flush=True)
    measuring = calibrate(_made(directory / "calibration"), setting.models, rounds=rounds)
    calibration = asyncio.run(measuring)
    policy = policy_text(calibration.size_bytes)
    print(f"playing {setting.seconds:g} s on the real Triton", flush=True)
    real = asyncio.run(play(_made(directory / "real"), setting, policy))
    simulated = imagine(setting, policy, calibration, _host_bytes())
    budget = budget_bytes(calibration.size_bytes)
    return Comparison(setting, calibration, budget, real, simulated)


def as_json(comparison: Comparison) -> str:
    """All that the text was made from, and every decision and latency of both runs."""
    real, simulated = comparison.figures()
    setting = comparison.setting
    values = {
        "seconds": setting.seconds,
        "seed": setting.seed,
        "budget_bytes": comparison.budget_bytes,
        "models": _models(comparison.calibration),
        "request_s": comparison.calibration.request_s,
        "look_s": comparison.calibration.look_s,
        "unload_jitter": comparison.calibration.unload_jitter,
        "figures": {
            name: {
                "real": real[name],
                "simulated": simulated[name],
                "difference": difference(real[name], simulated[name]),
            }
            for name in real
        },
        "real": _raw(comparison.real),
        "simulated": _raw(comparison.simulated),
    }
    return json.dumps(values, indent=1, allow_nan=False) + "\n"


def _models(calibration: Calibration) -> dict[str, dict[str, float]]:
    return {
        name: {
            "size_bytes": each.size_bytes,
            "load_s": each.load_s,
            "unload_s": each.unload_s,
            "service_s": each.service_s,
        }
        for name, each in calibration.profiles.items()
    }


def _raw(record: Record) -> dict[str, object]:
    return {
        "events": [[each.at_s, each.action, each.model, each.reason] for each in record.events],
        "latency_s": record.latency_s.tolist(),
        "cold": record.cold.tolist(),
        "memory_s": record.memory_s.tolist(),
        "memory_bytes": record.memory_bytes.tolist(),
        "measured_s": record.measured_s.tolist(),
        "measured_bytes": record.measured_bytes.tolist(),
    }


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _host_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
