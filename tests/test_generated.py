"""What is generated from the code stands in the repository as the code would write it now."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon import dashboards, reference
from daemon.cli import app
from policies import schema

COMPONENTS = Path(__file__).parent.parent / "deploy" / "components"


def test_the_policy_schema_is_up_to_date() -> None:
    assert schema.FILE.read_text("utf-8") == schema.text(), "run: make schema"


def test_the_reference_tables_are_up_to_date() -> None:
    assert reference.FILE.read_text("utf-8") == reference.text(), "run: make docs"


@pytest.mark.parametrize(
    ("component", "command"),
    [("envoy", ("envoy-config", "--fleet-port", "9482")), ("gateway", ("gateway-config",))],
)
def test_the_bootstraps_of_the_manifests_are_up_to_date(
    component: str, command: tuple[str, ...]
) -> None:
    written = CliRunner().invoke(app, command)
    assert written.exit_code == 0, written.output
    path = COMPONENTS / component / "envoy.yaml"
    assert path.read_text("utf-8") == written.stdout, "run: make manifests"


@pytest.mark.parametrize("dashboard", dashboards.DASHBOARDS, ids=lambda each: each.uid)
def test_the_dashboards_are_up_to_date(dashboard: dashboards.Dashboard) -> None:
    written = dashboards.path(dashboard).read_text("utf-8")
    assert written == dashboards.text(dashboard), "run: make manifests"


def test_every_metric_is_on_a_dashboard() -> None:
    shown = {
        name
        for dashboard in dashboards.DASHBOARDS
        for panels in dashboard.rows.values()
        for panel in panels
        for expr in panel.queries.values()
        for name in dashboards.metrics(expr)
    }
    assert shown == {name for name, *_ in dashboards.ALL}


def test_every_knob_has_a_row_and_a_meaning() -> None:
    rows = list(reference.policy_rows())
    assert len(rows) > 30
    assert [key for key, _, allowed, meaning in rows if not (allowed and meaning)] == []
