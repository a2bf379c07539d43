"""One policy on a scenario's traffic and budget, at the scenario's speed.

Owns how a scenario becomes a run: which traffic, which budget, who decides, and whether what came
of it is what was expected. Refuses to know how the two speeds work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from policies.memory import Ledger
from policies.snapshot import Device, Snapshot
from policies.units import Units
from simulations.comparison.figures import figures
from simulations.outcome import Outcome
from simulations.pod.run import simulate
from simulations.pod.spec import PodSpec
from simulations.residency.bound import load_bound
from simulations.residency.named import make
from simulations.residency.replay import replay
from simulations.scenario import Contrast, Expectation, Scenario
from simulations.workloads.arrivals import Workload
from simulations.workloads.catalogue import Catalogue
from simulations.workloads.loading import load
from simulations.workloads.spec import WorkloadSpec

# The bound of each model's first request in every step holds for all requests. The finer the step
# the tighter it is, and the longer it takes.
_BOUND_STEPS_S = (1.0, 10.0, 60.0)
_BOUND_ARRIVALS = 100_000

Half = Literal["first", "second"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One expectation and what came of it."""

    figure: str
    value: float
    expected: Expectation

    @property
    def holds(self) -> bool:
        return self.expected.holds(self.value)


def run(scenario: Scenario, *, keep_stays: bool = False) -> Outcome:
    """What comes of the scenario; the same for the same scenario.

    Raises WorkloadError: traffic that cannot be used.
    """
    workload, catalogue = traffic(scenario)
    budget_bytes = budget(scenario, catalogue)
    if scenario.decider.fast is not None:
        rival = make(scenario.decider.fast, catalogue, workload, budget_bytes)
        return replay(workload, catalogue, budget_bytes, rival, keep_stays=keep_stays)
    pod, policy = scenario.pod or PodSpec(budget_bytes), scenario.decider.policy
    if scenario.budget is not None:
        # Exactly this budget, whatever the policy says of it, so that policies compare.
        said = {"budget": budget_bytes, "headroom": 0, "devices": {}}
        policy = scenario.decider.with_values(said).policy
        pod = replace(pod, device_bytes=max(pod.device_bytes, budget_bytes))
    return simulate(
        workload,
        catalogue,
        policy,
        pod,
        seed=scenario.seed,
        keep_stays=keep_stays,
        name=scenario.decider.label,
    )


def traffic(scenario: Scenario) -> tuple[Workload, Catalogue]:
    """The scenario's traffic and models; files are read once for several runs on them."""
    said = scenario.workload.model_dump_json(by_alias=True)
    workload, catalogue = _traffic(said, scenario.base)
    if scenario.window is not None:
        workload = workload.part(*scenario.window)
    return workload, catalogue


def half(scenario: Scenario, which: Half) -> Scenario:
    """The scenario with one half of its traffic, by time; each begins with nothing loaded."""
    workload, _ = traffic(scenario)
    end_s = workload.duration_s
    window = (0.0, end_s / 2) if which == "first" else (end_s / 2, end_s)
    return replace(scenario, name=f"{scenario.name}-{which}-half", window=window)


@lru_cache(maxsize=2)
def _traffic(spec: str, base: Path) -> tuple[Workload, Catalogue]:
    return load(WorkloadSpec.model_validate_json(spec), base)


def total_bytes(catalogue: Catalogue) -> int:
    """The size of all models together."""
    return sum(profile.size_bytes for profile in catalogue.values())


def budget(scenario: Scenario, catalogue: Catalogue) -> int:
    """Bytes that models may take: the scenario's share of them all, or what the policy says."""
    if scenario.budget is not None:
        return round(scenario.budget * total_bytes(catalogue))
    assert scenario.pod is not None, "a scenario without a pod has a budget"
    pod, policy = scenario.pod, scenario.decider.policy
    device = Device(pod.device_id, pod.device_bytes)
    snapshot = Snapshot(pod.epoch_s, devices={device.id: device})
    found = Ledger(policy, snapshot, Units(policy, {})).accounts[device.id].budget
    return found or 0


def bound_s(scenario: Scenario) -> float:
    """The least seconds of loading that any policy needs on the scenario's traffic and budget."""
    workload, catalogue = traffic(scenario)
    together = _together(workload)
    return load_bound(together, catalogue, budget(scenario, catalogue)).load_s


def _together(workload: Workload) -> Workload:
    """The workload by the finest step that leaves few enough arrivals, or by the coarsest."""
    *finer, coarsest = (workload.together(step_s) for step_s in _BOUND_STEPS_S)
    for together in finer:
        if sum(len(run) for run in together.runs()) <= _BOUND_ARRIVALS:
            return together
    return coarsest


def verdicts(scenario: Scenario, outcome: Outcome, bound_s: float | None) -> Sequence[Verdict]:
    """Each of the scenario's expectations, in its order, with what came of it."""
    found = figures(outcome, bound_s)
    return [
        Verdict(figure, found[figure], expected)
        for figure, expected in scenario.expectations.items()
    ]


def contrasted(scenario: Scenario, contrast: Contrast) -> Scenario:
    """The same scenario with the contrast's value for its knob."""
    decider = scenario.decider.with_values({contrast.knob: contrast.value})
    return replace(scenario, decider=decider)
