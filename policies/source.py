"""Reads the text of a policy.

Owns YAML, the line that each key of it stands in, and presets. What is wrong with a bad policy is
said by `policies.problems`. Refuses to open files: text comes in.
"""

from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import yaml
from pydantic import ValidationError

from policies.policy import Policy
from policies.problems import Place, Problem, problems, shown

PRESETS = ("balanced", "latency-first", "frugal")

_WELL = "well-formed YAML"


class PolicyError(ValueError):
    """A policy that cannot be used, with every problem found in it."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))

    def __reduce__(self) -> tuple[type["PolicyError"], tuple[tuple[Problem, ...]]]:
        # By the arguments it was made with: it may be raised in another process.
        return type(self), (self.problems,)


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
        raise PolicyError(tuple(problems(error, schema(), file, lines))) from None


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
                    Problem(file, line, ".".join(path), "written twice", "each key once")
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
