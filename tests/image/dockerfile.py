"""What a Dockerfile says, and what .dockerignore lets into its context.

Owns their syntax, as far as ours use it. Carries nothing out.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import PathSpec


@dataclass(frozen=True, slots=True)
class Instruction:
    """flags: as --from=builder. rest: what follows them, its lines joined."""

    name: str
    flags: dict[str, str]
    rest: str

    def words(self) -> list[str]:
        return shlex.split(self.rest)

    def listed(self) -> list[str]:
        """Of the exec form."""
        found = json.loads(self.rest)
        assert isinstance(found, list), self.rest
        return [str(each) for each in found]


@dataclass(slots=True)
class Stage:
    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)


def stages(text: str) -> list[Stage]:
    """In their order; arguments have their defaults."""
    found: list[Stage] = []
    given: dict[str, str] = {}
    for each in instructions(text):
        if each.name == "FROM":
            base, *named = each.words()
            found.append(Stage(filled(base, given), named[1] if named else str(len(found))))
        elif found:
            found[-1].instructions.append(each)
        else:
            assert each.name == "ARG", each
            given |= dict([each.rest.split("=", 1)])
    return found


def instructions(text: str) -> Iterator[Instruction]:
    # A comment may stand between the lines of an instruction.
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            flags = {}
            if name in ("COPY", "FROM"):
                while match := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
                    flags[match[1]], rest = match[2], rest[match.end() :]
            yield Instruction(name, flags, rest)


def filled(text: str, given: Mapping[str, str]) -> str:
    """With the variables, $NAME or ${NAME}, in their places."""
    return re.sub(r"\$(\w+)|\$\{(\w+)\}", lambda found: given[found[1] or found[2]], text)


def context(root: Path) -> list[Path]:
    """The files below `root` that a build is given, relative to it."""
    text = (root / ".dockerignore").read_text()
    lines = [line for line in text.splitlines() if line[:1] not in ("", "#")]
    patterns = []
    for line in lines:
        # Unlike .gitignore's, every pattern begins at the root, and `*` is what lies in it, whole.
        sign, pattern = ("!", line[1:]) if line[0] == "!" else ("", line)
        patterns += [f"{sign}/{pattern}", f"{sign}/{pattern}/**"]
    ignored = PathSpec.from_lines("gitignore", patterns)
    kept = {line[1:].split("/")[0] for line in lines if line[0] == "!"}
    found = []
    for top in kept:
        for path in (root / top).rglob("*") if (root / top).is_dir() else [root / top]:
            name = path.relative_to(root)
            if path.is_file() and not ignored.match_file(name):
                found.append(name)
    return sorted(found)
