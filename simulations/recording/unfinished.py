"""What is kept beside the target until a recording is whole.

Owns a folder of Parquet parts and one small state file: which recording it is, how far it has
come, what the next piece has to know. A part is written before the state that counts it, and
each appears whole or not at all, so that a kill at any time costs at most one piece.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from simulations.recording.counting import Carry, LastSeen, Rows, Scraped, Stretch, merged
from simulations.recording.errors import TargetTaken
from simulations.recording.spec import RecordSpec, Span

_STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a recording has come.

    done: steps of the range that lie behind. parts: how many files hold them.
    models: all that were seen, with requests or without. measured: the steps with a scrape.
    piece: steps to fetch next.
    """

    span: Span
    piece: int
    done: int = 0
    parts: int = 0
    models: tuple[str, ...] = ()
    measured: tuple[Stretch, ...] = ()
    carry: Carry = field(default_factory=Carry)

    def further(
        self, steps: int, models: set[str], measured: list[Stretch], carry: Carry
    ) -> "Reached":
        return replace(
            self,
            done=self.done + steps,
            parts=self.parts + 1,
            models=tuple(sorted({*self.models, *models})),
            measured=tuple(merged([*self.measured, *measured])),
            carry=carry,
        )


class Unfinished:
    """The folder beside ``target``; raises TargetTaken where other arguments left it."""

    def __init__(self, target: Path, spec: RecordSpec) -> None:
        self._folder = target.with_name(f"{target.name}.parts")
        self._identity = spec.identity()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the folder against other processes; the system lets go should this one die."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                problem = "is being written by another process"
                raise TargetTaken(f"{self._folder} {problem}") from None
            yield

    def reached(self) -> Reached | None:
        """How far an earlier run came; None where there was none."""
        path = self._folder / _STATE
        if not path.exists():
            return None
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            identity, reached = state["recording"], _reached(state)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TargetTaken(f"{path} is damaged ({error}); remove {self._folder}") from None
        if identity != self._identity:
            raise TargetTaken(
                f"{self._folder} holds the start of another recording"
                f" ({different(identity, self._identity)}); go on with the same arguments, or"
                " remove it"
            )
        return reached

    def keep(self, rows: Rows, reached: Reached) -> None:
        """Writes the newest part, and then that it counts."""
        columns = {
            "first": rows.first,
            "steps": rows.steps,
            "model": pa.array(rows.model.tolist(), pa.string()),
            "requests": rows.requests,
        }
        write_whole(self._part(reached.parts - 1), pa.table(columns))
        self.note(reached)

    def note(self, reached: Reached) -> None:
        path = self._folder / _STATE
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(_state(self._identity, reached)), encoding="utf-8")
        os.replace(draft, path)

    def rows(self, reached: Reached) -> list[Rows]:
        """What every part holds, with models as places in ``reached.models``."""
        names = pa.array(reached.models, pa.string())
        return [_rows(pq.read_table(self._part(each)), names) for each in range(reached.parts)]

    def remove(self) -> None:
        shutil.rmtree(self._folder)

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:05}.parquet"


def write_whole(path: Path, table: Any) -> None:
    """Writes a Parquet file that appears whole or not at all."""
    draft = path.with_name(f"{path.name}.draft")
    pq.write_table(table, draft, compression="zstd")
    os.replace(draft, path)


def different(one: Any, other: Any) -> str:
    """In words, in what two recordings differ."""
    names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    return ", ".join(f"{name} {one.get(name)!r}, not {other.get(name)!r}" for name in names)


def _rows(table: Any, names: Any) -> Rows:
    columns = {name: table.column(name).to_numpy() for name in ("first", "steps", "requests")}
    model = pc.index_in(table.column("model"), names).to_numpy()
    return Rows(columns["first"], columns["steps"], model, columns["requests"])


def _state(identity: dict[str, object], reached: Reached) -> dict[str, object]:
    carry = reached.carry
    return {
        "recording": identity,
        "span": asdict(reached.span),
        "piece": reached.piece,
        "done": reached.done,
        "parts": reached.parts,
        "models": reached.models,
        "measured": reached.measured,
        "series": [
            [key, *seen.target, seen.time_ms, seen.value, seen.absent]
            for key, seen in sorted(carry.series.items())
        ],
        "targets": [
            [*target, scraped.times, scraped.last_ms]
            for target, scraped in sorted(carry.targets.items())
        ],
    }


def _reached(state: dict[str, Any]) -> Reached:
    series = {
        key: LastSeen((job, instance), time_ms, value, absent)
        for key, job, instance, time_ms, value, absent in state["series"]
    }
    targets = {
        (job, instance): Scraped(times, last_ms)
        for job, instance, times, last_ms in state["targets"]
    }
    return Reached(
        Span(**state["span"]),
        state["piece"],
        state["done"],
        state["parts"],
        tuple(state["models"]),
        tuple((first, end) for first, end in state["measured"]),
        Carry(series, targets),
    )
