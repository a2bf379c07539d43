"""Recordings of a real Prometheus over a past of which every request is known."""

import io
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from rich.console import Console

from simulations.recording.command import command
from simulations.recording.errors import (
    BadQuery,
    BadSpec,
    NothingFound,
    RecordError,
    TargetTaken,
    TooLarge,
    Unauthorised,
    Unreachable,
)
from simulations.recording.fetching import MOST_POINTS
from simulations.recording.record import METADATA, Progress, record
from simulations.recording.spec import RecordSpec
from simulations.testbed.tritonserver import free_ports
from simulations.workloads import recorded
from tests.simulations.recording.gate import certificate, gate
from tests.simulations.recording.past import AWAY_S, BEGIN_S, HOUR_S, HOURS, STEP_S, Written
from tests.simulations.recording.prometheus import Prometheus, Tools, write_past

MODELS = ["alpha", "beta", "gamma"]


def spec(url: str, from_h: float = 0, to_h: float = HOURS, **others: object) -> RecordSpec:
    made = RecordSpec(
        url,
        since=str(BEGIN_S + from_h * HOUR_S),
        until=str(BEGIN_S + to_h * HOUR_S),
        step_s=float(STEP_S),
        retries=3,
    )
    return replace(made, **others)  # type: ignore[arg-type]


Row = dict[str, float | str | None]


def rows(path: Path) -> list[Row]:
    found: list[Row] = pq.read_table(path).to_pylist()
    return found


def no_sleep(_: float) -> None:
    """Instead of waiting before a question is asked again."""


def test_every_request_is_counted_in_its_step(
    prometheus: Prometheus, written: Written, tmp_path: Path
) -> None:
    target, seen = tmp_path / "past.parquet", list[Progress]()
    held = record(spec(prometheus.url), target, progress=seen.append)
    counted: dict[tuple[str, int], float] = defaultdict(float)
    for row in rows(target):
        if row["requests"] and row["step_s"] == STEP_S:
            step = (float(row["time_s"] or 0) - BEGIN_S) / STEP_S
            counted[str(row["model"]), int(step)] += float(row["requests"])
    assert counted == written.requests
    assert held.models == len(MODELS)
    assert held.requests == sum(map(written.total, MODELS))
    # The scrape that ends the gap closes the last of its steps.
    assert held.gap_s == AWAY_S[1] - AWAY_S[0] - STEP_S
    # More points of each series than Prometheus gives at once, so it took several questions.
    assert HOURS * HOUR_S / 15 > MOST_POINTS
    assert len(seen) > 2
    assert (seen[-1].done_s, seen[-1].total_s) == (HOURS * HOUR_S, HOURS * HOUR_S)


def test_a_gap_is_one_long_step_where_the_counter_tells_and_unknown_where_it_does_not(
    prometheus: Prometheus, written: Written, tmp_path: Path
) -> None:
    target = tmp_path / "past.parquet"
    record(spec(prometheus.url, 29, 32), target)
    away = [row for row in rows(target) if row["step_s"] != STEP_S]
    gap = {"time_s": BEGIN_S + AWAY_S[0], "step_s": AWAY_S[1] - AWAY_S[0]}
    assert away == [{**gap, "model": "alpha", "requests": written.away["alpha"]}]
    # beta was last seen eight hours before: whether it came and went meanwhile nobody knows.
    record(spec(prometheus.url, 21, 32), tmp_path / "both.parquet")
    away = [row for row in rows(tmp_path / "both.parquet") if row["step_s"] != STEP_S]
    unseen = {"time_s": gap["time_s"], "step_s": gap["step_s"] - STEP_S, "requests": None}
    assert {**unseen, "model": "beta"} in away
    assert {**gap, "model": "alpha", "requests": written.away["alpha"]} in away


