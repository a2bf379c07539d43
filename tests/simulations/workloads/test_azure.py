"""The public Azure Functions format: what a file means, and what is said of a bad one."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from simulations.workloads import azure
from simulations.workloads.arrivals import Arrivals, WorkloadError, joined

TRACES = Path(__file__).resolve().parents[4] / "shared" / "traces"

OWNER, APP, OTHER_APP = "a" * 64, "b" * 64, "c" * 64
RESIZE, THUMB = "0123456789" + "d" * 54, "0123456780" + "e" * 54


def written(path: Path, text: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def day(path: Path, *rows: str, minutes: str = "1,2,3") -> Path:
    header = f"HashOwner,HashApp,HashFunction,Trigger,{minutes}"
    return written(path, "\n".join([header, *rows]) + "\n")


def row(function: str, counts: str, app: str = APP) -> str:
    return f"{OWNER},{app},{function},timer,{counts}"


def whole(paths: list[Path], *, aggregate: bool = False) -> Arrivals:
    return joined(list(azure.load(paths, aggregate=aggregate)[0].runs()))


def test_calls_of_a_minute_are_evenly_spaced_from_the_functions_own_phase(tmp_path: Path) -> None:
    run = whole([day(tmp_path / "day.csv", row(RESIZE, "3,0,1"))])
    gaps = np.diff(run.time_s)
    assert gaps[:2] == pytest.approx([20, 20])
    assert 0 <= run.time_s[0] < 20
    # Its only call of minute 3 comes with the same phase, of a whole minute.
    assert run.time_s[3] - 120 == pytest.approx(3 * run.time_s[0])
    assert run.weight.tolist() == [1, 1, 1, 1]


def test_a_timer_of_five_minutes_stays_one(tmp_path: Path) -> None:
    counts = ",".join("1" if minute % 5 == 0 else "0" for minute in range(60))
    minutes = ",".join(map(str, range(1, 61)))
    run = whole([day(tmp_path / "day.csv", row(RESIZE, counts), minutes=minutes)])
    assert np.diff(run.time_s) == pytest.approx(np.full(11, 300.0))


def test_functions_come_merged_in_order_of_time(tmp_path: Path) -> None:
    run = whole([day(tmp_path / "day.csv", row(RESIZE, "5,1,0"), row(THUMB, "7,0,2"))])
    assert (np.diff(run.time_s) >= 0).all()
    assert np.bincount(run.model).tolist() == [6, 9]


def test_aggregated_a_minute_is_one_arrival_at_its_first_call(tmp_path: Path) -> None:
    path = day(tmp_path / "day.csv", row(RESIZE, "3,0,1"), row(THUMB, "2,0,0"))
    single, aggregated = whole([path]), whole([path], aggregate=True)
    assert sorted(aggregated.weight.tolist()) == [1, 2, 3]
    assert set(aggregated.time_s) <= set(single.time_s)
    assert aggregated.time_s[0] == single.time_s[0]


def test_days_follow_one_another_and_may_bring_new_functions(tmp_path: Path) -> None:
    minutes = ",".join(map(str, range(1, 1441)))
    quiet = ",".join(["0"] * 1439)
    first = day(tmp_path / "d01.csv", row(RESIZE, f"1,{quiet}"), minutes=minutes)
    rows = (row(THUMB, f"1,{quiet}"), row(RESIZE, f"1,{quiet}"))
    second = day(tmp_path / "d02.csv.gz", *rows, minutes=minutes)
    workload, models = azure.load([first, second])
    run = joined(list(workload.runs()))
    assert workload.duration_s == 2 * 86400
    assert workload.names == tuple(models) == ("0123456789", "0123456780")
    resized = run.time_s[run.model == 0]
    assert np.diff(resized) == pytest.approx([86400])


def test_columns_may_stand_in_any_order_and_minutes_have_a_prefix(tmp_path: Path) -> None:
    text = f"minute_11,HashFunction,minute_10,HashApp\n4,{RESIZE},2,{APP}\n"
    workload, _ = azure.load([written(tmp_path / "day.csv", text)])
    run = joined(list(workload.runs()))
    assert np.bincount((run.time_s // 60).astype(int)).tolist() == [2, 4]


def test_quoted_fields_are_read(tmp_path: Path) -> None:
    run = whole([day(tmp_path / "day.csv", f'"{OWNER}","{APP}","{RESIZE}","timer","1","0","2"')])
    assert len(run) == 3


def test_a_function_told_twice_has_the_calls_of_both_lines(tmp_path: Path) -> None:
    workload, _ = azure.load([day(tmp_path / "d.csv", row(RESIZE, "1,0,0"), row(RESIZE, "2,0,1"))])
    run = joined(list(workload.runs()))
    assert len(workload.names) == 1
    assert np.bincount((run.time_s // 60).astype(int)).tolist() == [3, 0, 1]


def test_the_same_function_in_two_apps_is_two_models(tmp_path: Path) -> None:
    rows = (row(RESIZE, "1,0,0"), row(RESIZE, "1,0,0", OTHER_APP), row(THUMB, "1,0,0"))
    workload, _ = azure.load([day(tmp_path / "day.csv", *rows)])
    assert workload.names == ("0123456789.bbbbbbbb", "0123456789.cccccccc", "0123456780")


def test_names_that_are_no_hashes_stay_whole(tmp_path: Path) -> None:
    workload, _ = azure.load([day(tmp_path / "day.csv", row("resize-image", "1,0,0"))])
    assert workload.names == ("resize-image",)


def test_durations_and_memory_become_the_catalogue(tmp_path: Path) -> None:
    path = day(tmp_path / "day.csv", row(RESIZE, "1,0,0"), row(THUMB, "1,0,0"))
    durations = written(
        tmp_path / "durations.csv",
        "HashOwner,HashApp,HashFunction,Average,Count,percentile_Average_50\n"
        f"{OWNER},{APP},{RESIZE},400,9,250\n",
    )
    memory = written(
        tmp_path / "memory.csv.gz",
        "HashFunction,HashOwner,HashApp,SampleCount,AverageAllocatedMb\n"
        f"{RESIZE},{OWNER},{APP},9,200\n",
    )
    _, models = azure.load([path], durations, memory)
    _, drawn = azure.load([path])
    resize = models["0123456789"]
    assert resize.service_s == 0.25
    assert resize.size_bytes == 200 * 2**20
    assert resize.load_s == pytest.approx(1 + 200 * 2**20 / 2e9)
    assert models["0123456780"] == drawn["0123456780"]


def test_averages_do_where_there_is_no_median(tmp_path: Path) -> None:
    path = day(tmp_path / "day.csv", row(RESIZE, "1,0,0"))
    text = f"HashOwner,HashApp,HashFunction,Average\n{OWNER},{APP},{RESIZE},0\n"
    _, models = azure.load([path], written(tmp_path / "durations.csv", text))
    # Whole milliseconds: 0 is anything below one.
    assert models[RESIZE[:8]].service_s == 0.001


def test_memory_told_of_an_app_holds_for_its_functions(tmp_path: Path) -> None:
    path = day(tmp_path / "day.csv", row(RESIZE, "1,0,0"), row(THUMB, "1,0,0", OTHER_APP))
    text = f"HashOwner,HashApp,SampleCount,AverageAllocatedMb\n{OWNER},{APP},9,100\n"
    _, models = azure.load([path], None, written(tmp_path / "memory.csv", text))
    assert models["0123456789"].size_bytes == 100 * 2**20
    assert models["0123456780"].size_bytes != 100 * 2**20


@pytest.mark.parametrize(
    ("rows", "line", "words"),
    [
        ([row(RESIZE, "1,0,0"), row(THUMB, "1,-2,0")], 3, "minute 2 is '-2'; allowed: a whole"),
        ([row(RESIZE, "1,0,nan")], 2, "minute 3 is 'nan'; allowed: a whole number of calls"),
        ([row(RESIZE, "1,,0")], 2, "minute 2 is ''; allowed"),
        ([row(RESIZE, "1,2.5,0")], 2, "minute 2 is '2.5'; allowed"),
        ([row(RESIZE, "1,0,99999999999999999999")], 2, "minute 3 is '99999999999999999999'"),
        ([row(RESIZE, "1,0")], 2, "6 fields; allowed: 7"),
        ([row(RESIZE, "1,0,0,")], 2, "8 fields; allowed: 7"),
        ([row(RESIZE, "1,0,0"), "", row("", "1,0,0")], 4, "HashFunction is ''; allowed: a name"),
        ([f'{OWNER},{APP},"{RESIZE},timer,1,0,0'], 2, "unexpected end of data"),
        ([], 1, "nothing but a header"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, rows: list[str], line: int, words: str) -> None:
    path = day(tmp_path / "day.csv", *rows)
    with pytest.raises(WorkloadError) as raised:
        azure.load([path])
    assert raised.value.line == line
    assert str(raised.value).startswith(f"{path}, line {line}: ")
    assert words in raised.value.problem


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("HashOwner,HashApp,Function,1,2", "no column HashFunction"),
        ("HashOwner,HashApp,HashFunction,Trigger", "no minute in"),
        ("HashFunction,1,2,4", "minute 4 follows minute 2; allowed: each minute once, no gap"),
        ("HashFunction,1,2,minute_2", "minute 2 follows minute 2"),
    ],
)
def test_a_bad_header_is_told(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(WorkloadError, match=words) as raised:
        azure.load([written(tmp_path / "day.csv", f"{header}\n")])
    assert raised.value.line == 1


def test_an_empty_file_an_absent_one_and_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="empty; allowed: a header"):
        azure.load([written(tmp_path / "day.csv", "")])
    with pytest.raises(WorkloadError, match=r"nowhere\.csv: cannot be read: No such file"):
        azure.load([tmp_path / "nowhere.csv"])
    with pytest.raises(WorkloadError, match="no file; allowed: one or more"):
        azure.load([])


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = day(tmp_path / "day.csv", row(RESIZE, "1,0,0"))
    path.write_bytes(path.read_bytes() + b"caf\xe9,b,c,timer,0,0,0\n")
    with pytest.raises(WorkloadError, match="byte 0xe9 is not UTF-8") as raised:
        azure.load([path])
    assert raised.value.line == 3


def test_a_gzip_cut_short_names_the_line_it_reached(tmp_path: Path) -> None:
    rows = [row(f"{number:064x}", "1,2,3") for number in range(20_000)]
    path = day(tmp_path / "day.csv.gz", *rows)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WorkloadError, match="cut short after this line") as raised:
        azure.load([path])
    assert raised.value.line is not None
    assert 5_000 < raised.value.line < 15_000


def test_a_damaged_gzip_is_told(tmp_path: Path) -> None:
    path = tmp_path / "day.csv.gz"
    path.write_text("HashFunction,1\n")
    with pytest.raises(WorkloadError, match="damaged in its first line: Not a gzip"):
        azure.load([path])


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "empty"),
        ("HashFunction,Count\n", 1, "allowed: HashOwner, HashApp, HashFunction and percentile"),
        ("HashFunction,Average\nf,NaN\n", 2, "Average is 'NaN'; allowed: a number from 0"),
        ("HashFunction,Average\nf,-1\n", 2, "Average is '-1'"),
        ("HashFunction,Average\nf,1\nf\n", 3, "1 fields; allowed: 2"),
    ],
)
def test_bad_durations_are_named(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    path = day(tmp_path / "day.csv", row(RESIZE, "1,0,0"))
    with pytest.raises(WorkloadError) as raised:
        azure.load([path], written(tmp_path / "durations.csv", text))
    assert raised.value.line == line
    assert words in raised.value.problem


@pytest.mark.skipif(not TRACES.exists(), reason="the traces are not beside this checkout")
@pytest.mark.parametrize(
    ("folder", "functions", "calls", "duration_s"),
    [("azure500", 500, 3_037_902, 480 * 60.0), ("azure697", 697, 318_968, 1440 * 60.0)],
)
def test_the_real_traces_are_whole(
    folder: str, functions: int, calls: int, duration_s: float
) -> None:
    workload, models = azure.load([TRACES / folder / "invocations.csv.gz"])
    runs = list(workload.runs())
    assert len(workload.names) == len(models) == functions
    assert workload.duration_s == duration_s
    assert sum(map(len, runs)) == calls
    times = np.concatenate([run.time_s for run in runs])
    assert (np.diff(times) >= 0).all()
    assert times[-1] <= duration_s


@pytest.mark.skipif(not TRACES.exists(), reason="the traces are not beside this checkout")
def test_the_real_functions_have_durations_and_sizes() -> None:
    folder = TRACES / "azure500"
    files = [folder / name for name in ("invocations.csv.gz", "durations.csv.gz", "memory.csv.gz")]
    _, models = azure.load([files[0]], files[1], files[2])
    _, drawn = azure.load([files[0]])
    assert sum(models[name].size_bytes != drawn[name].size_bytes for name in models) == 500
    assert len({profile.service_s for profile in models.values()}) > 100
