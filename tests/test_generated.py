"""What is generated from the code stands in the repository as the code would write it now."""

from daemon import reference
from policies import schema


def test_the_policy_schema_is_up_to_date() -> None:
    assert schema.FILE.read_text("utf-8") == schema.text(), "run: make schema"


def test_the_reference_tables_are_up_to_date() -> None:
    assert reference.FILE.read_text("utf-8") == reference.text(), "run: make docs"


def test_every_knob_has_a_row_and_a_meaning() -> None:
    rows = list(reference.policy_rows())
    assert len(rows) > 30
    assert [key for key, _, allowed, meaning in rows if not (allowed and meaning)] == []
