"""What writing and reading a journal share: the tick, the layout of records, merge patches."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from operator import attrgetter
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter

from policies.actions import Action, Hold
from policies.history import History, ModelHistory
from policies.snapshot import Device, Model, Snapshot

VERSION = 4
FLOWS = ("arrivals", "served", "executions", "queue_s", "compute_s", "busy_s")
DEMAND = ("fast_rate", "slow_rate", "rate_at_s", "uses", "last_use_s", "credit", "work")
COLUMNS = {"flows": FLOWS, "demand": DEMAND}

R = TypeVar("R", bound=Model | Device | ModelHistory)
Patch = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tick:
    """One decision and all that it looked at.

    policy: the effective policy as JSON-able values.
    history: what was remembered before the decision, next_history after it.
    Mappings inside the policy and inside records must be plain dicts to be written.
    """

    policy: Mapping[str, Any]
    snapshot: Snapshot
    history: History
    actions: tuple[Action, ...]
    holds: tuple[Hold, ...]
    next_history: History


class JournalError(ValueError):
    """A line that cannot be understood, and is not merely the torn end of a crash."""

    def __init__(self, line_number: int, what: str) -> None:
        super().__init__(f"journal line {line_number}: {what}")
        self.line_number = line_number
        self.what = what


@dataclass(frozen=True, slots=True)
class Layout(Generic[R]):
    """What of a record travels as a row, and what by key.

    transient: its row counts for one tick only.
    """

    adapter: TypeAdapter[dict[str, R]]
    columns: tuple[str, ...]
    transient: bool
    row_of: Callable[[R], tuple[Any, ...]]
    rest_of: Callable[[R], tuple[Any, ...]]
    default_row: tuple[Any, ...]

    def keyed(self, records: dict[str, R]) -> dict[str, Patch]:
        """The records as JSON-able mappings, without their rows and their defaults.

        Every field that may be None has None for its default (a test says so), and so a
        null can mean that a key went away.
        """
        dumped = self.adapter.dump_python(records, mode="json", exclude_defaults=True)
        return {
            name: {key: value for key, value in record.items() if key not in self.columns}
            for name, record in dumped.items()
        }


# The configuration of a container reaches the stdlib dataclasses inside it, which can have
# none of their own; so every adapter here is one of a mapping.
_STRICT = ConfigDict(extra="forbid")


def _layout(
    kind: type[R],
    adapter: TypeAdapter[dict[str, R]],
    columns: tuple[str, ...] = (),
    transient: bool = False,
) -> Layout[R]:
    defaults = {each.name: each.default for each in fields(kind)}
    assert all(defaults[column] is not MISSING for column in columns)
    return Layout(
        adapter=adapter,
        columns=columns,
        transient=transient,
        row_of=attrgetter(*columns) if columns else _no_row,
        rest_of=attrgetter(*(name for name in defaults if name not in columns)),
        default_row=tuple(defaults[column] for column in columns),
    )


def _no_row(record: object) -> tuple[Any, ...]:  # noqa: ARG001
    return ()


MODELS = _layout(
    Model, TypeAdapter(dict[str, Model], config=_STRICT), columns=FLOWS, transient=True
)
DEVICES = _layout(Device, TypeAdapter(dict[str, Device], config=_STRICT))
REMEMBERED = _layout(
    ModelHistory, TypeAdapter(dict[str, ModelHistory], config=_STRICT), columns=DEMAND
)
SNAPSHOT = TypeAdapter(dict[str, Snapshot], config=_STRICT)
HISTORY = TypeAdapter(dict[str, History], config=_STRICT)


def difference(old: Patch, new: Patch) -> Patch:
    """The merge patch that makes ``new`` of ``old``."""
    patch: Patch = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(old[key], dict):
            deeper = difference(old[key], value)
            if deeper:
                patch[key] = deeper
        elif old[key] != value:
            patch[key] = value
    return patch


def merged(old: Patch, patch: Patch) -> Patch:
    """What ``patch`` makes of ``old``; the inverse of `difference`."""
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            below = old.get(key)
            new[key] = merged(below if isinstance(below, dict) else {}, value)
        else:
            new[key] = value
    return new
