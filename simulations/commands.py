"""What `remora simulate`, `remora compare` and `remora tune` do.

Owns their output. Each returns its exit status, and raises one of ``ERRORS``, whose text is for
the person who asked, where it cannot do what was asked.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from policies.policy import RankingName
from policies.problems import Problem
from policies.source import PRESETS
from simulations import printed, sweep, trial
from simulations.comparison import table
from simulations.comparison.contest import compare as contest
from simulations.comparison.contest import deciders
from simulations.comparison.results import Comparison
from simulations.decider import named
from simulations.reading import ScenarioError
from simulations.residency.memory import MissingProfile
from simulations.residency.named import POLICIES
from simulations.scenario import Scenario, load
from simulations.workloads.arrivals import WorkloadError

if TYPE_CHECKING:
    from rich.progress import Progress

ERRORS = (ScenarioError, WorkloadError, MissingProfile)

# What a shell gives a command that ctrl-C ended.
_INTERRUPTED = 130


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
        print(printed.as_json(scenario, outcome, bound_s, verdicts))
    else:
        console = Console()
        if scenario.about:
            console.print(scenario.about, markup=False, highlight=False)
        console.print(printed.as_table(scenario, outcome, bound_s))
        if verdicts:
            console.print(printed.as_expectations(verdicts))
        if contrasts and scenario.contrasts:
            console.print(printed.as_contrasts(scenario, outcome))
    return 0 if all(verdict.holds for verdict in verdicts) else 1


def compare(
    paths: Sequence[Path],
    *,
    policies: str = "",
    budgets: str = "10,25,50",
    half: trial.Half | None = None,
    html: Path | None = None,
    json_out: Path | None = None,
    markdown: bool = False,
    workers: int | None = None,
) -> int:
    """Lets policies compete on each scenario, and prints a table or one in Markdown for all.

    policies: names between commas, of rivals, presets or policy files, and ``scenario`` for the
    scenario's own; by default that and all rivals of its speed. budgets: percentages of the size
    of all models together, between commas. half: of the traffic, which everybody begins without
    a memory; all of it by default. html, json_out: files for a report and the figures.
    """
    found = []
    console = _wide()
    _check_writable(html, json_out)
    shares = _shares(budgets)
    names = [name.strip() for name in policies.split(",") if name.strip()]
    with sweep.local(workers) as engine:
        for path in paths:
            scenario = load(path)
            if _is_skipped(scenario):
                continue
            if half is not None:
                scenario = trial.half(scenario, half)
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
    to ``out`` and prints what they do on the second half, beside what others do there.

    on, scheduler: processes of this machine, or the Dask cluster whose scheduler has this
    address. candidates: policies that each of the two searches begins with.

    Interrupted, it writes the best so far, or says that there is none yet, and returns 130.
    """
    from simulations.tuning import judging
    from simulations.tuning import space as spaces
    from simulations.tuning.search import Search, total_runs
    from simulations.tuning.writing import as_table, policy_file, verdict

    _check_writable(out)
    scenario = load(path)
    if _is_skipped(scenario):
        return 0
    console = Console(stderr=True)
    if scenario.decider.is_fast:
        scenario = _faithful(scenario, console)
    searched = spaces.DEFAULT if space is None else spaces.load(space)
    first = trial.half(scenario, "first")
    judged = None
    engines = sweep.dask(scheduler, workers) if on == "dask" else sweep.local(workers)
    with engines as engine, _bar(console) as bar:
        runs = bar.add_task("searching", total=None)
        search = Search(first, searched, engine, lambda: bar.advance(runs))
        # Here and not around the engine, whose end would wait for all runs that are still to come.
        try:
            total = total_runs(candidates) + judging.total_runs(scenario.decider)
            bar.update(runs, total=total)
            search.tune(candidates, seed)
            total = search.runs + judging.total_runs(scenario.decider)
            bar.update(runs, description="judging", total=total)
            judged = judging.judge(scenario, search.best, engine, lambda: bar.advance(runs))
        except KeyboardInterrupt:
            bar.update(runs, description="interrupted")
    if judged is None and not search.share:
        _say(console, f"interrupted in the first round: nothing was found, {out} is not written")
        return _INTERRUPTED
    out.write_text(policy_file(scenario, search, judged, seed), "utf-8")
    if judged is None:
        _say(console, f"interrupted after {search.runs} runs: {out} is the best so far, not judged")
        return _INTERRUPTED
    screen = _wide()
    screen.print(as_table(searched, judged))
    for line in verdict(searched, judged):
        _say(screen, line)
    print(f"policy: {out}")
    return 0


def _faithful(scenario: Scenario, console: Console) -> Scenario:
    """The scenario with the default policy, for a residency policy has no values to search."""
    default = PRESETS[0]
    slower = "a scenario of the fast speed is tuned at the faithful one, which is slower"
    _say(console, f"{scenario.name}: {slower}, from the preset {default} on")
    place = (scenario.name, None)
    return replace(scenario, decider=named(default, "faithful", scenario.base, place))


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _bar(console: Console) -> "Progress":
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    return Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        # A log has no use for a bar.
        disable=not console.is_terminal,
    )


def _wide() -> Console:
    """As wide as tables of figures are: cut figures would be wrong ones."""
    console = Console()
    console.width = max(console.width, table.WIDTH)
    return console


def _check_writable(*files: Path | None) -> None:
    """Raises ScenarioError for a file that could not be written, before anything has run."""
    for file in filter(None, files):
        folder = file.parent
        fits = not file.is_dir() and folder.is_dir() and os.access(folder, os.W_OK)
        if not fits:
            allowed = "a file in a folder that is there and may be written to"
            raise ScenarioError([Problem(str(file), None, "(file)", "cannot be written", allowed)])


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
    others = list(POLICIES) if scenario.decider.is_fast else [each.value for each in RankingName]
    return ["scenario", *(name for name in others if name != scenario.decider.label)]


def _write_reports(found: Sequence[Comparison], html: Path) -> None:
    """One page; for several scenarios one each, with the scenario's name in the page's."""
    from simulations.comparison.report import html as page

    for comparison in found:
        path = html if len(found) == 1 else html.with_stem(f"{html.stem}-{comparison.scenario}")
        path.write_text(page(comparison), "utf-8")
        print(f"report: {path}")


def _all_as_json(found: Sequence[Comparison]) -> str:
    if len(found) == 1:
        return found[0].as_json()
    return json.dumps([each.as_values() for each in found], indent=2, allow_nan=False) + "\n"
