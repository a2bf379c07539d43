"""Files that change under a simulated pod's models."""

import pytest

from simulations.outcome import Outcome
from simulations.pod.run import simulate
from simulations.pod.spec import FilesChange, PodSpec
from tests.simulations.pod.worlds import GIB, exact, policy, profile, workload

ASKS = [(5.5 + 0.5 * n, "a") for n in range(200)]


def played(budget_gib: float, *changes: FilesChange) -> Outcome:
    """A model of 3 GiB that loads in two seconds, asked for twice a second for 100 s."""
    pod: PodSpec = exact(changes=changes)
    wishes = policy(budget_gib, versions={"settle": "5s"})
    return simulate(workload(ASKS, ["a"], 120), {"a": profile(3)}, wishes, pod)


def test_nobody_waits_for_a_copy_that_comes_beside() -> None:
    out = played(8, FilesChange(40.2, "a"))
    assert out.notes["load: updated, beside"] == 1
    assert (out.cold_starts, out.loads, out.failed) == (1, 2, 0)
    assert out.memory_bytes.max() == 6 * GIB


def test_what_comes_during_a_swap_waits_for_it() -> None:
    out = played(4, FilesChange(40.2, "a"))
    assert (out.notes["unload: updated"], out.notes["load: updated"]) == (1, 1)
    assert (out.cold_starts, out.loads, out.failed) == (2, 2, 0)
    assert out.memory_bytes.max() == 3 * GIB


def test_upload_that_takes_a_while_is_waited_for() -> None:
    out = played(8, FilesChange(40.2, "a", over_s=20))
    assert (out.loads, out.failed) == (2, 0)
    assert out.notes.get("load failed: initialisation", 0) == 0


def test_broken_version_is_rolled_back_after_a_swap_and_left_alone() -> None:
    out = played(4, FilesChange(40.2, "a", broken=True))
    assert out.notes["load: rolled_back"] == 1
    assert out.notes["load failed: initialisation"] == 1
    assert (out.loads, out.failed) == (3, 0)


def test_mended_version_follows_a_broken_one() -> None:
    out = played(4, FilesChange(40.2, "a", broken=True), FilesChange(70.2, "a"))
    assert out.notes["unload: updated"] == 2
    assert (out.loads, out.failed) == (4, 0)


@pytest.mark.parametrize("budget_gib", [4, 8])
def test_without_rolling_in_nothing_happens(budget_gib: float) -> None:
    pod = exact(changes=(FilesChange(40.2, "a"),))
    wishes = policy(budget_gib, versions={"roll_in": False})
    out = simulate(workload(ASKS, ["a"], 120), {"a": profile(3)}, wishes, pod)
    assert (out.loads, out.cold_starts) == (1, 1)
