"""ServeGen's windows: as many requests as were counted, as uneven as was fitted."""

from pathlib import Path

import numpy as np
import pytest

from simulations.workloads import servegen
from simulations.workloads.arrivals import Arrivals, WorkloadError, joined

TRACES = Path(__file__).resolve().parents[4] / "shared" / "traces"


def trace(folder: Path, number: int, *windows: str, family: str = "m-mid") -> Path:
    path = folder / family / f"chunk-{number}-trace.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{window}\n" for window in windows))
    return path


def whole(folder: Path, *, most: int | None = None, seed: int = 0) -> Arrivals:
    return joined(list(servegen.load(folder, most=most, seed=seed).runs()))


def cv(run: Arrivals) -> float:
    gaps = np.diff(run.time_s)
    return float(gaps.std() / gaps.mean())


def test_a_window_has_exactly_as_many_requests_as_its_rate_says(tmp_path: Path) -> None:
    trace(tmp_path, 0, "0,0.5,1,Gamma,1,2", "600,0,0,,0,0", "1200,0.1,2,Gamma,0.25,40")
    run = whole(tmp_path)
    assert np.bincount((run.time_s // 600).astype(int)).tolist() == [300, 0, 60]
    assert (np.diff(run.time_s) >= 0).all()
    assert run.time_s[-1] < 1800


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ("0,50,0.5,Gamma,4,1", 0.5),
        ("0,50,2,Gamma,0.25,1", 2.0),
        ("0,50,1,Exponential,,", 1.0),
        ("0,50,0.5,Gamma,,", 0.5),
        # The CV of a Weibull distribution of shape 0.5 is the square root of 5.
        ("0,50,7,Weibull,0.5,1", 5**0.5),
    ],
)
def test_times_between_requests_are_as_uneven_as_the_file_says(
    tmp_path: Path, window: str, expected: float
) -> None:
    trace(tmp_path, 0, window)
    assert cv(whole(tmp_path)) == pytest.approx(expected, rel=0.05)


def test_a_window_comes_out_the_same_whatever_else_is_replayed(tmp_path: Path) -> None:
    windows = [f"{start},0.2,1.5,Gamma,0.4,10" for start in range(0, 3 * 86400, 600)]
    trace(tmp_path, 3, *windows)
    alone = joined(list(servegen.load(tmp_path, (1, 1)).runs()))
    trace(tmp_path, 1, *windows)
    both = servegen.load(tmp_path)
    place = both.names.index("m-mid/3")
    run = joined(list(both.part(86400, 2 * 86400).runs()))
    assert run.time_s[run.model == place] == pytest.approx(alone.time_s, abs=1e-6)
    assert (run.time_s[run.model != place][:9] != alone.time_s[:9]).all()


def test_another_seed_draws_other_times(tmp_path: Path) -> None:
    trace(tmp_path, 0, "0,1,1,Gamma,1,1")
    assert (whole(tmp_path, seed=1).time_s != whole(tmp_path, seed=2).time_s).all()


@pytest.mark.parametrize("law", ["Gamma,0.25,1", "Weibull,0.5,1"])
def test_bundled_requests_keep_their_weight_and_their_pace(tmp_path: Path, law: str) -> None:
    trace(tmp_path, 0, f"0,50,2,{law}")
    run = whole(tmp_path, most=1000)
    assert len(run) == 1000
    assert run.weight.sum() == 30_000
    # 30 requests in a row even out: the CV falls by the root of 30.
    single = 2.0 if law.startswith("Gamma") else 5**0.5
    assert cv(run) == pytest.approx(single / 30**0.5, rel=0.15)


def test_tenants_are_named_by_family_and_number(tmp_path: Path) -> None:
    for number in (10, 2):
        trace(tmp_path, number, "0,0,0,,0,0")
    trace(tmp_path, 1, "0,0,0,,0,0", family="deepseek-r1")
    assert servegen.load(tmp_path).names == ("deepseek-r1/1", "m-mid/2", "m-mid/10")
    assert servegen.load(tmp_path / "m-mid").names == ("m-mid/2", "m-mid/10")


def test_families_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    trace(tmp_path / "language", 1, "0,0,0,,0,0")
    trace(tmp_path / "reason", 1, "0,0,0,,0,0")
    assert servegen.load(tmp_path).names == ("language/m-mid/1", "reason/m-mid/1")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("600,1,1,Gamma,1", "5 fields; allowed: start, rate, CV"),
        ("600,nan,1,Gamma,1,1", "rate is 'nan'; allowed: a number, 0 or more"),
        ("600,-1,1,Gamma,1,1", "rate is '-1'"),
        ("-600,1,1,Gamma,1,1", "start is '-600'"),
        ("600,,1,Gamma,1,1", "rate is ''"),
        ("600,1,inf,Gamma,1,1", "CV is 'inf'"),
        ("600,1,1,Pareto,1,1", "distribution is 'Pareto'; allowed: Gamma, Weibull, Exponential"),
        ("600,1,1,Weibull,0,1", "shape is '0'; allowed: a number above 0"),
        ("0,1,1,Gamma,1,1", "start is '0'; allowed: above 0"),
        ("600,1e9,1,Gamma,1,1", "rate is '1e+09'; allowed: at most"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = trace(tmp_path, 0, "0,0,0,,0,0", line)
    with pytest.raises(WorkloadError) as raised:
        servegen.load(tmp_path)
    assert (raised.value.source, raised.value.line) == (path, 2)
    assert words in raised.value.problem


def test_a_gap_between_windows_is_named(tmp_path: Path) -> None:
    trace(tmp_path, 0, "0,0,0,,0,0", "600,0,0,,0,0", "1800,1,1,Gamma,1,1")
    with pytest.raises(WorkloadError, match="start is '1800'; allowed: 1200, for windows") as at:
        servegen.load(tmp_path)
    assert at.value.line == 3


def test_an_empty_file_and_an_empty_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="no file of ServeGen there"):
        servegen.load(tmp_path)
    trace(tmp_path, 0)
    with pytest.raises(WorkloadError, match="empty; allowed: lines of start, rate"):
        servegen.load(tmp_path)


def test_days_beyond_the_end_are_refused(tmp_path: Path) -> None:
    trace(tmp_path, 0, *(f"{start},0,0,,0,0" for start in range(0, 2 * 86400, 600)))
    with pytest.raises(WorkloadError, match=r"days 2 to 3; allowed: from 0 to 1"):
        servegen.load(tmp_path, (2, 3))


@pytest.mark.skipif(not TRACES.exists(), reason="the traces are not beside this checkout")
def test_the_real_trace_is_whole() -> None:
    workload = servegen.load(TRACES / "servegen", most=1)
    assert len(workload.names) == 182
    assert workload.duration_s == 14 * 86400
    # One arrival for each window that is not empty; seven in ten are.
    runs = list(workload.runs())
    assert sum(map(len, runs)) == 109_496
    empty = 182 * 14 * 144 - 109_496
    assert empty / (182 * 14 * 144) == pytest.approx(0.7, abs=0.01)
    assert sum(float(run.weight.sum()) for run in runs) == 2_166_637_639
