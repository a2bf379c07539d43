"""What `remora scale` does.

Owns its output. Returns its exit status, and raises one of ``ERRORS``, whose text is for the
person who asked, where it cannot do what was asked.
"""

from collections.abc import Sequence
from pathlib import Path

from simulations import contested, sweep
from simulations.reading import ScenarioError
from simulations.scaling import table
from simulations.scaling.contest import competitors, contests
from simulations.scaling.scenario import load

ERRORS = (ScenarioError, OSError)

SHIPPED = Path(__file__).resolve().parents[1] / "scenarios" / "scaling"


def scale(
    paths: Sequence[Path],
    *,
    signals: str = "",
    json_out: Path | None = None,
    markdown: bool = False,
    workers: int | None = None,
) -> int:
    """Lets signals compete on each scenario, by default all that come with this package, and
    prints a table for each, or one in Markdown for all; 1 when an expectation does not hold.

    signals: names between commas, each with a target of its own after an ``@`` if it shall have
    another than by default; all by default. The clairvoyant scaler always runs along.
    """
    scenarios = [load(path) for path in paths or sorted(SHIPPED.glob("*.yaml"))]
    compete = competitors(signals)
    with sweep.local(workers) as engine:
        found = contests(scenarios, compete, engine)
    as_markdown = table.markdown if markdown else None
    return contested.report(found, table.tables, as_markdown, width=table.WIDTH, json_out=json_out)
