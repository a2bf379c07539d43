"""What a model's folder tells before the model was ever loaded."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from daemon.repository import OnDisk, Repository
from simulations.testbed.repository import ModelSpec, write_repository

MIB = 2**20
LONG_AGO_NS = 1_600_000_000_000_000_000

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a model of versions 1, 2, 3 and 10, whose sizes are their numbers."""

    def _write(config: str | None = "", name: str = "m", versions: str = "1 2 3 10") -> Path:
        folder = tmp_path / name
        for version in versions.split():
            (folder / version).mkdir(parents=True)
            (folder / version / "model.bin").write_bytes(b"x" * int(version))
        if config is not None:
            (folder / "config.pbtxt").write_text(config)
        return folder

    return _write


def survey(root: Path, name: str = "m") -> OnDisk:
    return Repository(root).survey()[name]


def age(root: Path) -> None:
    """Makes everything below ``root`` look as old as in a repository at rest."""
    for path in [root, *root.rglob("*")]:
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS), follow_symlinks=False)


def test_what_triton_passes_over_is_passed_over(tmp_path: Path, write: Write) -> None:
    write()
    for junk in (".git", ".snapshot", "lost+found"):
        (tmp_path / junk / "1").mkdir(parents=True)
    (tmp_path / "README").write_text("no model")
    assert list(Repository(tmp_path).survey()) == ["m"]


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Repository(tmp_path / "absent").survey()


@pytest.mark.parametrize(
    ("policy", "served_bytes"),
    [
        ("", 10),
        ("version_policy { latest { num_versions: 2 } }", 3 + 10),
        ("version_policy { latest { num_versions: 9 } }", 1 + 2 + 3 + 10),
        ("version_policy { specific { versions: [1, 3, 3, 7] } }", 1 + 3),
        ("version_policy { all { } }", 1 + 2 + 3 + 10),
    ],
)
def test_only_the_files_of_served_versions_count(
    tmp_path: Path, write: Write, policy: str, served_bytes: int
) -> None:
    write(policy)
    assert survey(tmp_path).file_bytes == served_bytes


def test_what_is_no_version_is_not_served(tmp_path: Path, write: Write) -> None:
    folder = write(versions="5")
    (folder / "007").mkdir()
    (folder / "007" / "model.bin").write_bytes(b"x" * 700)
    (folder / "assets").mkdir()
    (folder / "assets" / "labels.txt").write_bytes(b"x" * 800)
    (folder / "9").write_bytes(b"x" * 900)
    assert survey(tmp_path).file_bytes == 5


def test_an_empty_newer_version_is_the_one_that_triton_would_try(
    tmp_path: Path, write: Write
) -> None:
    (write(versions="1") / "2").mkdir()
    assert survey(tmp_path).file_bytes == 0


def test_files_in_folders_of_a_version_count_and_bytecode_does_not(
    tmp_path: Path, write: Write
) -> None:
    version = write(versions="1") / "1"
    for name in ("saved/variables/data", "__pycache__/model.pyc"):
        (version / name).parent.mkdir(parents=True)
        (version / name).write_bytes(b"x" * 100)
    assert survey(tmp_path).file_bytes == 101


def resource(mib: int, **group: str) -> str:
    fields = " ".join(f"{key}: {value}" for key, value in group.items())
    limits = f'resources [{{ name: "gpu_memory" count: {mib} }}, {{ name: "R1" count: 9000 }}]'
    return f"instance_group [ {{ {fields} rate_limiter {{ {limits} }} }} ]\n"


