"""Reads the text of a policy, and says exactly what is wrong with a bad one.

Owns YAML, presets and the wording of configuration errors: each names the file and
line, the key, the value and what is allowed. Refuses to open files: text comes in.
"""

import difflib
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml
from pydantic import ValidationError

from policies.policy import Policy

PRESETS = ("balanced", "latency-first", "frugal")

Path = tuple[str | int, ...]
# Where something is written: a path with positions and numeric keys as text.
Place = tuple[str, ...]

_WELL = "well-formed YAML"
# Aliases can make a few lines of YAML endless when they are printed whole.
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a policy: where it stands, what stands there, what may."""

    file: str
    line: int | None
    key: str
    value: str
    allowed: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.value}; allowed: {self.allowed}"


class PolicyError(ValueError):
    """A policy that cannot be used, with every problem found in it."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


def parse(text: str, file: str = "policy") -> Policy:
    """The policy written in ``text``, on top of the preset it names.

    Raises PolicyError with every problem at once.
    """
    written, lines = read_mapping(text, file)
    chosen = written.get("preset", "balanced")
    base = preset(chosen) if chosen in PRESETS else {}
    try:
        return Policy.model_validate(_overlay(base, written))
    except ValidationError as error:
        problems = tuple(_problems(error, file, lines))
        raise PolicyError(problems) from None


