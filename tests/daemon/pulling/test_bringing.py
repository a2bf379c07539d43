"""What a pull promises of the repository that it fills, whatever its source does."""

import fcntl
import hashlib
import os
import threading
from pathlib import Path

import pytest

from daemon.pulling.bringing import Bringing
from daemon.pulling.folders import Folder
from daemon.pulling.offers import PullError, Refused, RemoteFile, Unreachable
from daemon.pulling.placing import LOCK, STAGING, repository
from tests.daemon.pulling.folders import CONFIG, contents, pull, stamps, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    files = {"config.pbtxt": CONFIG, "labels.txt": "a\nb\n", "1/model.py": "one"}
    return write(tmp_path / "source", files)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_a_model_comes_whole_and_nothing_else_comes(source: Path, root: Path) -> None:
    write(source, {"configs/gpu.pbtxt": CONFIG, "1/parts/weights": "w", ".git/config": "x"})
    pull(source, root)
    assert contents(root) == {
        "m/config.pbtxt": CONFIG,
        "m/configs/gpu.pbtxt": CONFIG,
        "m/labels.txt": "a\nb\n",
        "m/1/model.py": "one",
        "m/1/parts/weights": "w",
    }
    assert {path.name for path in root.iterdir()} == {"m", LOCK}


def test_where_nothing_changed_no_file_is_touched(source: Path, root: Path) -> None:
    pull(source, root)
    before = stamps(root)
    assert pull(source, root) == ["m: unchanged, with version 1"]
    assert stamps(root) == before


def test_a_source_copied_anew_with_the_same_contents_touches_nothing(
    source: Path, root: Path
) -> None:
    pull(source, root)
    before = stamps(root / "m")
    write(source, {path.removeprefix("m/"): text for path, text in contents(root).items()})
    assert pull(source, root) == ["m: unchanged, with version 1"]
    assert stamps(root / "m") == before


def test_a_new_version_comes_beside_the_old_ones_which_stay_as_they_are(
    source: Path, root: Path
) -> None:
    pull(source, root)
    before = stamps(root / "m" / "1")
    write(source, {"2/model.py": "two"})
    pull(source, root)
    assert contents(root / "m" / "2") == {"model.py": "two"}
    assert stamps(root / "m" / "1") == before


def test_the_last_versions_stay_and_what_was_not_brought_is_never_removed(
    source: Path, root: Path
) -> None:
    write(root / "m", {"7/model.py": "by hand", "notes.txt": "mine"})
    for number in (2, 3, 4):
        write(source, {f"{number}/model.py": str(number)})
        pull(source, root)
    assert {path.name for path in (root / "m").iterdir() if path.is_dir()} == {"3", "4", "7"}
    assert contents(root)["m/7/model.py"] == "by hand"
    assert contents(root)["m/notes.txt"] == "mine"


def test_a_source_that_went_back_takes_the_newer_version_back(source: Path, root: Path) -> None:
    write(source, {"2/model.py": "two"})
    pull(source, root)
    (source / "2" / "model.py").unlink()
    (source / "2").rmdir()
    said = pull(source, root)
    assert said == ["m: version 2 removed (newer than its source wants)"]
    assert not (root / "m" / "2").exists()


def test_a_version_that_is_not_ours_is_refused_and_left_alone(source: Path, root: Path) -> None:
    write(root / "m", {"1/model.py": "by hand"})
    with pytest.raises(Refused, match="is there already, and no pull has brought it"):
        pull(source, root)
    assert contents(root) == {"m/1/model.py": "by hand"}


def test_contents_that_change_under_a_number_are_refused(source: Path, root: Path) -> None:
    pull(source, root)
    before = stamps(root / "m")
    write(source, {"1/model.py": "not one any more"})
    with pytest.raises(Refused, match="publish what has changed under a new number"):
        pull(source, root)
    assert stamps(root / "m") == before


def test_an_older_version_that_changed_holds_up_no_newer_one(source: Path, root: Path) -> None:
    pull(source, root)
    write(source, {"1/model.py": "not one any more", "2/model.py": "two"})
    with pytest.raises(Refused, match="publish what has changed under a new number"):
        pull(source, root)
    assert contents(root)["m/1/model.py"] == "one"
    assert contents(root)["m/2/model.py"] == "two"


