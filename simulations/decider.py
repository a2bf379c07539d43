"""Who decides in a run, and so at which speed: a policy of the product, by the production plan in
a simulated pod, or a residency policy by its name, in a fast replay.

Owns how either is named and read, and how other values are laid over a policy as it is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from policies.policy import Policy, RankingName
from policies.problems import Problem
from policies.source import PRESETS, PolicyError, parse
from simulations.reading import ScenarioError, mapping, text_of
from simulations.residency.named import POLICIES

Speed = Literal["fast", "faithful"]
Place = tuple[str, int | None]
"""A file and a line, for what is said of a problem there."""

_OURS = "remora"


@dataclass(frozen=True, slots=True)
class Decider:
    """label: what it is called in tables.

    fast: the residency policy's name; None where ``policy`` decides, by the production plan.
    written: the policy before presets and defaults fill it in.
    """

    label: str
    fast: str | None = None
    policy: Policy = field(default_factory=Policy)
    written: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_fast(self) -> bool:
        return self.fast is not None

    def with_values(self, values: Mapping[str, Any]) -> "Decider":
        """The same with other values of the policy, by dotted key and as they would be written.

        Raises ScenarioError: a policy with these values cannot be used.
        """
        written = laid_over(self.written, values)
        text = yaml.safe_dump(written, sort_keys=False)
        place = f"{self.label} with {', '.join(values)}"
        return replace(self, policy=_parsed(text, place), written=written)


def deciding(said: Any, speed: Speed, text: str, base: Path, place: Place) -> Decider:
    """The decider that a scenario names, or whose policy stands in its ``text``."""
    if isinstance(said, Mapping) and speed == "faithful":
        return Decider("policy", None, _inline(text, place[0]), said)
    if said is None:
        said = _OURS if speed == "fast" else PRESETS[0]
    if speed == "fast" and said not in POLICIES:
        raise ScenarioError([Problem(*place, "policy", _short(said), ", ".join(POLICIES))])
    return named(said, speed, base, place)


def named(name: Any, speed: Speed, base: Path, place: Place) -> Decider:
    """The decider of this name: at the fast speed a residency policy, at the faithful one a
    ranking, at either a preset or the path of a policy file."""
    if speed == "fast" and name in POLICIES:
        return Decider(name, name)
    if name in PRESETS:
        return Decider(name).with_values({"preset": name})
    if speed == "faithful" and name in set(RankingName):
        return Decider(name).with_values({"ranking": name})
    if isinstance(name, str) and (base / name).is_file():
        path = base / name
        text = text_of(path)
        return Decider(path.stem, None, _parsed(text, str(path)), mapping(text, str(path))[0])
    names = ", ".join([*(POLICIES if speed == "fast" else RankingName), *PRESETS])
    allowed = f"{names}, or the path of a policy file"
    raise ScenarioError([Problem(*place, "policy", _short(name), allowed)])


def _inline(text: str, file: str) -> Policy:
    """The policy inside a scenario's ``text``.

    All before it is left blank when it is read, so that problems keep their lines.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    node = next(value for key, value in root.value if key.value == "policy")
    start, end = node.start_mark, node.end_mark
    return _parsed("\n" * start.line + " " * start.column + text[start.index : end.index], file)


def laid_over(written: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """``written`` with ``values`` by dotted key in place of its own."""
    laid = dict(written)
    for key, value in values.items():
        head, _, rest = key.partition(".")
        below = laid.get(head)
        inner = below if isinstance(below, Mapping) else {}
        laid[head] = laid_over(inner, {rest: value}) if rest else value
    return laid


def _short(said: Any) -> str:
    return repr(said) if isinstance(said, str) else f"a {type(said).__name__}"


def _parsed(text: str, file: str) -> Policy:
    try:
        return parse(text, file)
    except PolicyError as error:
        raise ScenarioError(error.problems) from None
