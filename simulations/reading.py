"""Reads YAML that is no policy into sections, and says all that keeps it from being one.

Owns the error of such a file; reading and wording are those of policies. Refuses to know any key.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from policies.problems import Lines, Problem, problems
from policies.source import PolicyError, read_mapping

Kind = TypeVar("Kind", bound=BaseModel)


class ScenarioError(ValueError):
    """A scenario, or another file beside it, that cannot be used; with every problem found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type["ScenarioError"], tuple[tuple[Problem, ...]]]:
        # By the arguments it was made with: it may be raised in another process.
        return type(self), (self.problems,)


def text_of(path: Path) -> str:
    """Raises ScenarioError where there is no such file, or no text in it."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        said = "not UTF-8"
    except (OSError, ValueError) as error:
        # A path with a NUL byte is a ValueError.
        said = str(error.strerror) if isinstance(error, OSError) else str(error)
    else:
        return text
    problem = Problem(str(path), None, "(file)", said, "a readable file of UTF-8 text")
    raise ScenarioError([problem])


def mapping(text: str, file: str) -> tuple[dict[str, Any], Lines]:
    """The keys and values that ``text`` holds, and the line of every key."""
    try:
        return read_mapping(text, file)
    except PolicyError as error:
        raise ScenarioError(error.problems) from None


def section(kind: type[Kind], written: Mapping[str, Any], lines: Lines, file: str) -> Kind:
    """``written`` as a ``kind``, or ScenarioError with all that keeps it from being one."""
    try:
        return kind.model_validate(written)
    except ValidationError as error:
        root = kind.model_json_schema(by_alias=True)
        raise ScenarioError(problems(error, root, file, lines)) from None
