"""The journal's form: one JSON line per tick, from which that tick can be decided again.

Owns how a tick is written as text and read back. Refuses to know files, clocks and what
a plan means.

A line is a keyframe (it has ``v``, the format's version) or a change against the line
before it, and both have the same shape: a keyframe is a change against nothing.

- ``n`` counts the lines since the keyframe, so that a missing line is noticed.
- ``policy``, ``actions`` and ``holds`` stand there whole, and only when they changed.
- ``snapshot`` holds the changed keys, ``models`` and ``devices`` by name. These are JSON
  merge patches (RFC 7396): null takes a key or a record away.
- ``history`` is what differs from the history which the line before decided, so it is
  almost always absent; ``next`` is what this tick changed in it.
- ``flows`` and ``demand`` are the numbers that change whenever a model is used, as rows
  by model. The keyframe's ``columns`` name their places. ``flows`` are measured anew
  each tick, and a model without such a row had none; a row of ``demand`` stays in force.

A number is written as it is, never rounded: what is read back decides the same. Numbers
that are not finite are written as the strings "Infinity", "-Infinity" and "NaN".
Mappings may come back in another order, which no decision depends on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from policies.actions import Action, Hold, Load, Unload
from policies.history import History, ModelHistory
from policies.snapshot import Device, Model, Snapshot

VERSION = 1
FLOWS = ("arrivals", "executions", "queue_s", "compute_s")
DEMAND = ("fast_rate", "slow_rate", "rate_at_s", "uses", "last_use_s", "credit")
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


class Recorder:
    """Turns successive ticks into lines, each against the one before.

    keyframe_every: lines from one keyframe to the next. A longer stretch is smaller and
        loses more to a damaged line.
    """

    def __init__(self, keyframe_every: int) -> None:
        if keyframe_every < 1:
            raise ValueError(f"keyframe_every is {keyframe_every}; it must be at least 1")
        self._keyframe_every = keyframe_every
        self._written = _Written()
        self._unbroken = False

    def restart(self) -> None:
        """The lines before are gone from the reader's sight: a keyframe comes next."""
        self._unbroken = False

    def line(self, tick: Tick) -> str:
        """The line for ``tick``, without its line feed."""
        keyframe = not self._unbroken or self._written.lines == self._keyframe_every
        # Should encoding raise, the state below is half a tick ahead of the lines, and
        # only a keyframe may follow.
        self._unbroken = False
        if keyframe:
            self._written = _Written()
        document = self._written.change(tick)
        if keyframe:
            document = {"v": VERSION, "columns": COLUMNS, **document}
        text = to_json(document, inf_nan_mode="strings").decode()
        self._unbroken = True
        return text


def read(lines: Iterable[str]) -> Iterator[Tick]:
    """The ticks that ``lines`` tell, one by one as the lines come.

    A crash tears the line that was being written: lines that are not JSON are passed over
    where the stream ends or a keyframe follows.

    Raises:
        JournalError: any other line that cannot be understood, or was written in a form
            that this reader does not know.
    """
    retold = _Retold()
    torn: JournalError | None = None
    for number, line in enumerate(lines, 1):
        try:
            # Encoding refuses the surrogates that stand for bytes which are not UTF-8.
            document = from_json(line.encode())
        except ValueError as error:
            torn = torn or JournalError(number, f"not JSON: {error}")
            continue
        try:
            keyframe = _is_keyframe(document)
            if torn and not keyframe:
                raise torn
            torn = None
            if keyframe:
                retold = _Retold()
            tick = retold.tick(_Line.model_validate(document))
        except ValidationError as error:
            raise JournalError(number, _explanation(error)) from error
        except _MalformedError as error:
            raise JournalError(number, str(error)) from error
        yield tick


# --- how one kind of record is laid out ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layout(Generic[R]):
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
) -> _Layout[R]:
    defaults = {each.name: each.default for each in fields(kind)}
    assert all(defaults[column] is not MISSING for column in columns)
    return _Layout(
        adapter=adapter,
        columns=columns,
        transient=transient,
        row_of=attrgetter(*columns) if columns else _no_row,
        rest_of=attrgetter(*(name for name in defaults if name not in columns)),
        default_row=tuple(defaults[column] for column in columns),
    )


