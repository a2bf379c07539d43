"""A control plane for this folder too, and the overlays as kustomize makes them."""

from __future__ import annotations

import pytest

from tests.controlplane.binaries import Binaries, NoControlPlane, find
from tests.manifests.programs import SOURCES, program


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    try:
        for name in SOURCES:
            program(name)
    except NoControlPlane as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    try:
        return find()
    except NoControlPlane as error:
        pytest.skip(f"no control plane: {error}")
