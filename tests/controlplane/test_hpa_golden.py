"""The simulated autoscaler agrees with recordings of the real one; no control plane is needed."""

from __future__ import annotations

import json

import pytest

from tests.controlplane import golden
from tests.controlplane.sequences import SCRIPTS

RECORDINGS = sorted(golden.FOLDER.glob("*.json"))


def test_every_script_is_recorded() -> None:
    assert {path.stem for path in RECORDINGS} == {script.name for script in SCRIPTS}


@pytest.mark.parametrize("name", [path.stem for path in RECORDINGS])
def test_every_decision_is_the_recorded_one(name: str) -> None:
    kept = json.loads((golden.FOLDER / f"{name}.json").read_text())
    real = [row["decided"] for row in kept["steps"]]
    assert golden.decided(kept["hpa"], kept["steps"], kept["stabilization_s"]) == real
