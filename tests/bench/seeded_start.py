"""What it is worth to a new pod to be told the past: cold seconds on the second halves of traces.

Run: python -m tests.bench.seeded_start

Residency alone, as `remora compare` has it at `speed: fast`, with production's ranking and
prewarms. Everybody begins the second half with nothing loaded. Who has learned nothing is what
docs/policies.md shows; who was told has the first half by counts of a minute for its last day and
of five minutes before that, as the sidecar asks Prometheus; who saw it has met every request. In
these scenarios an arrival stands for all requests of its minute, and counts as one here too.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from policies import forecast
from policies.history import ModelHistory
from policies.policy import Policy
from policies.seeding import Counts, remembered
from simulations import scenario, trial
from simulations.residency.lives import Lives
from simulations.residency.memory import Sizes
from simulations.residency.remora import Remora
from simulations.residency.replay import replay
from simulations.workloads.arrivals import Workload, joined

FOLDER = Path(__file__).resolve().parents[2] / "simulations" / "scenarios"
TRACES = ("azure500", "azure697", "servegen")
SHARES = (0.1, 0.25, 0.5)
SPANS_H = (1.0, 6.0)
DAY_S = 86_400.0


def counted(first: Workload) -> Counts:
    """The first half as Prometheus would tell it."""
    every = joined(list(first.runs()))
    fine = every.time_s >= first.duration_s - DAY_S
    pieces = []
    for which, step_s in ((fine, 60.0), (~fine, 300.0)):
        # Steps are told from the end, as a sidecar asks.
        back = np.floor((first.duration_s - every.time_s[which]) / step_s)
        keys = np.stack([every.model[which].astype(float), back])
        found, at = np.unique(keys, axis=1, return_inverse=True)
        requests = np.bincount(at.ravel(), minlength=found.shape[1]).astype(float)
        # The second half begins at nought.
        pieces.append(
            (found[0], -(found[1] + 1) * step_s, np.full(len(requests), step_s), requests)
        )
    model, from_s, length_s, requests = (np.concatenate(rows) for rows in zip(*pieces, strict=True))
    return Counts(first.names, model.astype(np.intp), from_s, length_s, requests)


def seen(first: Workload) -> Lives:
    lives = Lives(len(first.names))
    every = joined(list(first.runs()))
    lives.begin(every.model, every.time_s)
    lives.several(every.model, every.time_s)
    lives._catch_up()
    lives._make_room()
    for times in (lives.used_s, lives._visited_s, lives._watch._used_s, lives._watch._visited_s):
        times -= first.duration_s
    lives._pooled_s = -np.inf
    return lives


def told(first: Workload) -> Lives:
    lives = Lives(len(first.names))
    pasts: Mapping[str, ModelHistory] = remembered(Policy(), counted(first))
    for row, name in enumerate(first.names):
        if (past := pasts.get(name)) is None:
            continue
        lives._reached[row], lives._ended[row] = past.spells.rows
        lives._rates[row] = past.visit_rates
        lives.used_s[row] = lives._watch._used_s[row] = past.last_use_s
        lives._visited_s[row] = lives._watch._visited_s[row] = past.visited_at_s
    models = len(first.names)
    lives._turn[:models] = forecast.turn(lives._reached[:models], lives._ended[:models])
    return lives


def main() -> None:
    print("| trace | memory | hours | nothing learned | told | seen |")
    print("| --- | --: | --: | --: | --: | --: |")
    for trace in TRACES:
        whole = scenario.load(FOLDER / f"{trace}.yaml")
        first, catalogue = trial.traffic(trial.half(whole, "first"))
        second, _ = trial.traffic(trial.half(whole, "second"))
        for share in SHARES:
            budget_bytes = round(share * trial.total_bytes(catalogue))
            for hours in SPANS_H:
                until_s = min(hours * 3600, second.duration_s)
                span = second.part(0.0, until_s)
                cold = []
                for lives in (None, told(first), seen(first)):
                    policy = Remora(Sizes.of(span.names, catalogue))
                    if lives is not None:
                        policy._lives = lives
                    outcome = replay(span, catalogue, budget_bytes, policy)
                    cold.append((outcome.visible_cold_s, outcome.load_s))
                row = " | ".join(f"{seconds:,.0f} ({load_s:,.0f})" for seconds, load_s in cold)
                print(f"| {trace} | {share:.0%} | {until_s / 3600:.3g} | {row} |", flush=True)


if __name__ == "__main__":
    main()
