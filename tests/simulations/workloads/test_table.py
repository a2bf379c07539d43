"""A plain table of arrivals: its clock, its order, and what is said of a bad line."""

import gzip
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from pyarrow import parquet

from simulations.workloads import table
from simulations.workloads.arrivals import Arrivals, WorkloadError, joined


def csv(folder: Path, *lines: str, name: str = "table.csv") -> Path:
    path = folder / name
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def packed(folder: Path, **columns: object) -> Path:
    path = folder / "table.parquet"
    parquet.write_table(pa.table(columns), path)
    return path


def whole(path: Path, *, most_in_memory: int = table.MOST_IN_MEMORY) -> Arrivals:
    return joined(list(table.load(path, most_in_memory=most_in_memory).runs()))


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
@pytest.mark.parametrize("most_in_memory", [1000, 0])
def test_rows_become_arrivals(tmp_path: Path, name: str, most_in_memory: int) -> None:
    lines = ("time,model,service_ms,weight", "10,b,20,1", "10.5,a,40,3", "12,b,25.5,0.5")
    path = csv(tmp_path, *lines, name=name)
    workload = table.load(path, most_in_memory=most_in_memory)
    assert workload.names == ("b", "a")
    assert workload.duration_s == 2.0
    for _ in range(2):
        run = joined(list(workload.runs()))
        assert run.time_s.tolist() == [0, 0.5, 2]
        assert run.model.tolist() == [0, 1, 0]
        assert run.weight.tolist() == [1, 3, 0.5]
        assert run.service_s is not None
        assert run.service_s.tolist() == [0.02, 0.04, 0.0255]


def test_columns_may_stand_in_any_order_and_names_in_quotes(tmp_path: Path) -> None:
    run = whole(csv(tmp_path, "\ufeffmodel,time", '"a, b",1', "", "c,2"))
    assert run.model.tolist() == [0, 1]
    assert run.service_s is None
    assert run.weight.tolist() == [1, 1]


def test_times_of_day_need_a_zone_and_count_from_the_first(tmp_path: Path) -> None:
    lines = ("time,model", "2026-01-31T08:00:00Z,a", "2026-01-31T10:00:01.5+01:00,a")
    assert whole(csv(tmp_path, *lines)).time_s.tolist() == [0, 3601.5]
    with pytest.raises(WorkloadError, match="time is '2026-01-31T08:00:00'; allowed: seconds"):
        table.load(csv(tmp_path, "time,model", "2026-01-31T08:00:00,a"))


def test_the_clock_may_start_before_the_first_arrival(tmp_path: Path) -> None:
    path = csv(tmp_path, "time,model", "10,a", "12,a")
    workload = table.load(path, start=4.0)
    assert joined(list(workload.runs())).time_s.tolist() == [6, 8]
    assert workload.duration_s == 8
    with pytest.raises(WorkloadError, match="time 10 is before the start; allowed: from 11") as at:
        table.load(path, start=11.0)
    assert at.value.line == 2
    dated = csv(tmp_path, "time,model", "2026-01-31T08:00:00Z,a")
    start = datetime(2026, 1, 31, 7, 59, tzinfo=UTC)
    assert joined(list(table.load(dated, start=start).runs())).time_s.tolist() == [60]


def test_a_table_in_memory_may_be_in_any_order_and_ties_stay_as_they_stand(tmp_path: Path) -> None:
    run = whole(csv(tmp_path, "time,model", "3,a", "1,b", "3,c", "1,a"))
    assert run.time_s.tolist() == [0, 0, 2, 2]
    assert run.model.tolist() == [1, 0, 0, 2]


def test_a_larger_table_must_be_in_order_and_the_line_is_named(tmp_path: Path) -> None:
    path = csv(tmp_path, "time,model", "1,a", "3,b", "2,c", "1,a")
    with pytest.raises(WorkloadError, match="time 2 follows 3; allowed: times that do not") as at:
        table.load(path, most_in_memory=2)
    assert at.value.line == 4