def test_a_damaged_version_is_brought_again(source: Path, root: Path) -> None:
    pull(source, root)
    (root / "m" / "1" / "model.py").write_text("")
    assert "m: version 1 is damaged, and is brought again" in pull(source, root)
    assert contents(root)["m/1/model.py"] == "one"


def test_files_that_triton_writes_beside_are_no_damage(source: Path, root: Path) -> None:
    pull(source, root)
    write(root / "m" / "1", {"__pycache__/model.cpython-311.pyc": "bytecode"})
    assert pull(source, root) == ["m: unchanged, with version 1"]


def test_the_configuration_is_renewed_in_place(source: Path, root: Path) -> None:
    pull(source, root)
    for count in (1, 2):
        write(source, {"config.pbtxt": CONFIG + f"max_batch_size: {count}\n"})
        pull(source, root)
    (source / "labels.txt").unlink()
    assert pull(source, root) == ["m: labels.txt removed, its source has it no more"]
    assert contents(root) == {
        "m/config.pbtxt": CONFIG + "max_batch_size: 2\n",
        "m/1/model.py": "one",
    }


def test_a_configuration_changed_by_hand_is_left_alone(source: Path, root: Path) -> None:
    pull(source, root)
    write(root / "m", {"config.pbtxt": CONFIG + "# tuned\n"})
    write(source, {"config.pbtxt": CONFIG + "max_batch_size: 8\n"})
    with pytest.raises(Refused, match="was written by somebody else"):
        pull(source, root)
    (source / "config.pbtxt").unlink()
    pull(source, root)
    assert contents(root)["m/config.pbtxt"] == CONFIG + "# tuned\n"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('name: "other"', "its name is 'other'; allowed: 'm', or none"),
        ("name: {", "config.pbtxt: "),
    ],
)
def test_a_configuration_that_triton_would_not_take_is_refused(
    config: str, message: str, source: Path, root: Path
) -> None:
    write(source, {"config.pbtxt": config})
    with pytest.raises(Refused, match=message):
        pull(source, root)
    assert not (root / "m").exists()


def sums(files: dict[str, str]) -> str:
    lines = (f"{hashlib.sha256(text.encode()).hexdigest()}  {path}" for path, text in files.items())
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"model.py": "won"}, "'model.py' is not what SHA256SUMS says"),
        ({"model.py": "one", "weights": "w"}, "SHA256SUMS names 'weights', which is not there"),
        ({}, "'model.py' is not in SHA256SUMS"),
    ],
)
def test_recorded_sums_must_agree(
    told: dict[str, str], message: str, source: Path, root: Path
) -> None:
    write(source, {"1/SHA256SUMS": sums(told)})
    with pytest.raises(Refused, match=message):
        pull(source, root)
    assert not (root / "m").exists()
    write(source, {"1/SHA256SUMS": sums({"model.py": "one"})})
    pull(source, root)
    assert contents(root)["m/1/model.py"] == "one"


def test_a_link_at_the_source_is_not_followed(source: Path, root: Path, tmp_path: Path) -> None:
    write(tmp_path, {"secret/token": "s3cret"})
    for name in ("token", ""):
        link = source / "1" / "link"
        link.symlink_to(tmp_path / "secret" / name)
        with pytest.raises(Refused, match="'1/link', which is a link"):
            pull(source, root)
        link.unlink()
    assert not (root / "m").exists()


def test_a_source_without_a_version_or_without_anything_says_so(
    source: Path, root: Path, tmp_path: Path
) -> None:
    (source / "1" / "model.py").unlink()
    with pytest.raises(Unreachable, match="holds no version"):
        pull(source, root)
    with pytest.raises(Unreachable, match="nothing is there"):
        pull(tmp_path / "none", root)


class BeingUploaded(Folder):
    """Each file that is fetched is followed by one more that comes."""

    def fetch(self, file: RemoteFile, target: Path) -> None:
        super().fetch(file, target)
        write(Path(file.origin).parent, {f"after-{target.name}": "more"})


