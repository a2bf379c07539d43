"""What the journal costs: bytes per tick, megabytes per day, microseconds per tick.

Run: python -m tests.bench.journal_size [ticks]

The traffic is imagined directly, without a planner: in each second about 40 of 100
models are used, a model leaves and another comes every 20 s, and most ticks say anew
why something wanted did not happen. What is remembered of it is the real history.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from daemon.journal import JournalWriter, open_journal
from policies.actions import Action, Hold, Load, Reason, Unload
from policies.demand import advance
from policies.history import NOTHING, History
from policies.journal import Recorder, Tick, read
from policies.snapshot import Device, Footprint, FootprintSource, Model, ModelState, Snapshot
from policies.source import effective, parse

DAY_S = 86_400
START_S = 1_764_028_800.0
MODELS = 100
USED_PER_TICK = 40
SWAP_EVERY_TICKS = 20
DEVICES = ("GPU-5a1cfa35-7e02-4a0c-9f6d-2f3f0b1f6c11", "GPU-9d2be8b4-02d4-4be5-8a61-61d5a3a1c7e0")
KINDS = ("resnet50", "bert-base-uncased", "whisper-small", "dlrm", "t5-large", "yolo-v8", "e5")
TEAMS = ("vision", "search", "ads", "speech", "ranking")
POLICY = parse("""
preset: balanced
models:
  "ads/*": {weight: 2}
  "search/*": {pin: true}
""")


@dataclass
class Traffic:
    """A seeded second-by-second world of models; not a simulator, only plausible numbers."""

    random: Random
    names: list[str] = field(init=False)
    models: dict[str, Model] = field(init=False)
    history: History = field(default_factory=History)
    arriving: str = ""
    leaving: str = ""

    def __post_init__(self) -> None:
        pick = self.random.choice
        self.names = [f"{pick(TEAMS)}/{pick(KINDS)}-{i:03d}" for i in range(MODELS)]
        self.models = {name: self._model(name, i) for i, name in enumerate(self.names)}

    def _model(self, name: str, index: int) -> Model:
        footprint = {self.random.choice(DEVICES): self.random.randrange(1 << 28, 1 << 33)}
        resident = index % 5 < 3
        return Model(
            name,
            state=ModelState.READY if resident else ModelState.UNLOADED,
            footprint=Footprint(footprint, FootprintSource.MEASURED),
            load_s=self.random.lognormvariate(2, 0.7),
            in_flight=0,
            pending=0 if resident else None,
            revision=f"{self.random.getrandbits(64):016x}",
        )

    def ticks(self, count: int) -> Iterator[Tick]:
        for index in range(count):
            now_s = START_S + index + self.random.random() * 0.003
            actions = self._swap(index)
            self._use()
            snapshot = Snapshot(now_s, True, self._devices(), dict(self.models))
            next_history = self._remember(snapshot)
            yield Tick(
                policy=effective(POLICY),
                snapshot=snapshot,
                history=self.history,
                actions=actions,
                holds=tuple(self._holds(now_s)),
                next_history=next_history,
            )
            self.history = next_history

    def _swap(self, index: int) -> tuple[Action, ...]:
        phase = index % SWAP_EVERY_TICKS
        if phase == 0:
            by_state: dict[ModelState, list[str]] = {}
            for name, model in self.models.items():
                by_state.setdefault(model.state, []).append(name)
            self.leaving = self.random.choice(by_state[ModelState.READY])
            self.arriving = self.random.choice(by_state[ModelState.UNLOADED])
            return (Unload(self.leaving, Reason.EVICTED, for_model=self.arriving),)
        if phase == 1:
            self._set(self.leaving, state=ModelState.UNLOADING, pending=None)
        if phase == 3:
            self._set(self.leaving, state=ModelState.UNLOADED)
            return (Load(self.arriving, Reason.DEMANDED, brings=(self.arriving,)),)
        if 4 <= phase < 12:
            self._set(self.arriving, state=ModelState.LOADING, waiting=phase - 3)
            self._set(self.arriving, oldest_wait_s=phase - 3 + self.random.random() * 0.003)
        if phase == 12:
            self._set(self.arriving, state=ModelState.READY, waiting=0, oldest_wait_s=0.0)
        return ()

    def _set(self, name: str, **changes: Any) -> None:
        self.models[name] = replace(self.models[name], **changes)

    def _use(self) -> None:
        """Every model is made anew, as an observer would, and some of them were used."""
        used = set(self.random.sample(self.names, USED_PER_TICK))
        for name, model in self.models.items():
            counters: dict[str, Any] = {"arrivals": 0.0, "executions": 0.0}
            counters |= {"queue_s": 0.0, "compute_s": 0.0}
            if name in used and model.state is ModelState.READY:
                counters = self._counters()
            elif name in used:
                counters["arrivals"] = 1.0
            footprint = model.footprint and replace(model.footprint)
            self.models[name] = replace(model, footprint=footprint, **counters)

    def _counters(self) -> dict[str, Any]:
        arrivals = 1 + int(self.random.expovariate(0.3))
        executions = max(1, arrivals // 2)
        return {
            "arrivals": float(arrivals),
            "executions": float(executions),
            "queue_s": int(self.random.lognormvariate(7, 1.5) * arrivals) / 1e6,
            "compute_s": int(self.random.lognormvariate(9, 0.7) * executions) / 1e6,
            "pending": int(self.random.expovariate(0.5)),
            "in_flight": int(self.random.expovariate(0.5)),
        }

    def _remember(self, snapshot: Snapshot) -> History:
        """The real history of this traffic, with the evictions that were decided here."""
        history = advance(POLICY, snapshot, self.history)
        leaving = frozenset({self.leaving} - {""})
        if leaving == history.leaving:
            return history
        evictions_s = (*history.evictions_s, snapshot.now_s)
        credit = history.models.get(self.leaving, NOTHING).credit
        return replace(history, leaving=leaving, evictions_s=evictions_s, inflation=credit)

    def _devices(self) -> dict[str, Device]:
        return {
            device: Device(
                device,
                total_bytes=80 << 30,
                used_bytes=(70 << 30) + self.random.randrange(64) * (1 << 20),
                utilisation=self.random.randrange(40, 100) / 100,
            )
            for device in DEVICES
        }

    def _holds(self, now_s: float) -> Iterator[Hold]:
        for name in self.names[3:60:10]:
            worth, cost = self.random.random(), self.random.random() + 1
            detail = f"worth {worth:.3f} s/GiB, the cheapest victim costs {cost:.3f} s/GiB"
            yield Hold(name, Reason.SWAP_DOES_NOT_PAY, detail)
        yield Hold(self.names[4], Reason.COOLING_DOWN, retry_at_s=now_s // 20 * 20 + 20)


def _cpu_s() -> float:
    """Of the whole process, the compressing thread included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _bytes_under(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern))


