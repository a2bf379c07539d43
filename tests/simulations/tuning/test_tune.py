"""A search on a scenario small enough to be run a hundred times: the same result wherever its
runs happen, and a policy that can be used."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import yaml
from distributed import LocalCluster

from policies.policy import Policy, RankingName
from policies.source import parse
from simulations import commands, sweep
from simulations.reading import ScenarioError
from simulations.scenario import parsed
from simulations.trial import half
from simulations.tuning import judging
from simulations.tuning.judging import Judged, judge, others
from simulations.tuning.search import Search, total_runs
from simulations.tuning.space import Space

ROOT = Path(__file__).resolve().parents[3]

# Brakes so hard that nearly any other value is better.
BRAKED = """\
# Two models take turns, and a policy that hardly lets them.
workload:
  zipf: {models: 2, rate: 0.5, duration: 6m, exponent: 0, seed: 3}
  catalogue:
    models:
      "*": {size: 4GiB, load: 1s}
pod: {device: 6GiB}
policy:
  budget: 100%
  residency: {minimum: 55s}
"""
SPACE = """\
knobs:
  residency.minimum: {from: 1s, to: 60s, scale: log}
  residency.hysteresis: {from: 0, to: 2}
"""


@pytest.fixture
def braked(tmp_path: Path) -> Path:
    (tmp_path / "braked.yaml").write_text(BRAKED)
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path / "braked.yaml"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as found:
        yield found


def tuned(scenario: Path, name: str, **how: object) -> str:
    out = scenario.with_name(name)
    space = scenario.with_name("space.yaml")
    assert commands.tune(scenario, out, space=space, candidates=8, seed=5, **how) == 0  # type: ignore[arg-type]
    return out.read_text()


def test_what_was_found_is_a_policy_with_how_it_was_found(
    braked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tuned(braked, "tuned.yaml", workers=1)
    policy = parse(text)
    assert policy.budget == 1.0
    assert policy.residency.minimum_s < 55
    assert (
        "# Found by `remora tune` on the first half of the traffic of the scenario braked," in text
    )
    assert "#   residency.minimum" in text
    said = capsys.readouterr().out
    assert "judged on the second" in said
    for line in ("the policy as it was.", "the default policy.", "the best rival, "):
        assert "On the second half it costs " in text
        assert line in text
        assert line in said
    assert "#   bound: load_s " in text
    written = yaml.safe_load(text)
    assert written["budget"] == "100%"


def space_of(knobs: Mapping[str, object], **objective: float) -> Space:
    return Space.model_validate({"knobs": knobs, "objective": objective})


def found(space: Space, candidates: int, seed: int) -> tuple[Search, Judged]:
    scenario = parsed(BRAKED)
    with sweep.local(1) as engine:
        search = Search(half(scenario, "first"), space, engine, lambda: None)
        values = search.tune(candidates, seed)
        assert (search.best, search.share) == (values, 1)
        return search, judge(scenario, values, engine, lambda: None)


def test_what_was_found_is_better_on_the_half_that_was_not_searched_too() -> None:
    knob = {"residency.minimum": {"from": "1s", "to": "60s", "scale": "log"}}
    _, judged = found(space_of(knob, visible_cold_s=1), 8, 5)
    for told in (judged.first, judged.second):
        assert told["tuned"]["visible_cold_s"] < told["as it was"]["visible_cold_s"]


def test_the_halves_share_no_request() -> None:
    search, judged = found(space_of({"tick": {"choices": ["1s"]}}, failed=1), 2, 0)
    whole = sum(len(run) for run in _traffic(BRAKED))
    assert judged.first["tuned"]["requests"] + judged.second["tuned"]["requests"] == whole
    assert search.best == {}


def test_it_is_judged_beside_the_default_every_other_ranking_and_the_bound() -> None:
    space = space_of({"residency.minimum": {"choices": ["5s"]}}, visible_cold_s=1)
    _, judged = found(space, 2, 0)
    assert set(judged.first) == {"tuned", "as it was"}
    rivals = {name.value for name in RankingName} - {"expected-cold"}
    assert set(judged.second) == {"tuned", "as it was", "default", *rivals}
    cost = {name: judged.second[name]["visible_cold_s"] for name in rivals}
    assert cost[judged.best_rival(space.score)] == min(cost.values())
    assert judged.second["tuned"]["visible_cold_s"] < cost["lru"]
    # Two models that do not fit together: at least each has to be loaded once.
    assert judged.bound_s > 2


def test_who_is_judged_has_the_memory_and_the_models_of_the_policy_and_nothing_else() -> None:
    policy = "policy: {budget: 40%, residency: {minimum: 3s}, models: {m: {weight: 3}}}\n"
    text = BRAKED[: BRAKED.index("policy:")] + policy
    beside = others(parsed(text).decider)
    for name in ("default", "lru", "lfu"):
        rival = beside[name].policy
        assert (rival.budget, rival.weight("m")) == (0.4, 3)
        assert rival.residency == Policy().residency
    assert beside["lru"].policy.ranking == "lru"
    # Who is the default is not judged twice.
    assert "default" not in others(parsed(BRAKED.replace("residency", "# ")).decider)


def test_the_policy_as_it_was_stays_where_nothing_is_better(braked: Path) -> None:
    braked.with_name("space.yaml").write_text("knobs: {residency.minimum: {choices: [59s]}}\n")
    text = tuned(braked, "tuned.yaml", workers=1)
    assert "Nothing better was found" in text
    assert parse(text).residency.minimum_s == 55


def test_the_number_of_workers_changes_no_byte(braked: Path) -> None:
    alone = tuned(braked, "alone.yaml", workers=1)
    assert tuned(braked, "together.yaml", workers=2) == alone


def test_a_dask_cluster_finds_the_same(braked: Path, cluster: LocalCluster) -> None:
    alone = tuned(braked, "alone.yaml", workers=1)
    address = cluster.scheduler_address
    assert tuned(braked, "cluster.yaml", on="dask", scheduler=address) == alone


def test_the_number_of_runs_is_known_beforehand() -> None:
    seen: list[int] = []
    scenario = parsed(BRAKED)
    space = space_of({"residency.hysteresis": {"from": 0, "to": 2}}, load_s=1)
    with sweep.local(1) as engine:
        search = Search(half(scenario, "first"), space, engine, lambda: seen.append(1))
        search.tune(4, 0)
        assert len(seen) == search.runs <= total_runs(4)
        seen.clear()
        judge(scenario, search.best, engine, lambda: seen.append(1))
        assert len(seen) == judging.total_runs(scenario.decider)


def test_a_scenario_of_the_fast_speed_is_tuned_in_a_pod(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fast.yaml"
    path.write_text(BRAKED[: BRAKED.index("pod:")] + "speed: fast\nbudget: 0.75\n")
    (tmp_path / "space.yaml").write_text("knobs: {residency.minimum: {choices: [1s, 20s]}}\n")
    text = tuned(path, "tuned.yaml", workers=1)
    assert parse(text).residency.minimum_s == 1
    assert "tuned at the faithful one" in capsys.readouterr().err


def test_where_nothing_can_be_written_nothing_is_searched(braked: Path, tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "nowhere" / "out.yaml"):
        with pytest.raises(
            ScenarioError, match=rf"^{out}: \(file\): cannot be written; allowed: a"
        ):
            commands.tune(braked, out)


# --- interrupted ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidates", "at", "said", "written"),
    [
        # Few of the 65 runs of the first round, and some after the 9 of the first round.
        (64, rb" [1-8]/\d\d", "interrupted in the first round: nothing was found", False),
        (8, rb"[ m](1\d|2[0-3])/34", "the best so far, not judged", True),
    ],
)
def test_an_interrupted_search_leaves_the_best_so_far_and_no_process(
    braked: Path, candidates: int, at: bytes, said: str, written: bool
) -> None:
    # Far more traffic than there is time for.
    braked.write_text(BRAKED.replace("6m", "6h"))
    out = braked.with_name("out.yaml")
    ours, theirs = pty.openpty()
    arguments = ("tune", str(braked), "--out", str(out), "--candidates", str(candidates))
    with subprocess.Popen(
        [sys.executable, "-m", "daemon.cli", *arguments, "--workers", "2"],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stderr=theirs,
        start_new_session=True,
        # What runs the tests may ignore ctrl-C, and that is inherited.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        os.close(theirs)
        shown = _read(ours, at)
        # As a terminal does: to all of its processes.
        os.killpg(process.pid, signal.SIGINT)
        shown += _read(ours, None)
        assert process.wait(60) == 130
    os.close(ours)
    assert said in shown.decode()
    assert out.exists() == written
    if written:
        text = out.read_text()
        parse(text)
        assert "# Interrupted: this was the best on " in text
    # What keeps track of shared resources for the others ends by itself, after them.
    until_s = time.monotonic() + 20
    while _alive(process.pid) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert _alive(process.pid) == []


def _read(terminal: int, until: bytes | None) -> bytes:
    """What is shown until something matches, or to the end."""
    shown = b""
    while until is None or not re.search(until, shown):
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # nobody is left who could write
            break
    return shown


def _alive(session: int) -> list[str]:
    """The processes of this session that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            name, _, rest = status.read_text().rpartition(")")
            state, _, _, of = rest.split()[:4]
            if int(of) == session and state != "Z":
                found.append(name)
    return found


def _traffic(text: str) -> Iterator[list[int]]:
    from simulations import trial

    workload, _ = trial.traffic(parsed(text))
    return (run.model.tolist() for run in workload.runs())
