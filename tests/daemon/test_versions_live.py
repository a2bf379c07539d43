"""Changed files rolled into a real Triton by the real sidecar, behind Envoy, under traffic."""

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from policies.actions import Reason
from policies.replay import Replay
from simulations.testbed.installation import Installation
from simulations.testbed.protocols import Asker, Protocol, Question, Unanswered
from simulations.testbed.repository import ModelSpec, write_repository
from tests.daemon.pod import QUICK, Pod, eventually, pod

NewPod = Callable[..., AbstractContextManager[Pod]]

FIRST = ModelSpec("a", 40, load_s=0.5, compute_ms=5, hint=True)
# Declared, since what others on this machine take during a load would pass for the model's.
SIZES = "models: {a: {footprint: 40MiB}, b: {footprint: 20MiB}}\n"
SETTLE = "versions: {settle: 1s}\n"
ROOM_FOR_TWO = QUICK.format(budget=400) + SETTLE + SIZES
ROOM_FOR_ONE = QUICK.format(budget=60) + SETTLE + SIZES
BROKEN = "raise RuntimeError('no such thing')\n"


@pytest.fixture
def new_pod(installation: Installation, tmp_path: Path) -> NewPod:
    return partial(pod, installation, tmp_path, envoy=True)


def upload(running: Pod, version: int, *, code: str | None = None) -> None:
    """Puts a version beside those that are there, as a person or a pipeline would: whole."""
    folder = running.directory / "repository" / "a"
    staged = running.directory / "staged"
    write_repository(staged, [replace(FIRST, versions=(version,))])
    if code is not None:
        (staged / "a" / str(version) / "model.py").write_text(code)
    (staged / "a" / str(version)).rename(folder / str(version))


@dataclass
class Traffic(threading.Thread):
    """Asks a model by HTTP and by gRPC, twenty times a second in all, until the block ends.

    answers: what came, by how much it multiplied: by 2 in version 1, by 3 in version 2.
    """

    running: Pod
    model: str = "a"
    errors: list[str] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()

    def __hash__(self) -> int:
        return id(self)

    def __enter__(self) -> Self:
        self.start()
        eventually(lambda: bool(self.answers), 30)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        asyncio.run(self._ask())

    async def _ask(self) -> None:
        door = self.running
        asker = Asker(http_url=door.door_http, grpc_url=door.door_grpc)
        async with asker, asyncio.TaskGroup() as requests:
            number = 0
            while not self._over.is_set():
                protocol: Protocol = "http" if number % 2 else "grpc"
                requests.create_task(self._one(asker, Question(self.model, 1.0, protocol)))
                number += 1
                await asyncio.sleep(0.05)

    async def _one(self, asker: Asker, question: Question) -> None:
        try:
            answer = await asker.ask(question, 30)
        except Unanswered as unanswered:
            self.errors.append(f"{question.protocol}: {unanswered}")
            return
        self.answers += answer.values


@contextmanager
def asked(running: Pod, model: str = "a") -> Iterator[Traffic]:
    """Steady traffic, of which no request may fail; every tick can be decided again."""
    with Traffic(running, model) as traffic:
        eventually(lambda: running.get("/v1/explain/a")["state"] == "ready", 10)
        yield traffic
    assert traffic.errors == []
    assert next(iter(Replay(running.ticks())), None) is None


def updates(running: Pod) -> dict[str, int]:
    """How many changes of files ended how, without the outcomes that none has had."""
    lines = running.get("/metrics").splitlines()
    rows = [line.split() for line in lines if line.startswith("remora_updates_total{")]
    counted = {row[0].split('"')[1]: int(float(row[1])) for row in rows}
    return {outcome: number for outcome, number in counted.items() if number}


def reasons(running: Pod) -> list[Reason]:
    return [action.reason for tick in running.ticks() for action in tick.actions]


def test_new_version_comes_in_beside_the_old_one_and_nobody_notices(new_pod: NewPod) -> None:
    with new_pod([FIRST], ROOM_FOR_TWO) as running:
        with asked(running) as traffic:
            upload(running, 2)
            eventually(lambda: traffic.answers[-1] == 3.0, 25)
            time.sleep(1)
        assert updates(running) == {"beside": 1}
        assert set(traffic.answers) == {2.0, 3.0}
        assert running.times_loaded("a") == 2
        assert reasons(running).count(Reason.UPDATED) == 1


def test_where_two_do_not_fit_the_door_holds_what_comes_during_a_swap(new_pod: NewPod) -> None:
    with new_pod([FIRST], ROOM_FOR_ONE) as running:
        with asked(running) as traffic:
            upload(running, 2)
            eventually(lambda: traffic.answers[-1] == 3.0, 25)
            time.sleep(1)
        assert updates(running) == {"swapped": 1}
        assert running.times_loaded("a") == 2


def test_broken_version_beside_the_old_one_is_refused_and_nobody_notices(new_pod: NewPod) -> None:
    with new_pod([FIRST], ROOM_FOR_TWO) as running:
        with asked(running) as traffic:
            upload(running, 2, code=BROKEN)
            eventually(lambda: updates(running).get("refused", 0) == 1, 25)
            eventually(lambda: running.get("/v1/explain/a")["reason"] == "update_refused", 10)
            assert "no such thing" in running.get("/v1/explain/a")["summary"]
            upload(running, 3)
            eventually(lambda: traffic.answers[-1] == 4.0, 25)
        assert set(traffic.answers) == {2.0, 4.0}
        assert updates(running) == {"refused": 1, "beside": 1}


