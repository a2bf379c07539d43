"""Writes ticks as lines."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Generic

from pydantic import TypeAdapter
from pydantic_core import to_json

from policies.actions import Action, Hold, Load, Unload
from policies.history import History
from policies.journal.form import (
    COLUMNS,
    DEVICES,
    HISTORY,
    MODELS,
    REMEMBERED,
    SNAPSHOT,
    VERSION,
    Layout,
    Patch,
    R,
    Tick,
    difference,
)
from policies.snapshot import Snapshot

_HOLDS = TypeAdapter(list[Hold])
_LOAD = TypeAdapter(Load)
_UNLOAD = TypeAdapter(Unload)


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


class _WrittenTable(Generic[R]):
    """The records of one kind as the lines so far tell them."""

    def __init__(self, layout: Layout[R]) -> None:
        self._layout: Layout[R] = layout
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
            patch = difference(self._keyed.get(name, {}), keyed)
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
        self._devices = _WrittenTable(DEVICES)
        self._models = _WrittenTable(MODELS)
        self._history: Patch = {}
        self._remembered = _WrittenTable(REMEMBERED)
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
        dumped = SNAPSHOT.dump_python(bare, mode="json", exclude_defaults=True)[""]
        change = difference(self._snapshot, dumped)
        self._snapshot = dumped
        devices, _ = self._devices.change(snapshot.devices)
        models, flows = self._models.change(snapshot.models)
        return change | _without_empty({"devices": devices, "models": models, "flows": flows})

    def _history_change(self, history: History) -> Patch:
        bare = {"": replace(history, models={})}
        dumped = HISTORY.dump_python(bare, mode="json", exclude_defaults=True)[""]
        # A set has no order of its own, and the same tick should give the same line.
        if "leaving" in dumped:
            dumped["leaving"] = sorted(dumped["leaving"])
        change = difference(self._history, dumped)
        self._history = dumped
        models, demand = self._remembered.change(history.models)
        return change | _without_empty({"models": models, "demand": demand})


def _dumped_action(action: Action) -> Patch:
    if isinstance(action, Load):
        return {"load": _LOAD.dump_python(action, mode="json", exclude_defaults=True)}
    return {"unload": _UNLOAD.dump_python(action, mode="json", exclude_defaults=True)}


def _without_empty(parts: Patch) -> Patch:
    return {key: part for key, part in parts.items() if part}