def main(count: int = 3600) -> None:
    print(f"{count} ticks, {MODELS} models, {USED_PER_TICK} used per tick")
    ticks = list(Traffic(Random(1)).ticks(count))

    recorder = Recorder(keyframe_every=300)
    before_s = _cpu_s()
    lines = [recorder.line(tick) for tick in ticks]
    encode_us = (_cpu_s() - before_s) / count * 1e6
    sizes = [len(line) for line in lines]
    print(f"line: {sum(sizes) / count:,.0f} bytes on average, keyframe {max(sizes):,}")

    rotate_bytes = 16 << 20
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        writer = JournalWriter(
            directory,
            rotate_bytes=rotate_bytes,
            keep_bytes=2 << 30,
            keyframe_every=300,
            compress=True,
        )
        before_s, loop_s = _cpu_s(), 0.0
        for tick in ticks:
            started_s = time.perf_counter()
            writer.write(tick)
            loop_s += time.perf_counter() - started_s
        writer.close()
        total_us = (_cpu_s() - before_s) / count * 1e6
        assert (writer.problem, writer.lost_lines) == (None, 0)
        packed = _bytes_under(directory, "*.gz")
        current = _bytes_under(directory, "journal.jsonl")

        before_s = _cpu_s()
        same = sum(a == b for a, b in zip(ticks, read(open_journal(directory)), strict=True))
        read_us = (_cpu_s() - before_s) / count * 1e6
        assert same == count

    # What is still in the current file was not packed, so the ratio comes from the rest.
    packed_per_tick = packed / (sum(sizes) + count - current) * (sum(sizes) / count + 1)
    day_bytes = packed_per_tick * DAY_S + rotate_bytes
    print(f"compressed: {packed_per_tick:,.0f} bytes per tick")
    print(f"a day at one tick a second: {day_bytes / 1e6:,.0f} MB, the current file included")
    print(f"encoding: {encode_us:,.0f} µs CPU per tick")
    print(f"encoding, writing and compressing: {total_us:,.0f} µs CPU per tick")
    print(f"inside write(), as the loop waits for it: {loop_s / count * 1e6:,.0f} µs per tick")
    print(f"reading back: {read_us:,.0f} µs CPU per tick")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3_600)