@pytest.mark.parametrize(
    ("config", "hint_bytes"),
    [
        ("", None),
        ('parameters { key: "memory_mb" value { string_value: "4096" } }', 4096 * MIB),
        ('parameters { key: "memory_mb" value { string_value: "0.5" } }', MIB // 2),
        ('parameters { key: "memory_mb" value { string_value: "0" } }', None),
        ('parameters { key: "memory_mb" value { string_value: "-3" } }', None),
        ('parameters { key: "memory_mb" value { string_value: "nan" } }', None),
        ('parameters { key: "memory_mb" value { string_value: "inf" } }', None),
        ('parameters { key: "memory_mb" value { string_value: "much" } }', None),
        (resource(100), 100 * MIB),
        (resource(100, count="3"), 300 * MIB),
        (resource(100, count="2") + resource(50), 250 * MIB),
        # On GPU 0 both groups live, on GPU 1 one of them.
        (resource(100, gpus="[0, 1]") + resource(70, gpus="[0]"), 170 * MIB),
        (resource(100, gpus="[0]") + resource(70, gpus="[1]"), 100 * MIB),
        (resource(100, gpus="[0]") + resource(70), 170 * MIB),
    ],
)
def test_hints_are_for_one_device(
    tmp_path: Path, write: Write, config: str, hint_bytes: int | None
) -> None:
    write(config)
    assert survey(tmp_path).hint_bytes == hint_bytes


def test_a_parameter_goes_before_resources(tmp_path: Path, write: Write) -> None:
    parameter = 'parameters { key: "memory_mb" value { string_value: "7" } }'
    write(resource(100) + parameter)
    assert survey(tmp_path).hint_bytes == 7 * MIB


@pytest.mark.parametrize(
    ("config", "gpus"),
    [
        ("", ()),
        ("instance_group [ { kind: KIND_CPU count: 2 } ]", None),
        ("instance_group [ { kind: KIND_GPU } ]", ()),
        ("instance_group [ { count: 2 } ]", ()),
        ("instance_group [ { kind: KIND_MODEL } ]", ()),
        ("instance_group [ { kind: KIND_GPU gpus: [2, 0] } ]", (0, 2)),
        ("instance_group [ { gpus: [1] }, { kind: KIND_CPU } ]", (1,)),
        ("instance_group [ { gpus: [1] }, { kind: KIND_GPU } ]", ()),
        ("ensemble_scheduling { }", None),
    ],
)
def test_the_gpus_of_a_model_are_those_of_its_groups(
    tmp_path: Path, write: Write, config: str, gpus: tuple[int, ...] | None
) -> None:
    write(config)
    assert survey(tmp_path).gpus == gpus


def test_an_ensemble_names_each_step_once(tmp_path: Path) -> None:
    chain = ModelSpec("chain", 0, load_s=0, compute_ms=0, steps=("b", "a", "b"))
    write_repository(tmp_path, [chain])
    assert survey(tmp_path, "chain").steps == ("b", "a")


def test_sequences_are_seen(tmp_path: Path, write: Write) -> None:
    write("sequence_batching { max_sequence_idle_microseconds: 1 }", name="with")
    write("sequence_batching { }", name="silent")
    write("dynamic_batching { }", name="without")
    assert survey(tmp_path, "with").sequence_idle_s == 1e-6
    assert survey(tmp_path, "silent").sequence_idle_s == 1.0
    assert survey(tmp_path, "without").sequence_idle_s is None


def test_an_absent_configuration_is_legal(tmp_path: Path, write: Write) -> None:
    write(None)
    on_disk = survey(tmp_path)
    assert (on_disk.broken, on_disk.gpus, on_disk.file_bytes) == (None, (), 10)


def test_a_field_of_a_newer_triton_breaks_nothing(tmp_path: Path, write: Write) -> None:
    write('from_the_future { depth: 3 }\nplatform: "ensemble"\n')
    assert survey(tmp_path).broken is None


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("backend: { this is none", "config.pbtxt: 1:10"),
        ('name: "other"', "config.pbtxt: its name is 'other', not that of its folder"),
        ("max_batch_size: 99999999999", "config.pbtxt: 1:17"),
    ],
)
def test_a_configuration_that_triton_refuses_is_told(
    tmp_path: Path, write: Write, config: str, told: str
) -> None:
    write(config)
    assert (survey(tmp_path).broken or "").startswith(told)


def test_a_configuration_that_cannot_be_read_is_told(tmp_path: Path, write: Write) -> None:
    (write(None) / "config.pbtxt").mkdir()
    assert "Is a directory" in (survey(tmp_path).broken or "")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=60) | st.text("{}[]:,\"'#<>;\\ \nab1.-_", max_size=60).map(str.encode))
@example(b"\xff\xfe")
@example(b"a: <" * 20)
def test_no_content_of_a_configuration_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    root = tmp_path_factory.getbasetemp() / "content"
    (root / "m").mkdir(parents=True, exist_ok=True)
    (root / "m" / "config.pbtxt").write_bytes(content)
    assert survey(root).name == "m"


def test_bytecode_moves_the_time_and_not_the_revision(tmp_path: Path, write: Write) -> None:
    folder = write(versions="1")
    age(tmp_path)
    before = survey(tmp_path)
    assert before.newest_mtime_s == LONG_AGO_NS / 1e9

    (folder / "1" / "__pycache__").mkdir()
    (folder / "1" / "__pycache__" / "model.pyc").write_bytes(b"code")

    after = survey(tmp_path)
    assert after.revision == before.revision
    assert after.newest_mtime_s > before.newest_mtime_s


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: os.utime(folder / "1" / "model.bin"),
        lambda folder: (folder / "1" / "model.bin").write_bytes(b"longer"),
        lambda folder: (folder / "1" / "model.bin").rename(folder / "1" / "model.onnx"),
        lambda folder: (folder / "config.pbtxt").unlink(),
        lambda folder: (folder / "labels.txt").touch(),
        lambda folder: (folder / "2").mkdir(),
    ],
    ids=["touched", "written in place", "renamed", "removed", "added", "new version"],
)
def test_every_change_moves_the_revision_and_the_time(
    tmp_path: Path, write: Write, change: Callable[[Path], object]
) -> None:
    folder = write(versions="1")
    age(tmp_path)
    repository = Repository(tmp_path)
    before = repository.survey()["m"]

    change(folder)

    after = repository.survey()["m"]
    assert after.revision != before.revision
    assert after.newest_mtime_s > before.newest_mtime_s