def test_a_table_of_many_pieces_is_the_same_from_memory_and_from_the_file(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    times = np.sort(random.uniform(0, 1000, 150_000))
    models = random.integers(0, 50, len(times))
    path = csv(
        tmp_path,
        "time,model",
        *(f"{t!r},m{m}" for t, m in zip(times.tolist(), models, strict=True)),
    )
    kept, streamed = whole(path), whole(path, most_in_memory=10)
    assert kept.time_s.tolist() == streamed.time_s.tolist() == (times - times[0]).tolist()
    assert kept.model.tolist() == streamed.model.tolist()


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        (["1,a,5,1", "-2,a,5,1"], 3, "time is '-2'; allowed: seconds, 0 or more"),
        (["1,a,5,1", "nan,a,5,1"], 3, "time is 'nan'"),
        (["inf,a,5,1"], 2, "time is 'inf'"),
        (["1e400,a,5,1"], 2, "time is '1e400'"),
        (["1960-01-01T00:00:00Z,a,5,1"], 2, "time is '1960-01-01T00:00:00Z'"),
        (["1,a,5,nan"], 2, "weight is 'nan'; allowed: a number of requests above 0"),
        (["1,a,5,1", "", ",a,5,1"], 4, "time is ''"),
        (["1,,5,1"], 2, "model is ''; allowed: a name"),
        (["1,a,,1"], 2, "service_ms is ''; allowed: milliseconds, 0 or more"),
        (["1,a,-5,1"], 2, "service_ms is '-5'"),
        (["1,a,5,0"], 2, "weight is '0'; allowed: a number of requests above 0"),
        (["1,a,5,many"], 2, "weight is 'many'"),
        (["1,a,5"], 2, "3 fields; allowed: 4"),
        (["1,a,5,1", "2,a,5,1,9"], 3, "5 fields; allowed: 4"),
        (["1,a,5,1", '2,"a,5,1', "3,a,5,1"], 3, "unexpected end of data"),
        (["1,a,5,1", "2026-01-31T08:00:00Z,a,5,1"], 3, "all of one kind"),
        (["2026-01-31T08:00:00Z,a,5,1", "2,a,5,1"], 3, "time is '2'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, lines: list[str], line: int, words: str) -> None:
    path = csv(tmp_path, "time,model,service_ms,weight", *lines)
    with pytest.raises(WorkloadError) as raised:
        table.load(path)
    assert raised.value.line == line
    assert str(raised.value).startswith(f"{path}, line {line}: ")
    assert words in raised.value.problem


def test_a_bad_line_far_down_is_named(tmp_path: Path) -> None:
    lines = [f"{number},a" for number in range(100_000)]
    lines[90_000] = "90000"
    with pytest.raises(WorkloadError, match="1 fields; allowed: 2") as raised:
        table.load(csv(tmp_path, "time,model", *lines))
    assert raised.value.line == 90_002


def test_a_model_that_is_not_allowed_is_named(tmp_path: Path) -> None:
    path = csv(tmp_path, "time,model", "1,a", "2,z")
    assert table.load(path).names == ("a", "z")
    with pytest.raises(
        WorkloadError, match="model is 'z'; allowed: a model of the catalogue"
    ) as at:
        table.load(path, allowed={"a"}.__contains__)
    assert at.value.line == 3


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        ([], None, "empty; allowed: a header"),
        (["time,model"], None, "nothing but a header"),
        (["1,a", "2,b"], 1, "the columns are 1, a; allowed: time and model"),
        (["time,name"], 1, "the columns are time, name"),
        (["time,model,time"], 1, "each once"),
        (["model,weight"], 1, "the columns are model, weight"),
    ],
)
def test_a_bad_header_is_told(
    tmp_path: Path, lines: list[str], line: int | None, words: str
) -> None:
    with pytest.raises(WorkloadError) as raised:
        table.load(csv(tmp_path, *lines))
    assert raised.value.line == line
    assert words in raised.value.problem


def test_a_gzip_cut_short_names_the_last_line_that_came_whole(tmp_path: Path) -> None:
    lines = [f"{number},model-{number % 97}" for number in range(50_000)]
    path = csv(tmp_path, "time,model", *lines, name="table.csv.gz")
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half)
    came = zlib.decompressobj(31).decompress(half).count(b"\n")
    assert 10_000 < came < 40_000
    with pytest.raises(WorkloadError, match="cut short after this line; allowed: a whole") as at:
        table.load(path)
    assert at.value.line == came


@pytest.mark.parametrize(
    ("damage", "line", "words"),
    [
        (lambda packed: packed[:-4], 2001, "cut short after this line"),
        (lambda packed: packed[:8], None, "cut short in its first line"),
        (lambda packed: packed[:-8] + b"abcdefgh", 1990, "damaged after this line: CRC check"),
        (lambda packed: packed + b"more", 2001, "damaged after this line: Not a gzipped file"),
        (lambda packed: packed[:10] + b"\xff" + packed[11:], None, "damaged in its first line: "),
        (gzip.decompress, None, "damaged in its first line: Not a gzipped file (b'ti')"),
    ],
)
def test_a_damaged_gzip_names_the_last_line_that_came_whole(
    tmp_path: Path, damage: Callable[[bytes], bytes], line: int | None, words: str
) -> None:
    rows = (f"{number},model-{number % 97}" for number in range(2000))
    path = csv(tmp_path, "time,model", *rows, name="table.csv.gz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WorkloadError) as raised:
        table.load(path)
    assert raised.value.line == pytest.approx(line, abs=20)
    assert f"the gzip file is {words}" in raised.value.problem


def test_a_gzip_of_several_parts_is_read_whole_and_so_is_what_comes_before_damage(
    tmp_path: Path,
) -> None:
    path = csv(tmp_path, "time,model", "1,a", name="table.csv.gz")
    path.write_bytes(path.read_bytes() + gzip.compress(b"2,b\n3,a\n"))
    assert whole(path).model.tolist() == [0, 1, 0]
    path.write_bytes(path.read_bytes() + gzip.compress(b"4,b\n")[:-3])
    with pytest.raises(WorkloadError, match="cut short after this line") as raised:
        table.load(path)
    assert raised.value.line == 5


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table.parquet"])
def test_a_file_that_cannot_be_opened_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).mkdir()
    with pytest.raises(WorkloadError, match=rf"folder/{name}: cannot be read.* directory"):
        table.load(tmp_path / "folder" / name)
    # Nobody may open this one, whatever rights they have.
    (tmp_path / name).symlink_to(tmp_path / name)
    with pytest.raises(WorkloadError, match=r"cannot be read.*symbolic links.*; allowed: a "):
        table.load(tmp_path / name)


