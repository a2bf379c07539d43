"""Recordings of request rates: counts of steps become arrivals, and gaps stay empty."""

from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from pyarrow import parquet

from simulations.workloads import recorded
from simulations.workloads.arrivals import Arrivals, WorkloadError, joined

EPOCH_S = 1_770_000_000.0


def recording(folder: Path, *rows: tuple[float | None, str, float | None, float]) -> Path:
    path = folder / "recording.parquet"
    columns = zip(*rows, strict=True)
    names = ("time_s", "model", "requests", "step_s")
    parquet.write_table(pa.table(dict(zip(names, map(list, columns), strict=True))), path)
    return path


def whole(path: Path, *, aggregate: bool = False) -> Arrivals:
    return joined(list(recorded.load(path, aggregate=aggregate).runs()))


def test_requests_of_a_step_are_evenly_spaced_within_it(tmp_path: Path) -> None:
    path = recording(
        tmp_path, (EPOCH_S, "a", 3.0, 60), (EPOCH_S, "b", 0.0, 60), (EPOCH_S + 60, "a", 1.0, 60)
    )
    workload = recorded.load(path)
    run = joined(list(workload.runs()))
    assert workload.names == ("a", "b")
    assert workload.duration_s == 120
    assert np.diff(run.time_s)[:2] == pytest.approx([20, 20])
    assert 60 <= run.time_s[3] < 120
    assert run.model.tolist() == [0, 0, 0, 0]


def test_aggregated_a_step_is_one_arrival(tmp_path: Path) -> None:
    path = recording(tmp_path, (EPOCH_S, "a", 3.0, 60), (EPOCH_S + 60, "a", 0.5, 60))
    run = whole(path, aggregate=True)
    assert run.weight.tolist() == [3, 0.5]
    assert run.time_s[0] == whole(path).time_s[0]


def test_what_is_less_than_a_request_weighs_less(tmp_path: Path) -> None:
    run = whole(recording(tmp_path, (EPOCH_S, "a", 2.25, 60)))
    assert run.weight.tolist() == [1, 1, 0.25]


def test_steps_of_which_nobody_knows_are_empty(tmp_path: Path) -> None:
    rows = ((EPOCH_S, "a", None, 60), (EPOCH_S, "b", np.nan, 60), (EPOCH_S + 60, "a", 2.0, 60))
    run = whole(recording(tmp_path, *rows))
    assert run.weight.sum() == 2
    assert run.time_s.min() >= 60


def test_long_steps_and_rows_in_any_order_come_in_order_of_time(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    starts = random.permutation(4000) // 2 * 60.0
    rows = [
        (EPOCH_S + start, f"m{index % 7}", float(index % 90), 600.0 if index % 5 else 60.0)
        for index, start in enumerate(starts)
    ]
    run = whole(recording(tmp_path, *rows))
    assert (np.diff(run.time_s) >= 0).all()
    assert run.weight.sum() == sum(row[2] for row in rows)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((-1.0, "a", 1.0, 60.0), "row 2: time_s is '-1'; allowed: seconds since 1970"),
        ((None, "a", 1.0, 60.0), "row 2: time_s is empty"),
        ((EPOCH_S, "a", -1.0, 60.0), "row 2: requests is '-1'; allowed: a number, 0 or more"),
        ((EPOCH_S, "a", np.inf, 60.0), "row 2: requests is 'inf'"),
        ((EPOCH_S, "a", 1.0, 0.0), "row 2: step_s is '0'; allowed: seconds above 0"),
    ],
)
def test_a_bad_row_is_named(
    tmp_path: Path, row: tuple[float | None, str, float | None, float], words: str
) -> None:
    with pytest.raises(WorkloadError) as raised:
        recorded.load(recording(tmp_path, (EPOCH_S, "a", 1.0, 60.0), row))
    assert words in raised.value.problem


def test_other_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    parquet.write_table(pa.table({"time": [1.0], "model": ["a"]}), path)
    with pytest.raises(WorkloadError, match="columns are time, model; allowed: time_s, model"):
        recorded.load(path)
