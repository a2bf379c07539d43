"""Carries out the Dockerfile without a container engine: in chroots, over Debian's own Python.

Owns what an engine would do: roots, the context, copies, commands and their environment. What the
image is made of is the Dockerfile's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.image.dockerfile import Stage, context, filled, stages

ROOT = Path(__file__).parents[2]
# In the place of python:3.11-slim, whose Debian is newer and whose Python is in /usr/local.
SUITE, PACKAGES = "bookworm", ("python3.11", "python3-pip", "python-is-python3", "ca-certificates")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# How this machine reaches the index.
PASSED = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE")
LENT = ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs")
TIMEOUT_S = 1800.0


@dataclass(slots=True)
class Image:
    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)


def build(folder: Path) -> Image:
    """The last stage; a base that lies in `folder` from an earlier time is taken again."""
    base = folder / "base"
    if not base.exists():
        half = folder / "base.half"
        shutil.rmtree(half, ignore_errors=True)
        include = f"--include={','.join(PACKAGES)}"
        _run("debootstrap", "--variant=minbase", include, SUITE, str(half))
        # Debian's own mark, which python:3.11-slim does not have.
        for mark in half.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            mark.unlink()
        half.rename(base)
    given = folder / "context"
    shutil.rmtree(given, ignore_errors=True)
    for path in context(ROOT):
        (given / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, given / path)
    made: dict[str, Image] = {}
    for stage in stages((ROOT / "Dockerfile").read_text()):
        assert stage.base.startswith("python:3.11"), stage.base
        root = folder / f"stage-{stage.name}"
        shutil.rmtree(root, ignore_errors=True)
        _run("cp", "--archive", "--reflink=auto", str(base), str(root))
        made[stage.name] = Image(root)
        _carry_out(stage, made[stage.name], given, made)
    return list(made.values())[-1]


def _carry_out(stage: Stage, image: Image, given: Path, made: dict[str, Image]) -> None:
    for each in stage.instructions:
        match each.name:
            case "RUN":
                assert image.user == "0:0", "RUN as another user is not carried out here"
                print(f"{stage.name}: RUN {each.rest}", flush=True)
                _in_chroot(image, each.rest)
            case "COPY":
                *sources, target = each.words()
                source = made[each.flags["from"]].root if "from" in each.flags else given
                _copy([source / name.lstrip("/") for name in sources], _below(image, target))
            case "ENV":
                for word in each.words():
                    name, _, value = word.partition("=")
                    image.environment[name] = filled(value, image.environment)
            case "WORKDIR":
                image.folder = each.rest
                _below(image, each.rest).mkdir(parents=True, exist_ok=True)
            case "USER":
                image.user = each.rest
            case "VOLUME":
                image.volumes += each.words()
            case "ENTRYPOINT":
                image.entrypoint = each.listed()
            case "CMD":
                image.command = each.listed()
            case "HEALTHCHECK":
                image.health = type(each)("CMD", {}, each.rest.partition("CMD ")[2]).listed()
            # Of no effect on what is run.
            case "ARG" | "LABEL" | "EXPOSE":
                pass
            case other:
                raise NotImplementedError(other)


def _below(image: Image, path: str) -> Path:
    return image.root / os.path.normpath(os.path.join(image.folder, path)).lstrip("/")


def _copy(sources: list[Path], target: Path) -> None:
    """A folder's content, or files into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    for source in sources:
        what = f"{source}/." if source.is_dir() else str(source)
        _run("cp", "--archive", "--no-preserve=ownership", what, str(target))


def _in_chroot(image: Image, command: str) -> None:
    lent = [name for name in LENT if Path("/", name).exists()]
    for name in lent:
        place = image.root / name
        if not place.exists():
            place.touch()
    mounts = [f"mount --bind /{name} {image.root}/{name}" for name in lent]
    mounts += [f"mount -t proc proc {image.root}/proc", f"mount --rbind /dev {image.root}/dev"]
    inner = 'cd "$0" && exec sh -c "$1"'
    script = f'set -e; {"; ".join(mounts)}; exec chroot {image.root} sh -c \'{inner}\' "$0" "$1"'
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    _run(
        "unshare", "--mount", "sh", "-c", script, image.folder, command,
        environment={**passed, **image.environment},
    )  # fmt: skip


def _run(*command: str, environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, env=environment, timeout=TIMEOUT_S)
