"""A scenario: one commented YAML file that says what comes, what there is, who decides, and what
is expected of it.

Owns the file's keys. The leading comment says what the scenario shows. Refuses to know what
comes of it (`simulations.trial`). Durations and memory carry their unit, as in a policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby, takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from policies.policy import Section
from policies.problems import Lines, Place, Problem, line_of, near
from simulations.comparison.figures import FIGURES, TO_BOUND
from simulations.decider import Decider, Speed, deciding
from simulations.pod.spec import PodSpec
from simulations.podsection import PodSection, pod_spec
from simulations.reading import ScenarioError, mapping, section, text_of
from simulations.workloads.drawn_spec import Seed
from simulations.workloads.spec import WorkloadSpec

Why = Annotated[str, Field(min_length=1)]


class Expectation(Section):
    """What one figure should be."""

    at_least: float | None = None
    at_most: float | None = None
    exactly: float | None = None
    between: tuple[float, float] | None = None
    why: Why
    """What it would mean if it were otherwise."""

    @model_validator(mode="after")
    def _says_something(self) -> "Expectation":
        if not self.model_fields_set & {"at_least", "at_most", "exactly", "between"}:
            raise ValueError("one of at_least, at_most, exactly and between")
        return self

    def holds(self, value: float) -> bool:
        low, high = self.between or (value, value)
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.exactly is None or value == self.exactly)
            and low <= value <= high
        )

    def __str__(self) -> str:
        words = []
        if self.exactly is not None:
            words.append(f"{self.exactly:g}")
        if self.between is not None:
            words.append(f"from {self.between[0]:g} to {self.between[1]:g}")
        if self.at_least is not None:
            words.append(f"at least {self.at_least:g}")
        if self.at_most is not None:
            words.append(f"at most {self.at_most:g}")
        return " and ".join(words)


class Contrast(Section):
    """What another value of one of the policy's knobs does to one figure."""

    knob: str
    """Its key in the policy, as ``residency.minimum``."""
    value: Any
    """The other value, as it would be written."""
    figure: str
    """The figure that changes."""
    becomes: Literal["more", "less"]
    """How it changes."""
    why: Why
    """What the knob does here."""


class _ScenarioFile(Section):
    workload: WorkloadSpec
    pod: PodSection | None = None
    policy: Any = None
    """At the fast speed a residency policy's name, ours by default. Else a policy, the path of a
    policy file, a preset or a ranking; by default the preset that policies have by default."""
    seed: Seed = 0
    """Of what chance decides in the pod."""
    speed: Speed = "faithful"
    """``fast`` replays residency only: instant loads, no queues, and no knobs of a policy."""
    budget: Annotated[float, Field(gt=0, le=1)] | None = None
    """The budget as a share of the size of all models, in place of the policy's own."""
    skip_without: Path | None = None
    """Data that does not come with this file; where it is absent there is nothing to run."""
    expectations: Mapping[str, Expectation] = Field(default_factory=dict)
    """By figure."""
    contrasts: tuple[Contrast, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario that can be run. Paths in it are relative to ``base``.

    about: paragraphs of prose, an empty line between them.
    window: only the traffic from the first second on and before the second; None is all of it.
    """

    name: str
    about: str
    base: Path
    workload: WorkloadSpec
    pod: PodSpec | None
    decider: Decider
    seed: int
    budget: float | None
    skip_without: Path | None
    expectations: Mapping[str, Expectation]
    contrasts: tuple[Contrast, ...]
    window: tuple[float, float] | None = None

    @property
    def is_absent(self) -> bool:
        """The data that it needs is not on this machine."""
        return self.skip_without is not None and not (self.base / self.skip_without).exists()

    @property
    def needs_bound(self) -> bool:
        return any(figure in TO_BOUND for figure in self.expectations)


def load(path: Path) -> Scenario:
    """The scenario in a file; raises ScenarioError with every problem at once."""
    return parsed(text_of(path), str(path), path.parent, path.stem)


def parsed(text: str, file: str = "scenario", base: Path = Path(), name: str = "") -> Scenario:
    """The scenario that ``text`` describes; paths in it are relative to ``base``."""
    values, lines = mapping(text, file)
    said = section(_ScenarioFile, values, lines, file)
    _check_figures(said, lines, file)
    place = (file, line_of(("policy",), lines))
    decider = deciding(said.policy, said.speed, text, base, place)
    if said.contrasts and decider.is_fast:
        said_so = "knobs of a policy, which has none at the fast speed"
        raise ScenarioError(
            [Problem(file, line_of(("contrasts",), lines), "contrasts", said_so, "none")]
        )
    if said.pod is None and said.budget is None:
        allowed = "a pod, as `pod: {device: 24GiB}`, or a budget, as `budget: 0.25`"
        raise ScenarioError([Problem(file, None, "pod", "missing", allowed)])
    return Scenario(
        name=name or Path(file).stem,
        about=leading_comment(text),
        base=base,
        workload=said.workload,
        pod=None if said.pod is None else pod_spec(said.pod),
        decider=decider,
        seed=said.seed,
        budget=said.budget,
        skip_without=said.skip_without,
        expectations=said.expectations,
        contrasts=said.contrasts,
    )


def leading_comment(text: str) -> str:
    """Its paragraphs, with an empty line between them; where a line ends means nothing."""
    lines = takewhile(lambda line: line.startswith("#"), text.splitlines())
    said = [line.lstrip("#").strip() for line in lines]
    paragraphs = (" ".join(group) for full, group in groupby(said, key=bool) if full)
    return "\n\n".join(paragraphs)


def _check_figures(said: _ScenarioFile, lines: Lines, file: str) -> None:
    known = {*FIGURES, *TO_BOUND}
    keys: list[Place] = [("expectations", name) for name in said.expectations if name not in known]
    keys += [
        ("contrasts", str(number), "figure", contrast.figure)
        for number, contrast in enumerate(said.contrasts)
        if contrast.figure not in FIGURES
    ]
    if keys:
        raise ScenarioError(
            Problem(
                file, line_of(key, lines), ".".join(key), "no such figure", near(key[-1], known)
            )
            for key in keys
        )
