"""What is generated from the code stands in the repository as the code would write it now."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon import reference
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


def test_every_knob_has_a_row_and_a_meaning() -> None:
    rows = list(reference.policy_rows())
    assert len(rows) > 30
    assert [key for key, _, allowed, meaning in rows if not (allowed and meaning)] == []