@pytest.mark.parametrize("there", [False, True])
def test_a_version_that_is_still_being_uploaded_waits_for_the_next_pull(
    there: bool, source: Path, root: Path
) -> None:
    if there:
        pull(source, root)
        write(source, {"2/model.py": "two"})
    before = contents(root)
    with (
        repository(root, print) as place,
        pytest.raises(Unreachable, match="its source changed while it was being brought"),
    ):
        Bringing("m", BeingUploaded(str(source), 2), 2, place, print).bring()
    assert contents(root) == before


# --- crashes and others at work ------------------------------------------------------------------


class Killed(BaseException):
    """A process that is killed runs none of its own ends."""


def dying(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """From the ``step``-th change of the disk on, none happens any more."""
    left = [step]

    def until_then(name: str) -> None:
        real = getattr(os, name)

        def change(*args: object, **kwargs: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, change)

    for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync"):
        until_then(name)


def assert_whole(root: Path, versions: dict[str, str]) -> None:
    """Whatever a reader can see of a version is all of it."""
    for number, text in versions.items():
        if (root / "m" / number).exists():
            assert contents(root / "m" / number) == {"model.py": text, "weights": text * 1000}
    if (root / "m").exists():
        assert (root / "m" / "config.pbtxt").exists()


def test_a_pull_killed_at_any_step_leaves_nothing_half_and_the_next_one_ends_it(
    tmp_path: Path,
) -> None:
    texts = {number: f"text of {number}" for number in ("1", "2", "3")}
    files = {
        f"{number}/{name}": text * times
        for number, text in texts.items()
        for name, times in (("model.py", 1), ("weights", 1000))
    }
    early = write(
        tmp_path / "early",
        {"config.pbtxt": CONFIG} | {path: text for path, text in files.items() if path < "3"},
    )
    late = write(tmp_path / "late", {"config.pbtxt": CONFIG + "max_batch_size: 4\n"} | files)
    completed, step = False, 0
    while not completed:
        root = tmp_path / f"models-{step}"
        root.mkdir()
        completed = True
        for source in (early, late):
            with pytest.MonkeyPatch.context() as patch:
                dying(patch, step)
                try:
                    pull(source, root)
                except Killed:
                    completed = False
            assert_whole(root, texts)
        pull(late, root)
        assert_whole(root, texts)
        assert {path.name for path in (root / "m").iterdir() if path.is_dir()} == {"2", "3"}
        assert (root / "m" / "config.pbtxt").read_text() == CONFIG + "max_batch_size: 4\n"
        assert {path.name for path in root.iterdir()} == {"m", LOCK}
        step += 1
    assert step > 20


def test_leftovers_are_cleared(source: Path, root: Path) -> None:
    write(root / STAGING / "dead", {"half/model.py": "on"})
    pull(source, root)
    assert not (root / STAGING).exists()


def test_two_pulls_take_turns(source: Path, root: Path) -> None:
    said: list[str] = []
    second = threading.Thread(target=lambda: said.extend(pull(source, root)))
    with repository(root, said.append):
        second.start()
        second.join(0.2)
        assert not (root / "m").exists()
    second.join()
    assert said[0] == f"another pull is at work in {root}; waiting for it"
    assert contents(root)["m/1/model.py"] == "one"


def test_without_locks_pulls_at_once_leave_every_version_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*args: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    texts = {number: f"text of {number}" for number in ("1", "2")}
    source = write(
        tmp_path / "source",
        {"config.pbtxt": CONFIG}
        | {f"{number}/model.py": text for number, text in texts.items()}
        | {f"{number}/weights": text * 1000 for number, text in texts.items()},
    )
    root = tmp_path / "models"
    root.mkdir()

    def often() -> None:
        for _ in range(5):
            try:
                pull(source, root)
            except (PullError, OSError):
                continue

    pullers = [threading.Thread(target=often) for _ in range(4)]
    for puller in pullers:
        puller.start()
    while any(puller.is_alive() for puller in pullers):
        assert_whole(root, texts)
    pull(source, root)
    assert_whole(root, texts)
    assert {path.name for path in root.iterdir()} == {"m", LOCK}
