"""A real control plane for this folder, where Go or KUBEBUILDER_ASSETS is there to make one."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from tests.controlplane.binaries import Binaries, NoControlPlane, find
from tests.controlplane.cluster import ControlPlane, reachable_address

SKIPPED = pytest.StashKey[str]()

Start = Callable[..., ControlPlane]


@pytest.fixture(scope="session")
def binaries(request: pytest.FixtureRequest) -> Binaries:
    try:
        return find()
    except NoControlPlane as error:
        request.config.stash[SKIPPED] = str(error)
        pytest.skip(f"no control plane: {error}")


@pytest.fixture(scope="session")
def address(request: pytest.FixtureRequest) -> str:
    """Where the API server finds what this machine serves."""
    found = reachable_address()
    if found is None:
        request.config.stash[SKIPPED] = why = "this machine has no address but loopback"
        pytest.skip(why)
    return found


@pytest.fixture(scope="module", autouse=True)
def ended_in_order() -> Iterator[None]:
    """Whoever ends pytest with SIGTERM ends the servers too, as after Ctrl-C."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    yield
    signal.signal(signal.SIGTERM, before)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """A line that is there without -rs, for nobody should believe that these tests ran."""
    if why := config.stash.get(SKIPPED, ""):
        terminalreporter.write_line(f"SKIPPED: the tests with a real control plane, for {why}.")
