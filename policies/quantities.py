"""Amounts as people write them (``4GiB``, ``80%``, ``5m``, ``18:00``) as plain numbers.

Owns the reading of units. Refuses to know what an amount is for.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

_BYTES = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_SMALLEST_SHARE_BYTES = 2**20
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER_WITH_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_ENDLESS = 1e18
_FRACTION = re.compile(r"\s*\d*\.\d+\s*")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})")


def _number_and_unit(value: Any) -> tuple[float, str]:
    if isinstance(value, bool):
        raise ValueError("a number with a unit is needed")
    match = _NUMBER_WITH_UNIT.fullmatch(value) if isinstance(value, str) else None
    if match:
        number, unit = float(match[1]), match[2]
    elif isinstance(value, int | float):
        # Clamped, for a whole number may be beyond the floats; every range ends long before.
        number, unit = float(min(max(value, -_ENDLESS), _ENDLESS)), ""
    else:
        raise ValueError("a number with a unit is needed")
    if not abs(number) < _ENDLESS:
        raise ValueError("out of range")
    return number, unit


def parse_bytes(value: Any) -> int:
    """``"4GiB"``, ``"4Gi"``, ``"4GB"`` or a whole number of bytes, as bytes."""
    number, unit = _number_and_unit(value)
    if unit.upper() not in _BYTES:
        raise ValueError(f"{unit!r} is not a unit of memory")
    return round(number * _BYTES[unit.upper()])


def parse_seconds(value: Any) -> float:
    """``"250ms"``, ``"30s"``, ``"5m"``, ``"1h"``, ``"7d"`` or a number of seconds."""
    number, unit = _number_and_unit(value)
    if unit.lower() not in _SECONDS:
        raise ValueError(f"{unit!r} is not a unit of time")
    return number * _SECONDS[unit.lower()]


def parse_share(value: Any) -> int | float:
    """A share of a device: ``"80%"`` or ``0.8`` as a float, ``"20GiB"`` as whole bytes."""
    if isinstance(value, str) and value.strip().endswith("%"):
        share = parse_bytes(value.strip().removesuffix("%") + "KB") / 100_000
    elif isinstance(value, float) or (isinstance(value, str) and _FRACTION.fullmatch(value)):
        # Templates like to quote what they fill in: "0.8" is no amount of bytes.
        share = float(value)
    else:
        amount = parse_bytes(value)
        if amount < _SMALLEST_SHARE_BYTES:
            # Whoever writes 1 or 80 means a share, and would get a budget of bytes.
            raise ValueError("out of range")
        return amount
    if not 0 < share <= 1:
        raise ValueError("out of range")
    return share


def parse_minutes(value: Any) -> int:
    """``"18:00"`` as minutes after midnight; YAML itself reads an unquoted 18:00 as 1080."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[2]) > 59:
        raise ValueError("a time of day is needed")
    return int(match[1]) * 60 + int(match[2])


def format_bytes(amount_bytes: float) -> str:
    """The amount in the largest binary unit that keeps it above one."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(amount_bytes) >= size:
            return f"{amount_bytes / size:.4g} {unit}"
    return f"{amount_bytes:.0f} B"


@dataclass(frozen=True, slots=True)
class _Quantity:
    """Annotates a field that is written with its unit: reads it, bounds it, describes it."""

    read: Callable[[Any], float]
    low: float
    high: float
    allowed: str
    open_low: bool = False

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self._bounded, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, {"type": "number"}], "x-allowed": self.allowed}

    def _bounded(self, value: Any) -> float:
        number = self.read(value)
        if number < self.low or number > self.high or (self.open_low and number == self.low):
            raise ValueError("out of range")
        return number


def duration(low_s: float, high_s: float, allowed: str, *, open_low: bool = False) -> _Quantity:
    return _Quantity(parse_seconds, low_s, high_s, allowed, open_low)


_YEAR_S = 366 * 86400

Seconds = Annotated[float, duration(0, _YEAR_S, "a duration from 0s to 366d, as 30s, 5m or 1h")]
PositiveSeconds = Annotated[
    float,
    duration(0, _YEAR_S, "a duration above 0s up to 366d, as 250ms, 30s or 5m", open_low=True),
]
Bytes = Annotated[
    int, _Quantity(parse_bytes, 0, 2**50, "an amount of memory from 0 to 1024TiB, as 4GiB")
]
PositiveBytes = Annotated[
    int,
    _Quantity(
        parse_bytes, 0, 2**50, "an amount of memory above 0 up to 1024TiB, as 4GiB", open_low=True
    ),
]
Share = Annotated[
    int | float,
    _Quantity(
        parse_share,
        0,
        2**50,
        "a percentage above 0% up to 100%, or an amount from 1MiB to 1024TiB, as 20GiB",
        open_low=True,
    ),
]
MinuteOfDay = Annotated[
    int, _Quantity(parse_minutes, 0, 1440, "a time of day from 00:00 to 24:00, as 08:30")
]