def test_an_endless_field_is_named_and_not_printed_whole(tmp_path: Path) -> None:
    endless = "x" * 200_000
    for line, text in ((1, f"time,{endless}"), (2, f"time,model\n1,{endless}")):
        with pytest.raises(WorkloadError, match=r"field larger than field limit \(131072\)") as at:
            table.load(csv(tmp_path, text))
        assert at.value.line == line
    shorter = "x" * 100_000
    for text in (f"time,{shorter}", f"time,model\n{shorter},a"):
        with pytest.raises(WorkloadError) as at:
            table.load(csv(tmp_path, text))
        assert len(at.value.problem) < 250


def test_many_columns_are_not_all_listed(tmp_path: Path) -> None:
    header = ",".join(f"c{number}" for number in range(1440))
    with pytest.raises(WorkloadError, match=r"the columns are c0, .*, c5, \.\.\.; allowed: time"):
        table.load(csv(tmp_path, header))


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = csv(tmp_path, "time,model", "1,a")
    path.write_bytes(path.read_bytes() + b"2,caf\xe9\n")
    with pytest.raises(WorkloadError, match="byte 0xe9 is not UTF-8") as raised:
        table.load(path)
    assert raised.value.line == 3


# --- Parquet -------------------------------------------------------------------------------------


def test_parquet_says_the_same_as_csv(tmp_path: Path) -> None:
    columns = {"time": [10.0, 10.5, 12.0], "model": ["b", "a", "b"], "service_ms": [20, 40, 25]}
    run = whole(packed(tmp_path, **columns))
    assert run.time_s.tolist() == [0, 0.5, 2]
    assert run.model.tolist() == [0, 1, 0]
    assert run.service_s is not None
    assert run.service_s.tolist() == [0.02, 0.04, 0.025]
    streamed = whole(packed(tmp_path, **columns), most_in_memory=0)
    assert streamed.time_s.tolist() == run.time_s.tolist()


def test_parquet_may_hold_timestamps_and_dictionaries(tmp_path: Path) -> None:
    zoned = pa.array([1_000_000, 1_500_000], pa.timestamp("us", "Europe/Berlin"))
    models = pa.array(["a", "b"]).dictionary_encode()
    assert whole(packed(tmp_path, time=zoned, model=models)).time_s.tolist() == [0, 0.5]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"time": [1.0, None], "model": ["a", "b"]}, "row 2: time is empty; allowed: seconds"),
        ({"time": [1.0, np.nan], "model": ["a", "b"]}, "row 2: time is 'nan'; allowed"),
        ({"time": [-1.0], "model": ["a"]}, "row 1: time is '-1'; allowed"),
        ({"time": [1.0, 2.0], "model": ["a", None]}, "row 2: model is empty; allowed: a name"),
        ({"time": [1.0], "model": [""]}, "row 1: model is ''; allowed: a name"),
        ({"time": [1.0], "model": [7]}, "model is of type int64; allowed: text"),
        ({"time": ["1"], "model": ["a"]}, "time is of type string; allowed: seconds"),
        ({"time": [datetime(2026, 1, 1)], "model": ["a"]}, "time is of type timestamp[us]"),  # noqa: DTZ001
        ({"time": [1.0], "name": ["a"]}, "the columns are time, name; allowed: time and model"),
        ({"time": pa.array([], pa.float64()), "model": pa.array([], pa.string())}, "no row"),
    ],
)
def test_bad_parquet_names_the_row(tmp_path: Path, columns: dict[str, object], words: str) -> None:
    with pytest.raises(WorkloadError) as raised:
        table.load(packed(tmp_path, **columns))
    assert words in raised.value.problem


def test_parquet_text_that_is_not_utf8_names_the_row(tmp_path: Path) -> None:
    odd = pa.array([b"a", b"caf\xe9"]).view(pa.string())
    with pytest.raises(WorkloadError, match="row 2: model holds byte 0xe9, which is not UTF-8"):
        table.load(packed(tmp_path, time=[1.0, 2.0], model=odd))


def test_parquet_cut_short_is_told(tmp_path: Path) -> None:
    path = packed(tmp_path, time=[1.0], model=["a"])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(WorkloadError, match="cannot be read as Parquet"):
        table.load(path)
    with pytest.raises(WorkloadError, match="cannot be read as Parquet"):
        table.load(tmp_path / "nowhere.parquet")
