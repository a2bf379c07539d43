"""Where the programs of the control plane come from; nothing here builds the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.controlplane.binaries import SOURCES, BuildFailed, NoControlPlane, find

GO = """\
#!/bin/sh
echo "$@" >>{calls}
{body}
"""
BUILDS = """\
while [ "$1" != -o ]; do shift; done
echo built >"$2"
chmod +x "$2"
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A go that writes what it is told to build; its calls lie in the file `calls`."""
    program = tmp_path / "bin" / "go"
    program.parent.mkdir()
    program.write_text(GO.format(calls=tmp_path / "calls", body=BUILDS))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_what_is_built_is_kept(go: Path, tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    binaries = find(environment)
    assert find(environment).folder == binaries.folder
    assert [call.split()[-1] for call in calls(tmp_path)] == list(SOURCES.values())
    assert all(Path(binaries.path(name)).read_text() == "built\n" for name in SOURCES)


def test_a_build_that_fails_says_why_and_leaves_nothing(go: Path, tmp_path: Path) -> None:
    go.write_text(GO.format(calls=tmp_path / "calls", body="echo no such module >&2; exit 1"))
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    with pytest.raises(BuildFailed, match="no such module"):
        find(environment)
    assert not any(path.name in SOURCES for path in (tmp_path / "cache").rglob("*"))


def test_without_go_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoControlPlane, match="go is not on PATH"):
        find({"XDG_CACHE_HOME": str(tmp_path)})


def test_named_programs_are_taken_as_they_are(tmp_path: Path) -> None:
    for name in SOURCES:
        (tmp_path / name).touch(0o755)
    assert find({"KUBEBUILDER_ASSETS": str(tmp_path)}).folder == tmp_path


def test_a_named_folder_that_lacks_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "etcd").touch(0o755)
    with pytest.raises(BuildFailed, match=r"lacks \['kube-apiserver', 'kube-controller-manager'\]"):
        find({"KUBEBUILDER_ASSETS": str(tmp_path)})
