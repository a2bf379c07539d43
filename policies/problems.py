"""What is wrong with values that somebody wrote, in words.

Owns the wording of configuration errors: each names the file and line, the key, the value and what
is allowed, as the JSON schema of the values has it. Refuses to know any key, and where text comes
from.
"""

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

# Where something is written: a path with positions and numeric keys as text.
Place = tuple[str, ...]
Lines = Mapping[Place, int]
Schema = Mapping[str, Any]

# Aliases can make a few lines of YAML endless when they are printed whole.
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file: where it stands, what stands there, what may."""

    file: str
    line: int | None
    key: str
    value: str
    allowed: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.value}; allowed: {self.allowed}"


def problems(error: ValidationError, root: Schema, file: str, lines: Lines) -> Iterator[Problem]:
    """What ``error`` says of values whose schema is ``root``, each thing once."""
    details = error.errors(include_url=False)
    walked = [_walk(detail["loc"], root) for detail in details]
    told: set[Place] = set()
    for detail, (key, node) in zip(details, walked, strict=True):
        # A value that may have several forms fails once for each form; only the form that
        # came furthest says what is really wrong, and it says so once.
        deeper = any(len(other) > len(key) and other[: len(key)] == key for other, _ in walked)
        if key in told or (key and deeper):
            continue
        told.add(key)
        if detail["type"] == "circle":
            key = ("models", detail["ctx"]["name"], "calls")
        value, allowed = _said(detail, key, node, root)
        yield Problem(file, line_of(key, lines), ".".join(key) or "(file)", value, allowed)


def _said(detail: ErrorDetails, key: Place, node: Schema, root: Schema) -> tuple[str, str]:
    """What stands there, and what is allowed."""
    is_key = detail["loc"][-1:] == ("[key]",)
    match detail["type"]:
        case "circle":
            return detail["ctx"]["way"], "calls that end"
        case "extra_forbidden":
            _, parent = _walk(detail["loc"][:-1], root)
            return "unknown key", near(key[-1], _properties(parent, root))
        case "string_type" if is_key:
            return f"the key {shown(detail['input'])} is no text", "a key in quotes"
        case _ if is_key:
            expected = str(detail["ctx"]["expected"]).replace("'", "")
            return "unknown key", expected.replace(" or ", ", ")
        case "missing":
            return "missing", _allowed(node, root, "a value")
        case "value_error" if _properties(node, root):
            # Several keys that do not go together; the schema knows nothing of that.
            return shown(detail["input"]), detail["msg"].removeprefix("Value error, ")
    return shown(detail["input"]), _allowed(node, root, detail["msg"])


def line_of(key: Place, lines: Lines) -> int | None:
    """Where ``key`` stands, or the nearest above it that is written at all."""
    while key:
        if key in lines:
            return lines[key]
        key = key[:-1]
    return None


def shown(value: Any) -> str:
    text = _SHORT.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def near(unknown: str, known: Iterable[str]) -> str:
    """All that is known, and what was probably meant."""
    names = sorted(known)
    close = difflib.get_close_matches(unknown, names, n=1)
    return ", ".join(names) + (f" (did you mean {close[0]}?)" if close else "")


def describe(node: Schema, root: Schema) -> str:
    """What may stand where ``node`` of the schema ``root`` describes a value, in words."""
    return _allowed(node, root, "")


# --- the schema ----------------------------------------------------------------------------------


def _walk(place: tuple[str | int, ...], root: Schema) -> tuple[Place, Schema]:
    """The keys of ``place`` as they are written, and the schema of what stands there; an empty one
    where nothing is known to stand.

    Besides keys, a place names the form that pydantic tried, wherever there are several, and ends
    with ``[key]`` where the last key itself is wrong. A model may be called like a form.
    """
    key: list[str] = []
    node, forms, chosen = root, _forms(root, root), False
    for part in place:
        if not chosen and sum(form.get("type") != "null" for form in forms) > 1:
            chosen = True
            continue
        if part == "[key]":
            break
        key.append(str(part))
        node = next((step for form in forms if (step := _step(form, part)) is not None), {})
        forms, chosen = _forms(node, root), False
    if len(forms) == 1:
        node = {**forms[0], **{name: value for name, value in node.items() if name != "$ref"}}
    return tuple(key), node


def _forms(node: Schema, root: Schema) -> list[Schema]:
    """The alternatives that a schema allows, references followed."""
    if "$ref" in node:
        return _forms(root["$defs"][node["$ref"].rsplit("/", 1)[-1]], root)
    if "anyOf" in node and "x-allowed" not in node:
        return [form for inner in node["anyOf"] for form in _forms(inner, root)]
    return [node]


def _step(form: Schema, part: str | int) -> Schema | None:
    if isinstance(part, int):
        places = form.get("prefixItems", [])
        inside = places[part] if part < len(places) else form.get("items")
    else:
        inside = form.get("properties", {}).get(part) or form.get("additionalProperties")
    return inside if isinstance(inside, Mapping) else None


def _properties(node: Schema, root: Schema) -> list[str]:
    return [name for form in _forms(node, root) for name in form.get("properties", {})]


def _allowed(node: Schema, root: Schema, message: str) -> str:
    texts = [_allowed_form(node)] if "x-allowed" in node or "enum" in node else []
    texts = texts or [text for form in _forms(node, root) if (text := _allowed_form(form))]
    return " or ".join(dict.fromkeys(texts)) or message


def _allowed_form(form: Schema) -> str:
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


def _limits(form: Schema) -> str:
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