def test_what_lies_before_the_first_scrape_is_unknown(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    target = tmp_path / "early.parquet"
    held = record(spec(prometheus.url, -2, 1), target)
    unknown = [row for row in rows(target) if row["requests"] is None]
    assert [row["model"] for row in unknown] == ["alpha", "gamma"]
    # The sample at the range's hour 0 closes a step that was otherwise not looked at.
    assert all(row["step_s"] == 2 * HOUR_S - STEP_S for row in unknown)
    assert held.gap_s == 2 * HOUR_S - STEP_S


def test_the_loader_of_workloads_reads_it(
    prometheus: Prometheus, written: Written, tmp_path: Path
) -> None:
    target = tmp_path / "past.parquet"
    record(spec(prometheus.url), target)
    workload = recorded.load(target)
    assert sorted(workload.names) == MODELS
    assert workload.duration_s == HOURS * HOUR_S
    counted = np.zeros(len(MODELS))
    for run in workload.runs():
        counted += np.bincount(run.model, weights=run.weight, minlength=len(MODELS))
    by_name = dict(zip(workload.names, counted.tolist(), strict=True))
    assert by_name == pytest.approx({name: written.total(name) for name in MODELS})


def test_a_rate_is_recorded_past_the_limit_of_points(
    prometheus: Prometheus, written: Written, tmp_path: Path
) -> None:
    target, seen = tmp_path / "rate.parquet", list[Progress]()
    query = 'sum by (model) (rate(nv_inference_request_success{model="beta"}[1m]))'
    asked = spec(prometheus.url, query=query, kind="rate", step_s=15.0)
    record(asked, target, progress=seen.append)
    assert HOURS * HOUR_S / 15 > MOST_POINTS
    assert len(seen) > 1
    # A rate knows nothing of the first and last minute of each of beta's two visits.
    total = sum(float(row["requests"] or 0) for row in rows(target))
    assert total == pytest.approx(written.total("beta") * 3 / 3.2, rel=0.05)


def test_a_server_that_gives_little_at_once_is_asked_for_little(
    tools: Tools, written: Written, tmp_path: Path
) -> None:
    write_past(tools, tmp_path, written.past)
    with Prometheus(tools, tmp_path, options=["--query.max-samples=5000"]) as server:
        server.wait_live()
        target, seen = tmp_path / "past.parquet", list[Progress]()
        held = record(spec(server.url, 0, 24), target, progress=seen.append)
        # Five series, four samples a minute: no more than 250 minutes at once.
        assert len(seen) > 24 * 60 / 250
        counted = sum(n for (_, step), n in written.requests.items() if step < 24 * 60)
        assert held.requests == counted
        tiny = spec(server.url, 0, 24, step_s=float(24 * HOUR_S))
        with pytest.raises(TooLarge, match="too many samples"):
            record(tiny, tmp_path / "tiny.parquet")


def test_labels_together_name_the_model(prometheus: Prometheus, tmp_path: Path) -> None:
    target = tmp_path / "past.parquet"
    record(spec(prometheus.url, 3, 4, labels=("model", "version")), target)
    assert {row["model"] for row in rows(target)} == {"alpha:1", "beta:1", "gamma:1"}


def test_a_recording_killed_midway_goes_on_where_it_stopped(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    record(spec(prometheus.url), tmp_path / "at-once.parquet")
    with gate(prometheus.address) as door:
        target = tmp_path / "past.parquet"
        door.delay_s = 0.15
        # The same address in both runs: what the server is called is part of the recording.
        asked = spec(door.url)
        script = (
            "import sys; from pathlib import Path;"
            "from simulations.recording.record import record;"
            "from simulations.recording.spec import RecordSpec;"
            f"record(RecordSpec({asked.url!r}, since={asked.since!r}, until={asked.until!r}),"
            f" Path({str(target)!r}))"
        )
        child = subprocess.Popen([sys.executable, "-c", script], env=_environment())
        state = tmp_path / "past.parquet.parts" / "state.json"
        deadline_s = time.monotonic() + 30
        while not state.exists() or json.loads(state.read_text())["parts"] < 2:
            assert child.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not target.exists()
        reached = json.loads(state.read_text())
        door.delay_s = 0.0
        seen = list[Progress]()
        record(asked, target, progress=seen.append)
        # Less what lay behind: only the rest was fetched.
        assert seen[0].done_s > reached["done"] * STEP_S
    assert rows(target) == rows(tmp_path / "at-once.parquet")
    assert not state.parent.exists()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}


def test_a_finished_recording_asks_nothing_more(prometheus: Prometheus, tmp_path: Path) -> None:
    target = tmp_path / "past.parquet"
    with gate(prometheus.address) as door:
        held = record(spec(door.url, 0, 1), target)
        before = len(door.asked)
        assert record(spec(door.url, 0, 1), target) == held
        assert len(door.asked) == before
        with pytest.raises(TargetTaken, match=r"another recording \(step_s 60.0, not 30.0\)"):
            record(spec(door.url, 0, 1, step_s=30.0), target)


def test_an_unfinished_recording_refuses_other_arguments(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(_: Progress) -> None:
        raise Stopped

    target = tmp_path / "past.parquet"
    with pytest.raises(Stopped):
        record(spec(prometheus.url), target, progress=stop)
    with pytest.raises(TargetTaken, match="the start of another recording"):
        record(spec(prometheus.url, query="nv_inference_count"), target)
    record(spec(prometheus.url), target)


def test_a_file_that_is_no_recording_is_left_alone(prometheus: Prometheus, tmp_path: Path) -> None:
    target = tmp_path / "notes.parquet"
    target.write_text("mine")
    with pytest.raises(TargetTaken, match="is no recording"):
        record(spec(prometheus.url), target)
    assert target.read_text() == "mine"


def test_a_wrong_query_is_answered_in_prometheus_own_words(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    target = tmp_path / "past.parquet"
    with pytest.raises(BadQuery, match="parse error: unclosed left parenthesis"):
        record(spec(prometheus.url, query="rate(((", kind="rate"), target)
    # The sum of counters has no restarts that could be seen; Prometheus has no samples of it.
    with pytest.raises(BadQuery, match=r"parse error.*chosen by a plain selector"):
        record(spec(prometheus.url, query="sum(nv_inference_request_success)"), target)
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_is_not_there_is_told_by_what_is(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    target = tmp_path / "past.parquet"
    with pytest.raises(NothingFound, match="there are nv_inference_request_success"):
        record(spec(prometheus.url, query="nv_inference_requests_success"), target)
    query = 'nv_inference_request_success{model="delta"}'
    with pytest.raises(NothingFound, match="exists, but not with these labels"):
        record(spec(prometheus.url, query=query), target)
    query = "rate(nv_inference_request_succes[1m])"
    with pytest.raises(NothingFound, match="there are nv_inference_request_success"):
        record(spec(prometheus.url, query=query, kind="rate"), target)
    assert list(tmp_path.iterdir()) == []


def test_a_label_that_is_not_there_is_refused(prometheus: Prometheus, tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match=r"label 'name' .* a series has none: \{__name__="):
        record(spec(prometheus.url, 0, 1, labels=("name",)), tmp_path / "past.parquet")


def test_a_step_shorter_than_the_scrapes_is_refused(prometheus: Prometheus, tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match="looks every 15 s"):
        record(spec(prometheus.url, 0, 1, step_s=5.0), tmp_path / "past.parquet")


def test_a_server_that_fails_for_a_while_is_asked_again(
    prometheus: Prometheus, written: Written, tmp_path: Path
) -> None:
    pauses: list[float] = []
    with gate(prometheus.address) as door:
        door.failures = [503, 502, 500]
        held = record(spec(door.url), tmp_path / "past.parquet", sleep=pauses.append)
    assert held.requests == sum(map(written.total, MODELS))
    assert pauses == [0.5, 1.0, 2.0]


def test_a_server_that_goes_on_failing_is_given_up_with_what_it_said(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    with gate(prometheus.address) as door:
        door.failures = [503] * 4
        with pytest.raises(Unreachable, match="503 Service Unavailable: <html>upstream is away"):
            record(spec(door.url), tmp_path / "past.parquet", sleep=no_sleep)
        assert len(door.asked) == 4


def test_a_server_lost_midway_leaves_what_has_come(
    prometheus: Prometheus, written: Written, tmp_path: Path
) -> None:
    target = tmp_path / "past.parquet"
    with gate(prometheus.address) as door:

        def lose(_: Progress) -> None:
            door.failures = [502] * 4

        with pytest.raises(Unreachable, match=r"502.*the same command goes on"):
            record(spec(door.url), target, progress=lose, sleep=no_sleep)
        held = record(spec(door.url), target)
    assert held.requests == sum(map(written.total, MODELS))


def test_the_command_shows_how_far_it_is_and_says_what_it_holds(
    prometheus: Prometheus, written: Written, tmp_path: Path
) -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=100)
    target = tmp_path / "past.parquet"
    end = str(BEGIN_S + HOURS * HOUR_S)
    command(prometheus.url, target, since=str(BEGIN_S), until=end, console=out)
    assert isinstance(out.file, io.StringIO)
    said = out.file.getvalue()
    assert "100%" in said
    total = sum(map(written.total, MODELS))
    assert f"{target}: {total:,} requests of 3 models in 50.00 hours, 1,740 s of them" in said


def test_nobody_there_is_said_without_the_password(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://me:secret@127.0.0.1:{port}/prefix"
    with pytest.raises(Unreachable, match="Connection refused") as told:
        record(spec(url), tmp_path / "past.parquet", sleep=no_sleep)
    assert f"http://127.0.0.1:{port}/prefix" in str(told.value)
    assert "secret" not in str(told.value)


def test_something_else_that_answers_is_no_prometheus(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    with pytest.raises(Unreachable, match="is this a Prometheus"):
        record(spec(f"{prometheus.url}/elsewhere"), tmp_path / "past.parquet", sleep=no_sleep)


def test_a_token_opens_the_door_and_stays_out_of_the_file(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    target, token = tmp_path / "past.parquet", tmp_path / "token"
    token.write_text("s3cret\n")
    with gate(prometheus.address) as door:
        door.token = "s3cret"
        with pytest.raises(Unauthorised, match="401"):
            record(spec(door.url, 0, 1), target)
        with pytest.raises(Unauthorised):
            record(spec(door.url, 0, 1, token="wrong"), target)
        record(spec(door.url, 0, 1, token_file=token), target)
    told = pq.read_schema(target).metadata[METADATA].decode()
    assert json.loads(told)["recording"]["source"] == door.url
    assert "s3cret" not in told


def test_a_server_behind_a_private_authority_needs_its_certificate(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    chain, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    target = tmp_path / "past.parquet"
    with gate(prometheus.address, context) as door:
        with pytest.raises(Unreachable, match="TLS failed"):
            record(spec(door.url, 0, 1), target)
        assert record(spec(door.url, 0, 1, ca_file=chain), target).models == 2


def test_the_same_recording_has_the_same_bytes(prometheus: Prometheus, tmp_path: Path) -> None:
    for name in ("one", "two"):
        record(spec(prometheus.url, 2, 6), tmp_path / f"{name}.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_all_that_goes_wrong_is_of_one_kind() -> None:
    with pytest.raises(RecordError):
        RecordSpec("ftp://host")