def _no_row(record: object) -> tuple[Any, ...]:  # noqa: ARG001
    return ()


_MODELS = _layout(
    Model, TypeAdapter(dict[str, Model], config=_STRICT), columns=FLOWS, transient=True
)
_DEVICES = _layout(Device, TypeAdapter(dict[str, Device], config=_STRICT))
_REMEMBERED = _layout(
    ModelHistory, TypeAdapter(dict[str, ModelHistory], config=_STRICT), columns=DEMAND
)
_SNAPSHOT = TypeAdapter(dict[str, Snapshot], config=_STRICT)
_HISTORY = TypeAdapter(dict[str, History], config=_STRICT)
_HOLDS = TypeAdapter(list[Hold])
_LOAD = TypeAdapter(Load)
_UNLOAD = TypeAdapter(Unload)


# --- writing -------------------------------------------------------------------------------


class _WrittenTable(Generic[R]):
    """The records of one kind as the lines so far tell them."""

    def __init__(self, layout: _Layout[R]) -> None:
        self._layout: _Layout[R] = layout
        self._records: dict[str, R] = {}
        self._rests: dict[str, tuple[Any, ...]] = {}
        self._keyed: dict[str, Patch] = {}
        self._rows: dict[str, tuple[Any, ...]] = {}

    def change(self, records: Mapping[str, R]) -> tuple[dict[str, Patch | None], Patch]:
        """What to say by key, and the rows to say, so that a reader knows ``records``."""
        before, self._records = self._records, dict(records)
        patches: dict[str, Patch | None] = {}
        for name in sorted(before.keys() - records.keys()):
            patches[name] = None
            self._forget(name)
        # Records are frozen, so one that is still the same object says nothing new.
        other = {name: record for name, record in records.items() if record is not before.get(name)}
        rows = self._changed_rows(records if self._layout.transient else other)
        return patches | self._changed_keys(other), rows

    def _forget(self, name: str) -> None:
        del self._rests[name], self._keyed[name]
        self._rows.pop(name, None)

    def _changed_rows(self, records: Mapping[str, R]) -> Patch:
        layout, known = self._layout, self._rows
        rows: Patch = {}
        for name, record in records.items():
            row = layout.row_of(record)
            if row != known.get(name, layout.default_row):
                rows[name] = row
        if not layout.transient:
            known.update(rows)
        return rows

    def _changed_keys(self, records: Mapping[str, R]) -> dict[str, Patch]:
        rest_of, known = self._layout.rest_of, self._rests
        moved: dict[str, R] = {}
        for name, record in records.items():
            rest = rest_of(record)
            if known.get(name) != rest:
                moved[name] = record
                known[name] = rest
        patches: dict[str, Patch] = {}
        for name, keyed in self._layout.keyed(moved).items() if moved else ():
            patch = _difference(self._keyed.get(name, {}), keyed)
            if patch or name not in self._keyed:
                patches[name] = patch
            self._keyed[name] = keyed
        return patches


class _Written:
    """What the lines since the keyframe, that one included, have told."""

    def __init__(self) -> None:
        self.lines = 0
        self._policy: Mapping[str, Any] | None = None
        self._snapshot: Patch = {}
        self._devices = _WrittenTable(_DEVICES)
        self._models = _WrittenTable(_MODELS)
        self._history: Patch = {}
        self._remembered = _WrittenTable(_REMEMBERED)
        self._actions: tuple[Action, ...] = ()
        self._holds: tuple[Hold, ...] = ()

    def change(self, tick: Tick) -> Patch:
        document: Patch = {"n": self.lines}
        if self._policy is None or tick.policy != self._policy:
            document["policy"] = self._policy = dict(tick.policy)
        parts = {
            "snapshot": self._snapshot_change(tick.snapshot),
            "history": self._history_change(tick.history),
            "next": self._history_change(tick.next_history),
        }
        document |= _without_empty(parts)
        if tick.actions != self._actions:
            document["actions"] = [_dumped_action(action) for action in tick.actions]
            self._actions = tick.actions
        if tick.holds != self._holds:
            document["holds"] = _HOLDS.dump_python(
                list(tick.holds), mode="json", exclude_defaults=True
            )
            self._holds = tick.holds
        self.lines += 1
        return document

    def _snapshot_change(self, snapshot: Snapshot) -> Patch:
        bare = {"": replace(snapshot, devices={}, models={})}
        dumped = _SNAPSHOT.dump_python(bare, mode="json", exclude_defaults=True)[""]
        change = _difference(self._snapshot, dumped)
        self._snapshot = dumped
        devices, _ = self._devices.change(snapshot.devices)
        models, flows = self._models.change(snapshot.models)
        return change | _without_empty({"devices": devices, "models": models, "flows": flows})

    def _history_change(self, history: History) -> Patch:
        bare = {"": replace(history, models={})}
        dumped = _HISTORY.dump_python(bare, mode="json", exclude_defaults=True)[""]
        # A set has no order of its own, and the same tick should give the same line.
        if "leaving" in dumped:
            dumped["leaving"] = sorted(dumped["leaving"])
        change = _difference(self._history, dumped)
        self._history = dumped
        models, demand = self._remembered.change(history.models)
        return change | _without_empty({"models": models, "demand": demand})


