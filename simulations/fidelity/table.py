"""A comparison as text: the models as measured, both runs side by side, memory over time.

Owns the columns and how numbers are written. Computes nothing but differences.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simulations.fidelity.calibration import Calibration
from simulations.fidelity.record import Record
from simulations.fidelity.setting import Setting

WITHIN = 0.10
JUDGED = ("cold starts", "latency p95 ms")
ROWS = 20
BAR_WIDTH = 24
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both runs of one setting. budget_bytes: what residents share by the policy."""

    setting: Setting
    calibration: Calibration
    budget_bytes: int
    real: Record
    simulated: Record

    def figures(self) -> tuple[dict[str, float], dict[str, float]]:
        """Real and simulated, with the same names in the same order."""
        seconds = self.setting.seconds
        return self.real.figures(seconds), self.simulated.figures(seconds)


def difference(real: float, simulated: float) -> float | None:
    """How far the simulator is off, as a share of the real figure; None of nothing."""
    if real == simulated:
        return 0.0
    return simulated / real - 1 if real else None


def text(comparison: Comparison) -> str:
    return "\n".join(
        [
            *_models(comparison),
            "",
            *_figures(*comparison.figures()),
            _pace(comparison),
            "",
            *_memory(comparison),
            "",
            verdict(*comparison.figures()),
        ]
    )


def verdict(real: Mapping[str, float], simulated: Mapping[str, float]) -> str:
    """Whether what counts most is within ten percent, in one line."""
    told = []
    for name in JUDGED:
        off = difference(real[name], simulated[name])
        holds = off is not None and abs(off) <= WITHIN
        told.append(f"{name}: {'yes' if holds else 'no'} ({_signed(off)})")
    return f"within {WITHIN:.0%} of the real Triton? {'; '.join(told)}"


def _models(comparison: Comparison) -> list[str]:
    setting, profiles = comparison.setting, comparison.calibration.profiles
    sizes = comparison.calibration.size_bytes
    return [
        f"{len(setting.arrivals)} requests in {setting.seconds:g} s to {len(sizes)} models of "
        f"{_mib(sum(sizes.values()))} MiB, in a budget of {_mib(comparison.budget_bytes)} MiB "
        f"(seed {setting.seed})",
        "",
        "each model alone on the real Triton, before the comparison; the simulator knows this:",
        f"  {'model':<18}{'MiB':>6}{'load s':>9}{'unload s':>10}{'execution ms':>14}",
        *(
            f"  {name:<18}{_mib(each.size_bytes):>6}{each.load_s:>9.2f}{each.unload_s:>10.2f}"
            f"{1000 * each.service_s:>14.1f}"
            for name, each in profiles.items()
        ),
        f"  the way of a request there and back: {1000 * comparison.calibration.request_s:.1f} ms; "
        f"a tick of the sidecar: {1000 * comparison.calibration.look_s:.1f} ms",
    ]


def _figures(real: Mapping[str, float], simulated: Mapping[str, float]) -> list[str]:
    heading = f"  {'':<22}{'real':>10}{'simulated':>12}{'difference':>12}{'ratio':>8}"
    return [heading, *(_row(name, real[name], simulated[name]) for name in real)]


def _row(name: str, real: float, simulated: float) -> str:
    off = difference(real, simulated)
    ratio = "-" if off is None else f"{1 + off:.2f}"
    return (
        f"  {name:<22}{_number(real):>10}{_number(simulated):>12}"
        f"{_number(simulated - real, '+'):>12}{ratio:>8}"
    )


def _pace(comparison: Comparison) -> str:
    """How busy the machine was: nothing else makes a load slower than it was alone."""
    profiles = comparison.calibration.profiles
    told = []
    for record in (comparison.real, comparison.simulated):
        loads = [event.model for event in record.events if event.action == "load"]
        alone_s = sum(profiles[model].load_s for model in loads)
        told.append(f"{record.load_s / alone_s:.2f}" if alone_s else "-")
    return f"  the time of a load, of what it took alone: really {told[0]}, simulated {told[1]}"


def _memory(comparison: Comparison) -> list[str]:
    """What was promised to models at even times, and what their processes really took."""
    real, simulated = comparison.real, comparison.simulated
    at_s = np.linspace(0, comparison.setting.seconds, ROWS + 1)
    columns = zip(
        at_s,
        real.memory_at(at_s),
        simulated.memory_at(at_s),
        real.measured_at(at_s),
        strict=True,
    )
    most = max(comparison.budget_bytes, 1)
    width = BAR_WIDTH + 9
    return [
        "memory promised, MiB, and what the real processes took",
        f"  {'':>6}  {'real':<{width}}{'simulated':<{width}}measured",
        *(
            f"  {each_s:>4.0f} s  {_bar(ours, most)}{_bar(theirs, most)}{_mib(taken):>8}"
            for each_s, ours, theirs, taken in columns
        ),
    ]


def _bar(amount: float, most: float) -> str:
    length = min(BAR_WIDTH, round(BAR_WIDTH * amount / most))
    return f"{_mib(amount):>6} {'█' * length}{'·' * (BAR_WIDTH - length)}  "


def _mib(amount_bytes: float) -> str:
    return f"{amount_bytes / MIB:.0f}"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.0f}" if value == int(value) else f"{value:{sign}.1f}"


def _signed(off: float | None) -> str:
    return "of nothing" if off is None else f"{off:+.1%}"