def preset(name: str) -> dict[str, Any]:
    """The values of a preset, as written in its own file."""
    text = resources.files("policies").joinpath("presets", f"{name}.yaml").read_text("utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def effective(policy: Policy) -> dict[str, Any]:
    """The policy as plain values that `Policy.model_validate` reads back unchanged."""
    values = policy.model_dump(mode="json", by_alias=True, exclude={"models"})
    # What a pattern leaves unsaid must stay unsaid, or it would silence the patterns before it.
    values["models"] = {
        name: wishes.model_dump(mode="json", by_alias=True, exclude_unset=True)
        for name, wishes in policy.models.items()
    }
    return values


def schema() -> dict[str, Any]:
    """The JSON schema of a policy file, for editors and for our own error messages."""
    return Policy.model_json_schema(by_alias=True)


def describe(node: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """What may stand where ``node`` of the schema ``root`` describes a value, in words."""
    return _allowed(node, root, "")


def _overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = _overlay(below, value)
        else:
            merged[key] = value
    return merged


def read_mapping(text: str, file: str) -> tuple[dict[str, Any], dict[Place, int]]:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            return {}, {}
        lines, twice = _lines(root)
        if twice:
            raise PolicyError(
                tuple(
                    Problem(file, line, _dotted(path), "written twice", "each key once")
                    for path, line in twice
                )
            )
        value = yaml.safe_load(text)
    except RecursionError:
        raise PolicyError((Problem(file, None, "(file)", "nested too deeply", _WELL),)) from None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, PolicyError):
            raise
        # A ValueError is a scalar of a form YAML knows, as 2024-13-45, with an impossible value.
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        raise PolicyError((Problem(file, line, "(file)", what, _WELL),)) from None
    if not isinstance(value, dict):
        found = f"{type(value).__name__} {shown(value)}"
        raise PolicyError((Problem(file, 1, "(file)", found, "a mapping of keys to values"),))
    return {str(key): inner for key, inner in value.items()}, lines


def _lines(root: yaml.Node) -> tuple[dict[Place, int], list[tuple[Place, int]]]:
    """The line of every key, and the keys that stand twice in one mapping."""
    lines: dict[Place, int] = {}
    twice: list[tuple[Place, int]] = []
    open_nodes: list[tuple[Place, yaml.Node]] = [((), root)]
    expanded: set[int] = set()
    while open_nodes:
        path, node = open_nodes.pop()
        # An alias leads back to a node already walked; following it could go on for ever.
        if id(node) in expanded:
            continue
        expanded.add(id(node))
        for key, child, line in _children(node):
            inner = (*path, key)
            if inner in lines and isinstance(node, yaml.MappingNode):
                twice.append((inner, line))
                continue
            lines[inner] = line
            open_nodes.append((inner, child))
    return lines, twice


def _children(node: yaml.Node) -> Iterator[tuple[str, yaml.Node, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            yield str(key.value), child, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for position, child in enumerate(node.value):
            yield str(position), child, child.start_mark.line + 1


def _problems(error: ValidationError, file: str, lines: Mapping[Place, int]) -> Iterator[Problem]:
    root = schema()
    details = error.errors(include_url=False)
    paths = [tuple(part for part in detail["loc"] if _is_key(part, root)) for detail in details]
    told: set[Path] = set()
    for detail, path in zip(details, paths, strict=True):
        # A value that may have several forms fails once for each form; only the form that
        # came furthest says what is really wrong, and it says so once.
        deeper = any(len(other) > len(path) and other[: len(path)] == path for other in paths)
        if path in told or (path and deeper):
            continue
        told.add(path)
        if detail["type"] == "circle":
            path = ("models", detail["ctx"]["name"], "calls")
            circle = Problem(
                file, _line_of(path, lines), _dotted(path), detail["ctx"]["way"], "calls that end"
            )
            yield circle
            continue
        key = _dotted(path) or "(file)"
        node = _schema_at(root, path)
        if detail["type"] == "extra_forbidden":
            parent = _schema_at(root, path[:-1])
            value, allowed = "unknown key", _allowed_keys(str(path[-1]), parent)
        elif detail["type"] == "string_type" and detail["loc"][-1] == "[key]":
            value, allowed = f"the key {shown(detail['input'])} is no text", "a key in quotes"
        elif detail["loc"] and detail["loc"][-1] == "[key]":
            expected = str(detail["ctx"]["expected"]).replace("'", "")
            value, allowed = "unknown key", expected.replace(" or ", ", ")
        else:
            value, allowed = shown(detail["input"]), _allowed(node, root, detail["msg"])
        yield Problem(file, _line_of(path, lines), key, value, allowed)


def _line_of(path: Path, lines: Mapping[Place, int]) -> int | None:
    written = tuple(map(str, path))
    while written:
        if written in lines:
            return lines[written]
        written = written[:-1]
    return None


def _dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)


def shown(value: Any) -> str:
    text = _SHORT.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


# How pydantic names the branches of a union in an error's place; no key is called so.
_BRANCHES = ("bool", "int", "float", "function-", "tuple[", "Mapping[", "dict[", "constrained-")


def _is_key(part: str | int, root: Mapping[str, Any]) -> bool:
    return isinstance(part, int) or not (
        part.startswith(_BRANCHES) or part in root.get("$defs", {}) or part == "[key]"
    )


def _schema_at(root: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The schema of what stands at ``path``; empty where nothing is known to stand."""
    node: dict[str, Any] = dict(root)
    for part in path:
        node = next(
            (found for form in _forms(node, root) if (found := _step(form, part)) is not None),
            {},
        )
    forms = list(_forms(node, root))
    return node if len(forms) != 1 else forms[0] | {k: v for k, v in node.items() if k != "$ref"}


def _forms(node: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in node:
        yield from _forms(root["$defs"][node["$ref"].rsplit("/", 1)[-1]], root)
    elif "anyOf" in node and "x-allowed" not in node:
        for form in node["anyOf"]:
            yield from _forms(form, root)
    else:
        yield dict(node)


def _step(form: Mapping[str, Any], part: str | int) -> dict[str, Any] | None:
    inside = form.get("items") if isinstance(part, int) else form.get("properties", {}).get(part)
    if inside is None and isinstance(part, str):
        inside = form.get("additionalProperties") or None
    return inside if isinstance(inside, dict) else None


def _allowed_keys(unknown: str, parent: Mapping[str, Any]) -> str:
    keys = sorted(parent.get("properties", {}))
    near = difflib.get_close_matches(unknown, keys, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return ", ".join(keys) + meant


def _allowed(node: Mapping[str, Any], root: Mapping[str, Any], message: str) -> str:
    texts = [_allowed_form(node)] if "x-allowed" in node or "enum" in node else []
    texts = texts or [text for form in _forms(node, root) if (text := _allowed_form(form))]
    return " or ".join(dict.fromkeys(texts)) or message


def _allowed_form(form: Mapping[str, Any]) -> str:
    if "x-allowed" in form:
        return str(form["x-allowed"])
    if "enum" in form:
        return ", ".join(map(str, form["enum"]))
    kind = {
        "boolean": "true or false",
        "null": "null",
        "array": "a list",
        "object": "a mapping of keys to values",
        "string": "text",
        "integer": "a whole number",
        "number": "a number",
    }.get(form.get("type", ""), "")
    return f"{kind}{_limits(form)}"


def _limits(form: Mapping[str, Any]) -> str:
    low, high = form.get("minimum"), form.get("maximum")
    above = form.get("exclusiveMinimum")
    words = []
    if low is not None:
        words.append(f"from {low:.10g}")
    if above is not None:
        words.append(f"above {above:.10g}")
    if high is not None:
        words.append(f"up to {high:.10g}")
    return " " + " ".join(words) if words else ""
