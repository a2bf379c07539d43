"""The model repository as a real Triton reads it, and at the size of a thousand models."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.repository import Repository
from daemon.triton import Triton
from simulations.testbed.repository import ModelSpec, write_repository
from simulations.testbed.tritonserver import TritonServer

MIB = 2**20


async def test_whatever_triton_takes_for_newer_is_newer_here(
    server: TritonServer, triton: Triton, repository_root: Path
) -> None:
    """A load of a loaded model makes a second copy of it, or does nothing at all."""
    write_repository(repository_root, [ModelSpec("fresh", 20, load_s=0.2, compute_ms=1)])
    folder, repository = repository_root / "fresh", Repository(repository_root)
    changes: dict[str, Callable[[], object]] = {
        "first load": lambda: None,
        "bytecode of the first load": lambda: None,
        "nothing": lambda: None,
        "a new file": (folder / "labels.txt").touch,
        "a newer version": lambda: os.utime(folder / "1"),
        "nothing again": lambda: None,
    }
    seen_mtime_s, newer, loaded = 0.0, set(), set()
    try:
        for what, change in changes.items():
            change()
            mtime_s = repository.survey()["fresh"].newest_mtime_s
            before = server.stub_pids().get("fresh", [])
            await triton.load("fresh", 10)
            if mtime_s > seen_mtime_s:
                newer.add(what)
            if set(server.stub_pids()["fresh"]) - set(before):
                loaded.add(what)
            seen_mtime_s = mtime_s
    finally:
        shutil.rmtree(folder)
    assert newer == loaded == set(changes) - {"nothing", "nothing again"}


async def test_a_link_to_a_model_is_a_model_for_triton_and_for_us(
    server: TritonServer, triton: Triton, repository_root: Path, tmp_path: Path
) -> None:
    """How a model store on a shared volume lays out its versions."""
    write_repository(tmp_path, [ModelSpec("linked", 20, load_s=0.2, compute_ms=1)])
    (repository_root / "linked").symlink_to(tmp_path / "linked")
    try:
        await triton.load("linked", 10)
        found = Repository(repository_root).survey()["linked"]
    finally:
        (repository_root / "linked").unlink()
    assert found.file_bytes == pytest.approx(20 * MIB, rel=0.01)


def test_links_in_a_circle_beside_the_models_hide_none(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "ping").symlink_to("pong")
    (tmp_path / "pong").symlink_to("ping")
    (tmp_path / "nowhere").symlink_to("absent")
    assert set(Repository(tmp_path).survey()) == {"m"}


def test_what_the_test_bed_writes_is_understood(repository_root: Path) -> None:
    survey = Repository(repository_root).survey()
    assert survey["chain"].steps == ("plain", "unbatched")
    assert survey["plain"].gpus is None
    assert survey["plain"].file_bytes == pytest.approx(20 * MIB, rel=0.01)
    assert [name for name, found in survey.items() if found.broken] == ["unparsable"]


def test_a_thousand_models_are_surveyed(tmp_path: Path) -> None:
    """Prints its times, for those who look; only the counting is asserted."""
    config = 'backend: "python"\ninstance_group [ { kind: KIND_CPU } ]\n'
    long_ago_s = time.time() - 3600
    for number in range(1000):
        folder = tmp_path / f"model-{number:04}"
        for version in (folder / "1", folder / "2"):
            version.mkdir(parents=True)
            (version / "model.py").write_bytes(b"x" * 5)
        (folder / "config.pbtxt").write_text(config)
        for path in (*folder.rglob("*"), folder):
            os.utime(path, (long_ago_s, long_ago_s))
    repository, times_ms, found = Repository(tmp_path), [], 0
    for _ in range(3):
        began_s = time.perf_counter()
        found = sum(each.file_bytes for each in repository.survey().values())
        times_ms.append(round(1000 * (time.perf_counter() - began_s)))
    print(f"1,000 models, first and later surveys: {times_ms} ms")
    assert found == 5000
