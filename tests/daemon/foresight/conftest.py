"""A real Prometheus for all tests here that need one."""

import pytest

from tests.simulations.recording.prometheus import NoPrometheus, Tools, find


@pytest.fixture(scope="session")
def tools() -> Tools:
    try:
        return find()
    except NoPrometheus as error:
        pytest.skip(str(error))
