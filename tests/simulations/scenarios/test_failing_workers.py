"""What goes wrong in another process is told as if it had gone wrong in this one."""

import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from policies.problems import Problem
from policies.source import PolicyError
from simulations import scenario, sweep, trial
from simulations.reading import ScenarioError
from simulations.residency.memory import MissingProfile
from simulations.workloads.arrivals import WorkloadError
from tests.simulations.scenarios.worlds import SMALL

PROBLEMS = (Problem("a.yaml", 3, "tick", "0", "more"), Problem("a.yaml", None, "pod", "-", "one"))
ABSENT = "workload: {table: {path: nothing.csv}}\nbudget: 0.5\nspeed: fast\n"


@pytest.mark.parametrize(
    "error",
    [
        PolicyError(PROBLEMS),
        ScenarioError(PROBLEMS),
        WorkloadError(Path("a.csv"), 7, "time is 'x'; allowed: seconds"),
        WorkloadError("part", None, "begins after 9 s"),
        MissingProfile("bert"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_out_of_a_pickle_as_it_went_in(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


@pytest.mark.parametrize(
    "engines",
    [partial(sweep.local, 1), partial(sweep.local, 2), partial(sweep.dask, None, 1)],
    ids=["here", "processes", "dask"],
)
def test_a_worker_that_fails_says_what_this_process_would_have_said(
    tmp_path: Path, engines: Callable[[], AbstractContextManager[sweep.Engine]]
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(SMALL.replace("6GiB", "6 apples"))
    with engines() as engine:
        with pytest.raises(WorkloadError) as raised:
            list(engine(trial.run, [scenario.parsed(ABSENT, base=tmp_path)]))
        assert str(raised.value) == (
            f"{tmp_path / 'nothing.csv'}: cannot be read: No such file or directory;"
            " allowed: a readable file"
        )
        with pytest.raises(ScenarioError, match=rf"^{bad}:7: pod\.device: '6 apples'; allowed: "):
            list(engine(scenario.load, [bad]))