def _dumped_action(action: Action) -> Patch:
    if isinstance(action, Load):
        return {"load": _LOAD.dump_python(action, mode="json", exclude_defaults=True)}
    return {"unload": _UNLOAD.dump_python(action, mode="json", exclude_defaults=True)}


def _without_empty(parts: Patch) -> Patch:
    return {key: part for key, part in parts.items() if part}


def _difference(old: Patch, new: Patch) -> Patch:
    """The merge patch that makes ``new`` of ``old``."""
    patch: Patch = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(old[key], dict):
            deeper = _difference(old[key], value)
            if deeper:
                patch[key] = deeper
        elif old[key] != value:
            patch[key] = value
    return patch


def _merged(old: Patch, patch: Patch) -> Patch:
    """What ``patch`` makes of ``old``; the inverse of `_difference`."""
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            below = old.get(key)
            new[key] = _merged(below if isinstance(below, dict) else {}, value)
        else:
            new[key] = value
    return new


# --- reading -------------------------------------------------------------------------------


class _MalformedError(Exception):
    """A line that is JSON and still makes no sense here."""


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _SnapshotForm(_Form):
    """Keys beyond the tables are the snapshot's own, and checked with it."""

    model_config = ConfigDict(extra="allow")

    devices: dict[str, Patch | None] = Field(default_factory=dict)
    models: dict[str, Patch | None] = Field(default_factory=dict)
    flows: dict[str, list[Any]] = Field(default_factory=dict)


class _HistoryForm(_Form):
    """Keys beyond the tables are the history's own, and checked with it."""

    model_config = ConfigDict(extra="allow")

    models: dict[str, Patch | None] = Field(default_factory=dict)
    demand: dict[str, list[Any]] = Field(default_factory=dict)


class _ColumnsForm(_Form):
    flows: tuple[str, ...]
    demand: tuple[str, ...]


class _ActionForm(_Form):
    """One of the two."""

    load: Load | None = None
    unload: Unload | None = None


class _Line(_Form):
    v: int | None = None
    columns: _ColumnsForm | None = None
    n: int
    policy: Patch | None = None
    snapshot: _SnapshotForm = Field(default_factory=_SnapshotForm)
    history: _HistoryForm = Field(default_factory=_HistoryForm)
    next: _HistoryForm = Field(default_factory=_HistoryForm)
    actions: tuple[_ActionForm, ...] | None = None
    holds: tuple[Hold, ...] | None = None


def _is_keyframe(document: object) -> bool:
    """Whether this line stands alone; refuses a format from another time."""
    if not isinstance(document, dict):
        raise _MalformedError("not a JSON object")
    if "v" not in document:
        return False
    if document["v"] != VERSION:
        raise _MalformedError(
            f"written in format {document['v']!r}, and this reader knows format {VERSION}"
        )
    return True


def _retold_action(form: _ActionForm) -> Action:
    action = form.load or form.unload
    if action is None or (form.load and form.unload):
        raise _MalformedError("an action must be either a load or an unload")
    return action


