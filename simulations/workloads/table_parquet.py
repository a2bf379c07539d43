"""A table of arrivals as Parquet. Needs pyarrow, which comes with the extra ``simulate``.

Owns how columns of Arrow become rows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulations.workloads import lines
from simulations.workloads.arrivals import WorkloadError
from simulations.workloads.table_csv import check_columns
from simulations.workloads.table_rows import ALLOWED, Names, Rows, check, refusal

_BATCH_ROWS = 1 << 17
_NANOSECOND = 1e-9


def batches(path: Path, columns: list[str] | None = None) -> Iterator[Any]:
    """The file's record batches.

    Raises WorkloadError: it is no Parquet file, is cut short, lacks one of the columns, or there
    is no pyarrow to read it with.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ModuleNotFoundError:
        problem = "reading Parquet takes pyarrow; install the extra: remora[simulate]"
        raise WorkloadError(path, None, problem) from None
    try:
        with parquet.ParquetFile(path) as file:
            there = list(file.schema_arrow.names)
            missing = [column for column in columns or there if column not in there]
            if missing:
                needed = ", ".join(columns or [])
                problem = f"the columns are {lines.listed(there)}; allowed: {needed}"
                raise WorkloadError(path, None, problem)
            if not file.metadata.num_rows:
                raise WorkloadError(path, None, "no row; allowed: one or more")
            yield from file.iter_batches(_BATCH_ROWS, columns=columns)
    except (pyarrow.ArrowException, OSError) as error:
        problem = f"cannot be read as Parquet: {error}; allowed: a whole Parquet file"
        raise WorkloadError(path, None, problem) from None


def read(path: Path, names: Names) -> Iterator[Rows]:
    """The file's rows. Raises WorkloadError with the row that cannot be used, counted from 1."""

    def error(row: int, column: str, value: str, allowed: str) -> WorkloadError:
        return WorkloadError(path, None, f"row {row}: {column} is {value!r}; allowed: {allowed}")

    first = 1
    for batch in batches(path):
        check_columns(path, None, batch.schema.names)
        where = np.arange(first, first + len(batch))
        numbers = {
            column: numeric(path, batch, column, first, ALLOWED[column])
            for column in ("time", "service_ms", "weight")
            if column in batch.schema.names
        }
        model = names.places(words := texts(path, batch, "model", first))
        if isinstance(model, int):
            raise error(first + model, "model", *refusal(words[model]))
        service_ms, weight = numbers.get("service_ms"), numbers.get("weight")
        rows = Rows(where, numbers["time"], model, service_ms, weight)
        check(rows, error)
        yield rows
        first += len(batch)


def texts(path: Path, batch: Any, column: str, first: int) -> list[str]:
    """A column of text."""
    import pyarrow

    values = batch.column(column)
    if pyarrow.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if not (pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type)):
        raise WorkloadError(path, None, f"{column} is of type {values.type}; allowed: text")
    _complete(path, values, column, first, "a name")
    try:
        words: list[str] = values.to_pylist()
    except UnicodeDecodeError:
        raise _not_text(path, values, column, first) from None
    return words


def _not_text(path: Path, values: Any, column: str, first: int) -> WorkloadError:
    """The error of the first of these values that is not UTF-8."""
    for row, value in enumerate(values, first):
        try:
            value.as_py()
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            problem = f"row {row}: {column} holds byte {byte:#04x}, which is not UTF-8"
            return WorkloadError(path, None, f"{problem}; allowed: UTF-8 text")
    raise AssertionError("values that could not be read at once can be read one by one")


def numeric(
    path: Path, batch: Any, column: str, first: int, allowed: str, *, gaps: bool = False
) -> NDArray[np.float64]:
    """A column of numbers, or of times with a zone as seconds since 1970.

    gaps: it may be empty in places, which become NaN.
    """
    import pyarrow

    values = batch.column(column)
    if not gaps:
        _complete(path, values, column, first, allowed)
    kind, types = values.type, pyarrow.types
    if types.is_timestamp(kind) and kind.tz is not None:
        stamps = values.cast(pyarrow.timestamp("ns", "UTC"), safe=False).cast(pyarrow.int64())
        return np.asarray(stamps.to_numpy(zero_copy_only=False) * _NANOSECOND, np.float64)
    if types.is_floating(kind) or types.is_integer(kind) or types.is_decimal(kind):
        return np.asarray(values.to_numpy(zero_copy_only=False), np.float64)
    raise WorkloadError(path, None, f"{column} is of type {kind}; allowed: {allowed}")


def _complete(path: Path, values: Any, column: str, first: int, allowed: str) -> Any:
    if values.null_count:
        row = first + int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise WorkloadError(path, None, f"row {row}: {column} is empty; allowed: {allowed}")
    return values