def test_broken_version_that_was_swapped_in_is_rolled_back(new_pod: NewPod) -> None:
    with new_pod([FIRST], ROOM_FOR_ONE) as running:
        with asked(running) as traffic:
            upload(running, 2, code=BROKEN)
            eventually(lambda: updates(running) == {"refused": 1, "rolled_back": 1}, 30)
            eventually(lambda: running.get("/v1/explain/a")["state"] == "ready", 10)
            eventually(lambda: running.get("/v1/explain/a")["reason"] == "update_refused", 10)
            time.sleep(3)
            assert reasons(running).count(Reason.ROLLED_BACK) == 1, "and it is left at that"
            running.stop_sidecar()
            running.start_sidecar()
            eventually(lambda: running.get("/v1/explain/a")["reason"] == "update_refused", 15)
            time.sleep(3)
            assert running.times_loaded("a") == 3, "what was refused is known after a restart"
            upload(running, 3)
            eventually(lambda: traffic.answers[-1] == 4.0, 30)
        assert set(traffic.answers) == {2.0, 4.0}


def test_step_of_an_ensemble_comes_in_beside_under_it(new_pod: NewPod) -> None:
    pair = ModelSpec("pair", 0, load_s=0, compute_ms=0, steps=("a", "b"))
    second = ModelSpec("b", 20, load_s=0.2, compute_ms=2, hint=True)
    with new_pod([FIRST, second, pair], ROOM_FOR_TWO) as running:
        with asked(running, "pair") as traffic:
            upload(running, 2)
            eventually(lambda: traffic.answers[-1] == 6.0, 25)
        assert set(traffic.answers) == {4.0, 6.0}
        assert updates(running) == {"beside": 1}
        assert (running.times_loaded("a"), running.times_loaded("b")) == (2, 1)


def test_version_that_the_version_policy_leaves_out_reloads_nothing(new_pod: NewPod) -> None:
    with new_pod([FIRST], ROOM_FOR_TWO) as running:
        config = running.directory / "repository" / "a" / "config.pbtxt"
        policy = "version_policy {{ specific {{ versions: [{}] }} }}\n"
        plain = config.read_text()
        config.write_text(plain + policy.format(1))
        # Until the repository has been looked at again, before anything is loaded from it.
        time.sleep(6)
        with asked(running) as traffic:
            upload(running, 2)
            time.sleep(9)
            assert running.times_loaded("a") == 1
            assert outdated(running) == set()
            config.write_text(plain + policy.format(2))
            eventually(lambda: traffic.answers[-1] == 3.0, 25)
            shutil.rmtree(config.parent / "1")
            time.sleep(9)
        assert running.times_loaded("a") == 2
        assert updates(running) == {"beside": 1}


def test_half_of_an_upload_is_not_loaded(new_pod: NewPod) -> None:
    policy = QUICK.format(budget=400) + "versions: {settle: 3s}\n"
    with new_pod([FIRST], policy) as running, asked(running) as traffic:
        write_repository(running.directory / "staged", [replace(FIRST, versions=(2,))])
        code = (running.directory / "staged" / "a" / "2" / "model.py").read_text()
        folder = running.directory / "repository" / "a" / "2"
        folder.mkdir()
        with (folder / "weights.bin").open("wb") as weights:
            for _ in range(10):
                weights.write(bytes(4 * 2**20))
                weights.flush()
                time.sleep(1)
        assert outdated(running) == {"a"}
        lines = code.splitlines(keepends=True)
        for part in (lines[:30], lines[30:]):
            with (folder / "model.py").open("a") as file:
                file.writelines(part)
            time.sleep(1)
        assert running.times_loaded("a") == 1
        eventually(lambda: traffic.answers[-1] == 3.0, 25)
        assert updates(running) == {"beside": 1}


def test_files_that_change_while_the_sidecar_is_away_are_noticed(new_pod: NewPod) -> None:
    """Those of the same version, which the index tells nothing of."""
    policy = ROOM_FOR_TWO + "unloads: {drain: 1s}\n"
    with new_pod([FIRST], policy) as running, asked(running) as traffic:
        running.stop_sidecar()
        code = running.directory / "repository" / "a" / "1" / "model.py"
        code.write_text(code.read_text().replace("np.float32(1 + ", "np.float32(4 + "))
        running.start_sidecar()
        eventually(lambda: traffic.answers[-1] == 5.0, 25)
        eventually(lambda: updates(running) == {"beside": 1}, 5)
        running.stop_sidecar()
        running.start_sidecar()
        time.sleep(3)
        assert running.times_loaded("a") == 2, "and it is known that they have come in"


def test_observe_mode_tells_of_changed_files_and_touches_nothing(new_pod: NewPod) -> None:
    with new_pod([FIRST], ROOM_FOR_TWO) as running, asked(running) as traffic:
        running.policy.write_text(ROOM_FOR_TWO + "mode: observe\n")
        upload(running, 2)
        eventually(lambda: "would load a (updated, beside the old copy)" in running.log, 20)
        time.sleep(2)
        assert running.times_loaded("a") == 1
        assert set(traffic.answers) == {2.0}


def outdated(running: Pod) -> set[str]:
    lines = running.get("/metrics").splitlines()
    return {
        line.split('"')[1] for line in lines if line.startswith("remora_model_outdated_seconds{")
    }
