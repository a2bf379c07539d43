"""What the public files of Azure Functions 2019 tell of the functions themselves.

Owns their names, and the files of durations and of memory. Knows nothing of calls.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from simulations.workloads import lines
from simulations.workloads.arrivals import WorkloadError

# Owner, app and function, as the file has them; empty what it does not tell.
Identity = tuple[str, str, str]
IDENTITY = ("HashOwner", "HashApp", "HashFunction")

_HASH = re.compile(r"[0-9a-f]{32,}")
_SHORT = 8
_MEDIAN, _AVERAGE = "percentile_Average_50", "Average"
_ALLOCATED = "AverageAllocatedMb"
# The files tell whole milliseconds: 0 is anything below one.
_SHORTEST_S = 0.001
_MOST = 1e9


def named(functions: Sequence[Identity]) -> dict[Identity, str]:
    """A name for each: its function's hash, shortened; where several share that, with the app's,
    and the owner's, behind it."""
    owner, app, own = (_shortened(part) for part in zip(*functions, strict=True))
    names = {function: own[function[2]] for function in functions}
    for further, part in ((app, 1), (owner, 0)):
        often = Counter(names.values())
        names = {
            function: f"{name}.{further[function[part]]}" if often[name] > 1 else name
            for function, name in names.items()
        }
    return names


def _shortened(words: Sequence[str]) -> dict[str, str]:
    """Hashes by their first digits, as many as tell them apart; other words as they are."""
    distinct = dict.fromkeys(words)
    if not all(_HASH.fullmatch(word) for word in distinct):
        return {word: word for word in distinct}
    digits = _SHORT
    while len({word[:digits] for word in distinct}) < len(distinct):
        digits += 1
    return {word: word[:digits] for word in distinct}


def service_s(path: Path, names: Mapping[Identity, str]) -> dict[str, float]:
    """Seconds of one call, for the models the file tells of: the median, else the average."""
    return {
        name: max(milliseconds / 1000, _SHORTEST_S)
        for name, milliseconds in _said(path, (_MEDIAN, _AVERAGE), names)
    }


def size_bytes(path: Path, names: Mapping[Identity, str]) -> dict[str, int]:
    """Bytes of memory, for the models the file tells of.

    The public file tells of whole apps; there, each function of an app is as large as the app.
    """
    return {
        name: round(megabytes * 2**20)
        for name, megabytes in _said(path, (_ALLOCATED,), names)
        if megabytes > 0
    }


def _said(
    path: Path, columns: tuple[str, ...], names: Mapping[Identity, str]
) -> Iterator[tuple[str, float]]:
    """The number in the first of the columns that the file has, for each model of each line."""
    rows = lines.numbered(path)
    number, text = next(rows, (0, ""))
    if not number:
        raise WorkloadError(path, None, "empty; allowed: a header and one line for each function")
    header = lines.fields(path, number, text)
    keys = [column for column in IDENTITY if column in header]
    wanted = next((column for column in columns if column in header), None)
    if not {"HashApp", "HashFunction"} & set(keys) or wanted is None:
        needed = f"HashOwner, HashApp, HashFunction and {' or '.join(columns)}"
        raise WorkloadError(path, number, f"columns {lines.listed(header)}; allowed: {needed}")
    places, at = [header.index(column) for column in keys], header.index(wanted)
    models: dict[tuple[str, ...], list[str]] = {}
    for identity, name in names.items():
        key = tuple(identity[IDENTITY.index(column)] for column in keys)
        models.setdefault(key, []).append(name)
    for line, row in rows:
        fields = lines.fields(path, line, row)
        if len(fields) != len(header):
            problem = f"{len(fields)} fields; allowed: {len(header)}, as the header has"
            raise WorkloadError(path, line, problem)
        amount = _amount(path, line, wanted, fields[at])
        for name in models.get(tuple(fields[place].strip() for place in places), ()):
            yield name, amount


def _amount(path: Path, line: int, column: str, text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 <= amount <= _MOST:
        raise lines.wrong(path, line, column, text, f"a number from 0 to {_MOST:.0e}")
    return amount
