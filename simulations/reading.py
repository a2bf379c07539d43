"""Reads YAML into sections, and says exactly what is wrong with what cannot be read.

Owns the wording for files that are not policies; it is that of `policies.source`: the file and
line, the key, the value and what is allowed, every problem at once. Refuses to know any key.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from policies.source import PolicyError, Problem, describe, read_mapping, shown

Key = tuple[str, ...]
Lines = Mapping[Key, int]
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
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not UTF-8"
        problem = Problem(str(path), None, "(file)", str(said), "a readable file of UTF-8 text")
        raise ScenarioError([problem]) from None


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
        raise ScenarioError(_problems(error, file, lines, root)) from None


def line_of(key: Key, lines: Lines) -> int | None:
    """Where ``key`` stands, or the nearest above it that is written at all."""
    while key:
        if key in lines:
            return lines[key]
        key = key[:-1]
    return None


def near(unknown: str, known: Iterable[str]) -> str:
    """All that is known, and what was probably meant."""
    names = sorted(known)
    close = difflib.get_close_matches(unknown, names, n=1)
    return ", ".join(names) + (f" (did you mean {close[0]}?)" if close else "")


def _problems(
    error: ValidationError, file: str, lines: Lines, root: Mapping[str, Any]
) -> list[Problem]:
    found: dict[Key, Problem] = {}
    for detail in error.errors(include_url=False):
        key, node = _walk(root, detail["loc"])
        value, allowed = shown(detail["input"]), describe(node, root)
        if detail["type"] == "extra_forbidden":
            _, parent = _walk(root, detail["loc"][:-1])
            value, allowed = "unknown key", near(key[-1], _properties(parent, root))
        elif detail["type"] == "missing":
            value = "missing"
        elif detail["type"] == "value_error" and _properties(node, root):
            allowed = detail["msg"].removeprefix("Value error, ")
        named = ".".join(key) or "(file)"
        # A value that may have several forms fails once for each of them, and is told once.
        found.setdefault(key, Problem(file, line_of(key, lines), named, value, allowed))
    return list(found.values())


def _walk(root: Mapping[str, Any], place: tuple[str | int, ...]) -> tuple[Key, dict[str, Any]]:
    """The keys of ``place`` as they are written, and the schema of what stands there.

    Besides keys, a place names the forms that pydantic tried; nothing is written there.
    """
    key: list[str] = []
    node = dict(root)
    for number, part in enumerate(place):
        inner = next((i for form in _forms(node, root) if (i := _step(form, part))), None)
        last_unknown = inner is None and number == len(place) - 1 and not _is_form(part, root)
        if inner is not None or last_unknown:
            key.append(str(part))
            node = dict(inner or {})
    forms = _forms(node, root)
    return tuple(key), node if len(forms) != 1 else {**forms[0], **_own(node)}


def _is_form(part: str | int, root: Mapping[str, Any]) -> bool:
    return isinstance(part, str) and (
        part in ("bool", "int", "float", "str", "[key]")
        or part in root.get("$defs", {})
        or "[" in part
        or part.startswith(("function-", "constrained-"))
    )


def _properties(node: Mapping[str, Any], root: Mapping[str, Any]) -> list[str]:
    return [name for form in _forms(node, root) for name in form.get("properties", {})]


def _own(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "$ref"}


def _forms(node: Mapping[str, Any], root: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The alternatives that a schema allows, references followed."""
    if "$ref" in node:
        return _forms(root["$defs"][node["$ref"].rsplit("/", 1)[-1]], root)
    if "anyOf" in node and "x-allowed" not in node:
        return [form for inner in node["anyOf"] for form in _forms(inner, root)]
    return [dict(node)]


def _step(form: Mapping[str, Any], part: str | int) -> Mapping[str, Any] | None:
    if isinstance(part, int):
        places = form.get("prefixItems", [])
        inside = places[part] if part < len(places) else form.get("items")
    else:
        inside = form.get("properties", {}).get(part) or form.get("additionalProperties")
    return inside if isinstance(inside, Mapping) else None
