"""Reads lines as ticks, and says what is wrong with one that makes no sense."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from policies.actions import Action, Hold, Load, Unload
from policies.history import History, ModelHistory
from policies.journal.form import (
    DEVICES,
    HISTORY,
    MODELS,
    REMEMBERED,
    SNAPSHOT,
    VERSION,
    JournalError,
    Layout,
    Patch,
    R,
    Tick,
    merged,
)
from policies.snapshot import Device, Model, Snapshot


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

    def __init__(self, layout: Layout[R]) -> None:
        self._layout: Layout[R] = layout
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
            self._keyed[name] = merged(self._keyed.get(name, {}), patch)
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
    devices: _RetoldTable[Device] = field(default_factory=lambda: _RetoldTable(DEVICES))
    models: _RetoldTable[Model] = field(default_factory=lambda: _RetoldTable(MODELS))
    history: Patch = field(default_factory=dict)
    remembered: _RetoldTable[ModelHistory] = field(default_factory=lambda: _RetoldTable(REMEMBERED))
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
        self.snapshot = merged(self.snapshot, form.model_extra or {})
        (bare,) = SNAPSHOT.validate_python({"": self.snapshot}).values()
        devices = self.devices.apply(form.devices, {}, ())
        models = self.models.apply(form.models, form.flows, columns.flows)
        return replace(bare, devices=devices, models=models)

    def _history(self, form: _HistoryForm, columns: _ColumnsForm) -> History:
        self.history = merged(self.history, form.model_extra or {})
        (bare,) = HISTORY.validate_python({"": self.history}).values()
        models = self.remembered.apply(form.models, form.demand, columns.demand)
        return replace(bare, models=models)
