"""Counting and the access journal, on a real disk."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from daemon.frontdoor import visits as module
from daemon.frontdoor.gate import Gate
from daemon.frontdoor.refusals import Outcome
from daemon.frontdoor.visits import (
    KEPT_FILES,
    MOST_LINES_PER_S,
    MOST_MODELS,
    OTHERS,
    AccessJournal,
    Protocol,
    Visit,
    Visits,
)
from policies.actions import Plan
from policies.history import History
from policies.policy import FrontDoor, Policy
from policies.snapshot import Model, Snapshot

NOW_S = 1_767_600_000.0


class Desk:
    """Visits as the sidecar has them, a clock, and a repository of ``models``."""

    def __init__(self, path: Path, models: int = 3, sample: float = 1.0) -> None:
        self.now_s = NOW_S
        gate = Gate(lambda: self.now_s)
        found = {f"m{n}": Model(f"m{n}") for n in range(models)}
        policy = Policy(front_door=FrontDoor(access_sample=sample))
        gate.saw(policy, Snapshot(NOW_S, models=found), Plan((), (), History()), NOW_S)
        self.registry = CollectorRegistry()
        labels = ("model", "protocol", "outcome")
        requests = Counter("door", "door", labels, registry=self.registry)
        waits = Histogram("waits", "waits", registry=self.registry)
        self.path = path
        self.journal = AccessJournal(path)
        self.visits = Visits(requests, waits, gate, self.journal)

    def visit(self, model: str = "m0", outcome: Outcome = Outcome.SERVED, **more: Any) -> None:
        self.visits.count(Visit(Protocol.HTTP, model, "", self.now_s, outcome=outcome, **more))

    def counted(self, model: str, outcome: Outcome) -> float | None:
        labels = {"model": model, "protocol": "http", "outcome": outcome.value}
        return self.registry.get_sample_value("door_total", labels)

    def labels(self) -> set[str]:
        [family] = [each for each in self.registry.collect() if each.name == "door"]
        return {sample.labels["model"] for sample in family.samples}

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    with ExitStack() as stack:

        def new(**more: Any) -> Desk:
            made = Desk(tmp_path / "access" / "access.jsonl", **more)
            stack.callback(made.journal.close)
            return made

        yield new


def test_visit_is_counted_by_model_protocol_and_outcome(desk: Callable[..., Desk]) -> None:
    d = desk()
    for _ in range(3):
        d.visit()
    d.visit(outcome=Outcome.QUEUE_FULL, waited_s=1.5)
    assert d.counted("m0", Outcome.SERVED) == 3
    assert d.counted("m0", Outcome.QUEUE_FULL) == 1
    assert d.registry.get_sample_value("waits_count") == 1, "only those who waited"


def test_visit_that_ends_in_an_error_is_counted_too(desk: Callable[..., Desk]) -> None:
    d = desk()
    with (
        pytest.raises(ConnectionError),
        d.visits.counted(Visit(Protocol.HTTP, "m0", "", NOW_S)),
    ):
        raise ConnectionError
    assert d.counted("m0", Outcome.CLIENT_GONE) == 1


@pytest.mark.parametrize("outcome", list(Outcome))
def test_names_that_no_repository_has_never_become_labels(
    desk: Callable[..., Desk], outcome: Outcome
) -> None:
    d = desk()
    for name in ("nobody", "n" * 100_000, "\udcff\x00", ""):
        d.visit(name, outcome)
    assert d.labels() == {""}
    assert d.counted("", outcome) == 4
    generate_latest(d.registry)


def test_so_many_models_have_series_of_their_own_and_the_rest_share_one(
    desk: Callable[..., Desk],
) -> None:
    d = desk(models=MOST_MODELS + 50, sample=0.0)
    for number in range(MOST_MODELS + 50):
        d.visit(f"m{number}")
    assert len(d.labels()) == MOST_MODELS + 1
    assert d.counted(OTHERS, Outcome.SERVED) == 50
    d.visit("m0")
    assert d.counted("m0", Outcome.SERVED) == 2


def test_line_tells_who_asked_for_what_and_what_became_of_it(desk: Callable[..., Desk]) -> None:
    d = desk()
    visit = Visit(Protocol.GRPC, "m1", "2", NOW_S - 0.75, 0.5, Outcome.SERVED, status=0)
    d.visits.count(visit)
    assert d.lines() == [
        {
            "began_s": NOW_S - 0.75,
            "model": "m1",
            "version": "2",
            "protocol": "grpc",
            "outcome": "served",
            "waited_s": 0.5,
            "took_s": 0.75,
            "status": 0,
        }
    ]


def test_ordinary_visits_are_sampled_and_the_others_all_written(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter([0.009, 0.011, 0.5, 0.001])
    monkeypatch.setattr(random, "random", lambda: next(drawn))
    d = desk(sample=0.01)
    for model in ("m0", "m1", "m2"):
        d.visit(model)
    d.visit("m2", Outcome.RELEASED)
    d.visit("nobody", Outcome.UNKNOWN_MODEL)
    d.visit("m1", Outcome.CLIENT_GONE)
    written = [(line["model"], line["outcome"]) for line in d.lines()]
    assert written == [
        ("m0", "served"),
        ("m2", "released"),
        ("nobody", "unknown_model"),
        ("m1", "client_gone"),
    ]


def test_any_name_makes_one_short_line(desk: Callable[..., Desk]) -> None:
    d = desk()
    for name in ("n" * 100_000, 'a"\n\r\x00b', "\udcff", "名"):
        d.visit(name, Outcome.UNKNOWN_MODEL, status=404)
    assert [line["model"][:4] for line in d.lines()] == ["nnnn", 'a"\n\r', "\udcff", "名"]
    assert len(max(d.path.read_text().splitlines(), key=len)) < 1000


def test_flood_writes_so_many_lines_a_second(desk: Callable[..., Desk]) -> None:
    d = desk()
    for _ in range(1000):
        d.visit(outcome=Outcome.QUEUE_FULL)
    assert len(d.lines()) == MOST_LINES_PER_S
    d.now_s += 1
    d.visit(outcome=Outcome.QUEUE_FULL)
    assert len(d.lines()) == MOST_LINES_PER_S + 1
    assert d.counted("m0", Outcome.QUEUE_FULL) == 1001


def test_files_are_bounded_in_size_and_number(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROTATE_BYTES", 1000)
    d = desk()
    for _ in range(100):
        d.visit(outcome=Outcome.QUEUE_FULL)
    files = sorted(d.path.parent.iterdir())
    assert [file.name for file in files] == [
        "access.jsonl",
        *(f"access.jsonl.{n}" for n in range(1, KEPT_FILES + 1)),
    ]
    assert all(file.stat().st_size <= 1000 for file in files)


def test_full_disk_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "access"
    folder.mkdir()
    (folder / "access.jsonl").symlink_to("/dev/full")
    d = Desk(folder / "access.jsonl")
    for _ in range(50):
        d.visit()
    assert d.journal.problem is not None
    assert "No space left" in d.journal.problem
    assert d.counted("m0", Outcome.SERVED) == 50
    d.journal.close()


def test_disk_that_takes_lines_again_gets_them(tmp_path: Path) -> None:
    (tmp_path / "access").write_text("a file where the folder should be")
    d = Desk(tmp_path / "access" / "access.jsonl")
    d.visit("m0")
    assert d.journal.problem is not None
    (tmp_path / "access").unlink()
    d.visit("m1")
    assert d.journal.problem is None
    assert [line["model"] for line in d.lines()] == ["m1"]
    d.journal.close()
    d.journal.close()


def test_folder_that_vanishes_at_a_rotation_costs_lines_until_it_is_back(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROTATE_BYTES", 300)
    d = desk()
    d.visit()
    d.path.unlink()
    d.path.parent.rmdir()
    for _ in range(20):
        d.visit()
    d.visit("m2")
    assert d.lines()[-1]["model"] == "m2"
