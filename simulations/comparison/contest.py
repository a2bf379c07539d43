"""Lets policies compete on one scenario's traffic and several budgets.

Owns which runs a comparison takes, and puts their outcomes in order. Refuses to know how a run
works (`simulations.trial`) and where it happens (`simulations.sweep`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simulations import trial
from simulations.comparison.results import Budget, Comparison, Entry
from simulations.decider import Decider, Speed, named
from simulations.outcome import Outcome
from simulations.scenario import Scenario
from simulations.sweep import Engine


@dataclass(frozen=True, slots=True)
class _Run:
    """A scenario with the decider and the budget of one run; the bound alone without a decider."""

    scenario: Scenario
    bound_only: bool
    keep_stays: bool


def compare(
    scenario: Scenario,
    deciders: Sequence[Decider],
    shares: Sequence[float],
    engine: Engine,
    *,
    keep_stays: bool = False,
) -> Comparison:
    """Each of ``deciders`` on each of the budgets, which are ``shares`` of all models' size.

    Raises WorkloadError: traffic that cannot be used.
    """
    # Here first, so that what is wrong with the traffic is said once and in this process.
    _, catalogue = trial.traffic(scenario)
    on_budget = [replace(scenario, budget=share) for share in shares]
    bounds = [_Run(each, bound_only=True, keep_stays=False) for each in on_budget]
    runs = [
        _Run(replace(each, decider=decider), bound_only=False, keep_stays=keep_stays)
        for each in on_budget
        for decider in deciders
    ]
    # The bounds take longest, so they begin first.
    found = list(engine(_do, [*bounds, *runs]))
    outcomes = [each for each in found if isinstance(each, Outcome)]
    budgets = tuple(
        Budget(share, trial.budget(each, catalogue), bound_s)
        for share, each, bound_s in zip(shares, on_budget, found, strict=False)
        if isinstance(bound_s, float)
    )
    labels = tuple(decider.label for decider in deciders)
    places = [(budget, label) for budget in budgets for label in labels]
    return Comparison(
        scenario=scenario.name,
        about=scenario.about,
        total_bytes=trial.total_bytes(catalogue),
        budgets=budgets,
        policies=labels,
        entries=tuple(
            Entry(label, budget, outcome)
            for (budget, label), outcome in zip(places, outcomes, strict=True)
        ),
    )


def deciders(scenario: Scenario, names: Sequence[str], base: Path = Path()) -> list[Decider]:
    """Those that ``names`` mean; ``scenario`` means the scenario's own. Paths are under ``base``.

    At the fast speed, product policies still run in a simulated pod, which is slower, and harder
    on them: their loads take time.

    Raises ScenarioError: a name that means nobody.
    """
    speed: Speed = "fast" if scenario.decider.is_fast else "faithful"
    place = (scenario.name, None)
    return [
        scenario.decider if name == "scenario" else named(name, speed, base, place)
        for name in dict.fromkeys(names)
    ]


def _do(task: _Run) -> Outcome | float:
    if task.bound_only:
        return trial.bound_s(task.scenario)
    return trial.run(task.scenario, keep_stays=task.keep_stays)