def _explanation(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"] if part != "")
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {where!r}: a newer writer? This reader knows format {VERSION}"
    return f"{where}: {first['msg']} (format {VERSION})"


class _RetoldTable(Generic[R]):
    """The records of one kind as the lines so far tell them, ready to be looked at."""

    def __init__(self, layout: _Layout[R]) -> None:
        self._layout: _Layout[R] = layout
        self._keyed: dict[str, Patch] = {}
        self._rows: dict[str, Patch] = {}
        self._records: dict[str, R] = {}

    def apply(
        self,
        patches: dict[str, Patch | None],
        rows: Mapping[str, list[Any]],
        columns: tuple[str, ...],
    ) -> Mapping[str, R]:
        """The records after this line; those given out before stay as they were."""
        touched = dict.fromkeys([*patches, *rows])
        if self._layout.transient:
            touched |= dict.fromkeys(self._rows)
            self._rows = {}
        if not touched:
            return self._records
        for name, patch in patches.items():
            self._patch(name, patch)
        for name, row in rows.items():
            self._rows[name] = self._row(name, row, columns)
        present = [name for name in touched if name in self._keyed]
        fresh = self._layout.adapter.validate_python(
            {name: self._keyed[name] | self._rows.get(name, {}) for name in present}
        )
        self._records = {
            name: record for name, record in self._records.items() if name in self._keyed
        } | fresh
        return self._records

    def _patch(self, name: str, patch: Patch | None) -> None:
        if patch is not None:
            self._keyed[name] = _merged(self._keyed.get(name, {}), patch)
        elif name in self._keyed:
            del self._keyed[name]
            self._rows.pop(name, None)
        else:
            raise _MalformedError(f"{name!r} goes away and was never there")

    def _row(self, name: str, row: list[Any], columns: tuple[str, ...]) -> Patch:
        if name not in self._keyed:
            raise _MalformedError(f"a row for {name!r}, which was never there")
        if len(row) != len(columns):
            raise _MalformedError(f"{len(row)} numbers for {name!r} in {len(columns)} columns")
        return dict(zip(columns, row, strict=True))


@dataclass(slots=True)
class _Retold:
    """Where the lines since the keyframe have led."""

    lines: int = 0
    columns: _ColumnsForm | None = None
    policy: Patch | None = None
    snapshot: Patch = field(default_factory=dict)
    devices: _RetoldTable[Device] = field(default_factory=lambda: _RetoldTable(_DEVICES))
    models: _RetoldTable[Model] = field(default_factory=lambda: _RetoldTable(_MODELS))
    history: Patch = field(default_factory=dict)
    remembered: _RetoldTable[ModelHistory] = field(
        default_factory=lambda: _RetoldTable(_REMEMBERED)
    )
    actions: tuple[Action, ...] = ()
    holds: tuple[Hold, ...] = ()

    def tick(self, line: _Line) -> Tick:
        columns = self.columns = line.columns or self.columns
        policy = self.policy = self.policy if line.policy is None else line.policy
        if columns is None or policy is None:
            raise _MalformedError("no complete keyframe comes before this change")
        if line.n != self.lines:
            raise _MalformedError(f"number {line.n} since the keyframe, expected {self.lines}")
        self.lines += 1
        if line.actions is not None:
            self.actions = tuple(_retold_action(form) for form in line.actions)
        if line.holds is not None:
            self.holds = line.holds
        return Tick(
            policy=policy,
            snapshot=self._snapshot(line.snapshot, columns),
            history=self._history(line.history, columns),
            actions=self.actions,
            holds=self.holds,
            next_history=self._history(line.next, columns),
        )

    def _snapshot(self, form: _SnapshotForm, columns: _ColumnsForm) -> Snapshot:
        self.snapshot = _merged(self.snapshot, form.model_extra or {})
        (bare,) = _SNAPSHOT.validate_python({"": self.snapshot}).values()
        devices = self.devices.apply(form.devices, {}, ())
        models = self.models.apply(form.models, form.flows, columns.flows)
        return replace(bare, devices=devices, models=models)

    def _history(self, form: _HistoryForm, columns: _ColumnsForm) -> History:
        self.history = _merged(self.history, form.model_extra or {})
        (bare,) = _HISTORY.validate_python({"": self.history}).values()
        models = self.remembered.apply(form.models, form.demand, columns.demand)
        return replace(bare, models=models)
