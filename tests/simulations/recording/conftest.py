"""One Prometheus over a written past, which every test here may ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulations.recording import past
from tests.simulations.recording.prometheus import (
    NoPrometheus,
    Prometheus,
    Tools,
    find,
    write_past,
)


@pytest.fixture(scope="session")
def tools() -> Tools:
    try:
        return find()
    except NoPrometheus as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def written() -> past.Written:
    return past.written()


@pytest.fixture(scope="session")
def prometheus(
    tools: Tools, written: past.Written, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    folder: Path = tmp_path_factory.mktemp("prometheus")
    write_past(tools, folder, written.past)
    with Prometheus(tools, folder) as server:
        server.wait_live()
        yield server
