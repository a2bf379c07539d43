"""What values that were found are worth, on traffic that took no part in finding them.

Owns whom they are set beside: the policy as it was, the one that is there without a word, the
other rankings, and the bound. Refuses to know how the values were found.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from policies.policy import RankingName
from policies.source import effective
from simulations import trial
from simulations.decider import Decider
from simulations.scenario import Scenario
from simulations.sweep import Engine
from simulations.tuning.search import Figures, Values, figures_of

TUNED, BEFORE, DEFAULT = "tuned", "as it was", "default"

# What a policy says of the memory and of the models is as true for everybody else.
_FACTS = ("budget", "headroom", "devices", "footprints", "models")


@dataclass(frozen=True, slots=True)
class Judged:
    """first: figures on the half that was searched, of the policy as found and as it was.

    second: figures on the other half, of these and of all others, by name.
    bound_s: the least seconds of loading that any policy needs on that half.
    """

    first: Mapping[str, Figures]
    second: Mapping[str, Figures]
    bound_s: float

    def best_rival(self, cost: Callable[[Figures], float]) -> str:
        """Of the other rankings, the one that costs least."""
        rivals = [name for name in self.second if name not in (TUNED, BEFORE, DEFAULT)]
        return min(rivals, key=lambda name: cost(self.second[name]))


def judge(scenario: Scenario, values: Values, engine: Engine, seen: Callable[[], None]) -> Judged:
    """Runs all of them. seen: called once for each run that is over."""
    first, second = trial.half(scenario, "first"), trial.half(scenario, "second")
    as_found = {TUNED: scenario.decider.with_values(values), BEFORE: scenario.decider}
    everybody = {**as_found, **others(scenario.decider)}
    runs = [replace(first, decider=each) for each in as_found.values()]
    runs += [replace(second, decider=each) for each in everybody.values()]
    bounds = engine(trial.bound_s, [second])
    found = []
    for each in engine(figures_of, runs):
        found.append(each)
        seen()
    searched = len(as_found)
    return Judged(
        dict(zip(as_found, found[:searched], strict=True)),
        dict(zip(everybody, found[searched:], strict=True)),
        next(bounds),
    )


def others(decider: Decider) -> dict[str, Decider]:
    """The default policy, unless the decider's is just that, and one with each other ranking."""
    written = effective(decider.policy)
    facts = {key: written[key] for key in _FACTS}
    default = Decider(DEFAULT).with_values(facts)
    found = {} if default.policy == decider.policy else {DEFAULT: default}
    for name in RankingName:
        if name != decider.policy.ranking:
            found[name.value] = Decider(name.value).with_values({**facts, "ranking": name.value})
    return found


def total_runs(decider: Decider) -> int:
    """How many runs a judgement takes."""
    return 4 + len(others(decider))
