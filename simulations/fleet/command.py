"""What `remora fleet-simulate` does.

Owns its output. Returns its exit status, and raises one of ``ERRORS``, whose text is for the
person who asked, where it cannot do what was asked.
"""

from collections.abc import Sequence
from pathlib import Path

from simulations import contested, sweep
from simulations.fleet import table
from simulations.fleet.contest import contestants, contests
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
    as_markdown = table.markdown if markdown else None
    return contested.report(found, table.tables, as_markdown, width=table.WIDTH, json_out=json_out)
