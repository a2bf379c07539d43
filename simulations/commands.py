"""What `remora simulate`, `remora compare` and `remora tune` do.

Owns their output. Each returns its exit status, and raises one of ``ERRORS``, whose text is for
the person who asked, where it cannot do what was asked.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from policies.policy import RankingName
from policies.source import Problem
from simulations import sweep, trial
from simulations.comparison import table
from simulations.comparison.contest import compare as contest
from simulations.comparison.contest import deciders
from simulations.comparison.figures import figures
from simulations.comparison.results import Comparison
from simulations.outcome import Outcome
from simulations.reading import ScenarioError
from simulations.residency.memory import MissingProfile
from simulations.residency.named import POLICIES
from simulations.scenario import Scenario, load
from simulations.workloads.arrivals import WorkloadError

ERRORS = (ScenarioError, WorkloadError, MissingProfile)


def simulate(path: Path, *, as_json: bool = False, contrasts: bool = False) -> int:
    """Runs the scenario, prints what came of it and which expectations hold; 1 when one does not.

    contrasts: also what the other values of knobs do that the scenario names.
    """
    scenario = load(path)
    if _is_skipped(scenario):
        return 0
    outcome = trial.run(scenario)
    bound_s = trial.bound_s(scenario) if scenario.needs_bound else None
    verdicts = trial.verdicts(scenario, outcome, bound_s)
    if as_json:
        print(_as_json(scenario, outcome, bound_s, verdicts))
    else:
        console = Console()
        if scenario.about:
            print(scenario.about)
        console.print(_figures(scenario, outcome, bound_s))
        if verdicts:
            console.print(_expectations(verdicts))
        if contrasts and scenario.contrasts:
            console.print(_contrasts(scenario, outcome))
    return 0 if all(verdict.holds for verdict in verdicts) else 1


def compare(
    paths: Sequence[Path],
    *,
    policies: str = "",
    budgets: str = "10,25,50",
    html: Path | None = None,
    json_out: Path | None = None,
    markdown: bool = False,
    workers: int | None = None,
) -> int:
    """Lets policies compete on each scenario, and prints a table or one in Markdown for all.

    policies: names between commas, of rivals, presets or policy files, and ``scenario`` for the
    scenario's own; by default that and all rivals of its speed. budgets: percentages of the size
    of all models together, between commas. html, json_out: files for a report and the figures.
    """
    found = []
    console = Console()
    console.width = max(console.width, table.WIDTH)
    shares = _shares(budgets)
    names = [name.strip() for name in policies.split(",") if name.strip()]
    with sweep.local(workers) as engine:
        for path in paths:
            scenario = load(path)
            if _is_skipped(scenario):
                continue
            chosen = deciders(scenario, names or _all(scenario))
            found.append(contest(scenario, chosen, shares, engine, keep_stays=html is not None))
            if not markdown:
                console.print(table.for_terminal(found[-1]))
    if markdown:
        print(table.markdown(found), end="")
    if json_out is not None:
        json_out.write_text(_all_as_json(found), "utf-8")
    if html is not None:
        _write_reports(found, html)
    return 0


def tune(
    path: Path,
    out: Path,
    *,
    on: sweep.On = "local",
    scheduler: str | None = None,
    space: Path | None = None,
    candidates: int = 32,
    seed: int = 0,
    workers: int | None = None,
) -> int:
    """Searches the policy's values on the first half of the scenario's traffic, writes the best
    to ``out`` and prints what they do on the second half.

    on, scheduler: processes of this machine, or the Dask cluster whose scheduler has this
    address. candidates: policies that each of the two searches begins with.
    """
    from rich.progress import Progress

    from simulations.tuning import space as spaces
    from simulations.tuning.search import Search, total_runs
    from simulations.tuning.writing import as_table, policy_file

    scenario = load(path)
    if _is_skipped(scenario):
        return 0
    if scenario.decider.is_fast:
        allowed = "speed: faithful, for a residency policy has no values to search"
        raise ScenarioError([Problem(str(path), None, "speed", "fast", allowed)])
    searched = spaces.DEFAULT if space is None else spaces.load(space)
    console = Console(stderr=True)
    engines = sweep.dask(scheduler, workers) if on == "dask" else sweep.local(workers)
    with engines as engine, Progress(console=console) as progress:
        bar = progress.add_task("runs", total=total_runs(candidates))
        search = Search(scenario, searched, engine, lambda: progress.advance(bar))
        tuned = search.tune(candidates, seed)
        progress.update(bar, total=tuned.runs)
    out.write_text(policy_file(scenario, searched, tuned, seed), "utf-8")
    Console().print(as_table(searched, tuned))
    print(f"policy: {out}")
    return 0


def _is_skipped(scenario: Scenario) -> bool:
    if scenario.is_absent:
        print(f"{scenario.name}: skipped: {scenario.skip_without} is not on this machine")
    return scenario.is_absent


def _shares(budgets: str) -> list[float]:
    shares = []
    for text in budgets.split(","):
        try:
            share = float(text) / 100
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            allowed = "percentages above 0 up to 100 between commas, as 10,25,50"
            raise ScenarioError([Problem("budgets", None, text.strip(), "no budget", allowed)])
        shares.append(share)
    return list(dict.fromkeys(shares))


def _all(scenario: Scenario) -> Sequence[str]:
    others = list(POLICIES) if scenario.decider.is_fast else list(RankingName)
    return ["scenario", *(name for name in others if name != scenario.decider.label)]


def _write_reports(found: Sequence[Comparison], html: Path) -> None:
    """One page; for several scenarios one each, with the scenario's name in the page's."""
    from simulations.comparison.report import html as page

    for comparison in found:
        path = html if len(found) == 1 else html.with_stem(f"{html.stem}-{comparison.scenario}")
        path.write_text(page(comparison), "utf-8")
        print(f"report: {path}")


# --- what is printed -----------------------------------------------------------------------------


def _figures(scenario: Scenario, outcome: Outcome, bound_s: float | None) -> Table:
    found = Table(title=f"{scenario.name}: {outcome.policy}", title_justify="left")
    found.add_column("figure")
    found.add_column("value", justify="right")
    for name, value in figures(outcome, bound_s).items():
        found.add_row(name, table.number(value))
    return found


def _expectations(verdicts: Sequence[trial.Verdict]) -> Table:
    found = Table(title="expectations", title_justify="left")
    for title in ("", "figure", "value", "expected", "why"):
        found.add_column(title, justify="right" if title == "value" else "left")
    for verdict in verdicts:
        found.add_row(
            "[green]holds[/]" if verdict.holds else "[red]FAILS[/]",
            verdict.figure,
            table.number(verdict.value),
            str(verdict.expected),
            verdict.expected.why,
        )
    return found


def _contrasts(scenario: Scenario, outcome: Outcome) -> Table:
    found = Table(title="with other values of its knobs", title_justify="left")
    for title in ("knob", "value", "figure", "here", "with it", "why"):
        found.add_column(title, justify="right" if title in ("here", "with it") else "left")
    here = figures(outcome)
    for contrast in scenario.contrasts:
        other = figures(trial.run(trial.contrasted(scenario, contrast)))
        found.add_row(
            contrast.knob,
            str(contrast.value),
            contrast.figure,
            table.number(here[contrast.figure]),
            table.number(other[contrast.figure]),
            contrast.why,
        )
    return found


def _as_json(
    scenario: Scenario, outcome: Outcome, bound_s: float | None, verdicts: Sequence[trial.Verdict]
) -> str:
    values = {
        "scenario": scenario.name,
        "policy": outcome.policy,
        "budget_bytes": outcome.budget_bytes,
        "figures": figures(outcome, bound_s),
        "notes": dict(outcome.notes),
        "expectations": {verdict.figure: verdict.holds for verdict in verdicts},
    }
    return json.dumps(values, indent=2, allow_nan=False)


def _all_as_json(found: Sequence[Comparison]) -> str:
    if len(found) == 1:
        return found[0].as_json()
    return json.dumps([each.as_values() for each in found], indent=2, allow_nan=False) + "\n"
