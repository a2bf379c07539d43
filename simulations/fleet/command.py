"""What `remora fleet-simulate` does.

Owns its output. Returns its exit status, and raises one of ``ERRORS``, whose text is for the
person who asked, where it cannot do what was asked.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from simulations import sweep
from simulations.fleet import table
from simulations.fleet.contest import as_json, contestants, contests
from simulations.fleet.scenario import load
from simulations.reading import ScenarioError
from simulations.workloads.arrivals import WorkloadError

ERRORS = (ScenarioError, WorkloadError, OSError)

SHIPPED = Path(__file__).resolve().parents[1] / "scenarios" / "fleet"


def fleet_simulate(
    paths: Sequence[Path],
    *,
    compete: str = "",
    json_out: Path | None = None,
    markdown: bool = False,
    workers: int | None = None,
) -> int:
    """Lets contestants compete on each scenario, by default all that come with this package, and
    prints a table for each, or one in Markdown for all; 1 when an expectation does not hold.

    compete: contestants' names between commas; all by default.
    """
    scenarios = [load(path) for path in paths or sorted(SHIPPED.glob("*.yaml"))]
    chosen = contestants(compete)
    with sweep.local(workers) as engine:
        found = contests(scenarios, chosen, engine)
    if json_out is not None:
        json_out.write_text(as_json(found), "utf-8")
    if markdown:
        print(table.markdown(found), end="")
    else:
        console = Console()
        console.width = max(console.width, table.WIDTH)
        for contest in found:
            console.print(contest.scenario.about, markup=False, highlight=False)
            console.print(table.for_terminal(contest))
            if (expected := table.expectations(contest)) is not None:
                console.print(expected)
    return 0 if all(contest.holds for contest in found) else 1
