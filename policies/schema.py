"""Writes the JSON schema of a policy file: ``python -m policies.schema``."""

import json
from pathlib import Path

from policies.source import schema

FILE = Path(__file__).with_name("policy.schema.json")


def text() -> str:
    """The schema as it should stand in the file."""
    return json.dumps(schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