def test_what_rests_is_not_read_again(tmp_path: Path, write: Write) -> None:
    write(name="resting")
    busy = write(name="busy")
    age(tmp_path)
    repository = Repository(tmp_path)
    before = repository.survey()
    (busy / "config.pbtxt").write_text("max_batch_size: 8")
    after = repository.survey()
    assert after["resting"] is before["resting"]
    assert after["busy"] is not before["busy"]


def test_a_file_that_comes_right_after_a_survey_is_seen(tmp_path: Path, write: Write) -> None:
    """A coarse clock gives the folder the same time before and after."""
    folder = write(versions="1")
    now = (folder / "1").stat()
    repository = Repository(tmp_path)
    assert repository.survey()["m"].file_bytes == 1
    (folder / "1" / "more.bin").write_bytes(b"xx")
    os.utime(folder / "1", ns=(now.st_atime_ns, now.st_mtime_ns))
    assert repository.survey()["m"].file_bytes == 3


def test_a_model_that_has_gone_is_gone(tmp_path: Path, write: Write) -> None:
    write(name="stays")
    shutil.rmtree(write_then_survey(tmp_path, write, repository := Repository(tmp_path)))
    assert list(repository.survey()) == ["stays"]


def write_then_survey(root: Path, write: Write, repository: Repository) -> Path:
    folder = write(name="goes")
    assert list(repository.survey()) == ["goes", "stays"]
    return folder


def test_links_are_followed(tmp_path: Path) -> None:
    store, root = tmp_path / "store", tmp_path / "root"
    (store / "v1").mkdir(parents=True)
    (store / "v1" / "model.bin").write_bytes(b"x" * 50)
    (root / "m").mkdir(parents=True)
    (root / "m" / "1").symlink_to(store / "v1")
    (root / "linked").symlink_to(root / "m")
    assert survey(root).file_bytes == 50
    assert survey(root, "linked").file_bytes == 50


@pytest.mark.parametrize("target", [".", "..", "../..", "../../m", "/"])
def test_a_link_to_what_it_lies_in_is_left_alone(tmp_path: Path, write: Write, target: str) -> None:
    folder = write(versions="1")
    alone = survey(tmp_path)
    (folder / "1" / "up").symlink_to(target)
    (folder / "2").symlink_to("2")
    looped = survey(tmp_path)
    assert looped.file_bytes == alone.file_bytes == 1


def test_a_repository_that_lists_itself_comes_to_an_end(tmp_path: Path, write: Write) -> None:
    write(versions="1")
    (tmp_path / "itself").symlink_to(tmp_path)
    assert survey(tmp_path, "itself") == OnDisk(
        "itself", revision=survey(tmp_path, "itself").revision
    )


def test_a_link_to_nowhere_hides_nothing_beside_it(tmp_path: Path, write: Write) -> None:
    version = write(versions="1") / "1"
    for name in ("a", "z"):
        (version / name).symlink_to(tmp_path / "later")
    repository = Repository(tmp_path)
    assert repository.survey()["m"].file_bytes == 1
    age(tmp_path / "m")
    repository.survey()

    (tmp_path / "later").write_bytes(b"x" * 10)

    assert repository.survey()["m"].file_bytes == 21


def test_files_that_vanish_during_a_survey_are_no_error(tmp_path: Path, write: Write) -> None:
    folder = write(versions="1")
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            shutil.copytree(folder / "1", folder / "2")
            shutil.copytree(folder, tmp_path / "n")
            shutil.rmtree(folder / "2")
            shutil.rmtree(tmp_path / "n")

    churning = threading.Thread(target=churn)
    churning.start()
    repository = Repository(tmp_path)
    try:
        seen = [repository.survey() for _ in range(1500)]
    finally:
        over.set()
        churning.join()
    assert all(each["m"].broken is None for each in seen)
    # It did meet the other thread's work in more than one state.
    assert len({each["m"].revision for each in seen}) > 2


# --- what a model would be served from


def test_a_revision_is_that_of_what_triton_would_serve(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    for version in ("1", "2"):
        (folder / version).mkdir(parents=True)
        (folder / version / "model.py").write_text("x")
    config = folder / "config.pbtxt"
    config.write_text("version_policy { specific { versions: [1] } }\n")
    repository, seen = Repository(tmp_path), []

    def look() -> OnDisk:
        found = repository.survey()["m"]
        seen.append(found.revision)
        return found

    before = look()
    assert before.served == ("1",)
    assert before.parts.keys() == {"", "1"}
    assert before.versions.keys() == {"1", "2"}
    (folder / "2" / "model.py").write_text("longer")
    (folder / "3").mkdir()
    (folder / "1" / "__pycache__").mkdir()
    (folder / "1" / "__pycache__" / "model.pyc").write_text("compiled")
    (folder / ".remora.json").write_text("ours")
    assert look().parts == before.parts
    (folder / "1" / "model.py").write_text("longer")
    assert look().parts[""] == before.parts[""]
    (folder / "labels.txt").touch()
    assert look().versions["1"] != before.versions["1"]
    config.write_text("version_policy { latest { num_versions: 2 } }\n")
    assert look().served == ("2", "3")
    assert [seen.count(each) for each in seen] == [2, 2, 1, 1, 1]
