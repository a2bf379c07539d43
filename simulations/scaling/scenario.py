"""A scaling scenario: one commented YAML file that says what comes, what the pods are like, what
the HPA is told, and what is expected of each signal.

Owns the file's keys; what is not said here is as in the scenarios of one pod. The leading comment
says what it shows. Refuses to know what comes of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from policies.policy import Section
from policies.problems import Lines, Place, Problem, line_of, near
from policies.quantities import PositiveSeconds, Seconds
from simulations.decider import Decider, deciding
from simulations.podsection import PodSection, pod_spec
from simulations.reading import ScenarioError, mapping, section, text_of
from simulations.scaling.deployment import DeploymentSpec
from simulations.scaling.hpa import (
    DOWN,
    UP,
    Behavior,
    PolicyType,
    Rules,
    ScalingPolicy,
    Select,
)
from simulations.scaling.outcome import FIGURES, TO_CLAIRVOYANT
from simulations.scaling.routing import RoutingName
from simulations.scaling.run import Limits, Outage, OutageKind, Setting
from simulations.scaling.signals import CLAIRVOYANT, TARGETS
from simulations.scaling.traffic import Day, Line, Rate, Traffic
from simulations.scenario import Contrast, Expectation, leading_comment
from simulations.workloads.catalogue import GIB, Profile
from simulations.workloads.drawn_spec import Seed
from simulations.workloads.known import load_s
from simulations.workloads.spec import ModelSpec

_PerSecond = Annotated[float, Field(ge=0, le=100_000)]
_Replicas = Annotated[int, Field(ge=1, le=1000)]
_Sigma = Annotated[float, Field(ge=0, le=3)]


class _DaySection(Section):
    least: _PerSecond
    most: _PerSecond
    period_s: PositiveSeconds


class _RateSection(Section):
    """Requests a second, of all models together."""

    line: Annotated[tuple[tuple[Seconds, _PerSecond], ...], Field(min_length=1)] | None = None
    """Straight from each point to the next; two at one time make a jump."""
    day: _DaySection | None = None
    """A sine that begins with the least."""

    @model_validator(mode="after")
    def _one_law(self) -> "_RateSection":
        if (self.line is None) is (self.day is None):
            raise ValueError("exactly one of line and day")
        times = [at_s for at_s, _ in self.line or ()]
        if times != sorted(times):
            raise ValueError("points in order of time")
        return self

    def rate(self) -> Rate:
        if self.line is not None:
            return Line(self.line)
        assert self.day is not None, "one of the two is given"
        return Day(self.day.least, self.day.most, self.day.period_s)


class _ModelSection(ModelSpec):
    share: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    """Of all requests, beside the others' shares."""
    count: Annotated[int, Field(ge=1, le=10_000)] = 1
    """So many alike, each with this share; they are called NAME-0 and so on."""

    def names(self, name: str) -> list[str]:
        return [name] if self.count == 1 else [f"{name}-{number}" for number in range(self.count)]

    def profile(self) -> Profile:
        words = self.model_dump(exclude_none=True, exclude={"share", "count"})
        size_bytes = words.setdefault("size_bytes", GIB)
        words.setdefault("load_s", load_s(size_bytes))
        return Profile(**words)


class _TrafficSection(Section):
    duration_s: PositiveSeconds
    rate: _RateSection
    models: Annotated[Mapping[str, _ModelSection], Field(min_length=1)]
    service_sigma: _Sigma = 0.3
    """Sigma of the log-normal factor of each request's execution."""
    seed: Seed = 0

    def traffic(self) -> Traffic:
        models = {each: model for name, model in self.models.items() for each in model.names(name)}
        return Traffic(
            self.rate.rate(),
            self.duration_s,
            {name: model.share for name, model in models.items()},
            {name: model.profile() for name, model in models.items()},
            self.service_sigma,
            self.seed,
        )


class _DeploymentSection(Section):
    """As `DeploymentSpec` has it."""

    replicas: _Replicas = 2
    pull_s: Seconds = 20.0
    start_s: Seconds = 15.0
    jitter: _Sigma = 0.1
    grace_s: Seconds = 60.0


class _PolicySection(Section):
    type: PolicyType
    value: Annotated[int, Field(ge=1, le=100_000)]
    period_s: Annotated[PositiveSeconds, Field(le=1800)]


class _RulesSection(Section):
    """One direction of an HPA's ``behavior``, which keeps the defaults of what is not said."""

    policies: Annotated[tuple[_PolicySection, ...], Field(min_length=1)] | None = None
    select: Select = Select.MAX
    stabilisation_s: Seconds | None = None
    tolerance: Annotated[float, Field(ge=0)] | None = None

    def rules(self, default: Rules) -> Rules:
        said, window_s = self.policies, self.stabilisation_s
        policies = [ScalingPolicy(each.type, each.value, each.period_s) for each in said or ()]
        return Rules(
            tuple(policies) or default.policies,
            self.select,
            default.stabilisation_s if window_s is None else window_s,
            self.tolerance,
        )


class _BehaviorSection(Section):
    up: _RulesSection = _RulesSection()
    down: _RulesSection = _RulesSection()


class _HPASection(Section):
    minimum: _Replicas = 2
    maximum: _Replicas = 20
    behavior: _BehaviorSection | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "_HPASection":
        if self.minimum > self.maximum:
            raise ValueError("minimum at most maximum")
        return self

    def limits(self) -> Limits:
        said = self.behavior
        behavior = None if said is None else Behavior(said.up.rules(UP), said.down.rules(DOWN))
        return Limits(self.minimum, self.maximum, behavior)


class _OutageSection(Section):
    kind: OutageKind
    from_s: Seconds
    to_s: PositiveSeconds


class _ObjectiveSection(Section):
    wait_s: PositiveSeconds
    """How long a request may wait beyond its own execution."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Of requests that must not wait longer: what the clairvoyant scaler attains."""


class _ScenarioFile(Section):
    traffic: _TrafficSection
    pod: PodSection
    policy: Any = None
    """A policy, the path of a policy file, a preset or a ranking."""
    deployment: _DeploymentSection = _DeploymentSection()
    hpa: _HPASection = _HPASection()
    routing: RoutingName = RoutingName.RANDOM
    objective: _ObjectiveSection
    rollouts_s: tuple[Seconds, ...] = ()
    """When a new revision is rolled out."""
    outages: tuple[_OutageSection, ...] = ()
    seed: Seed = 0
    """Of what chance decides beside the traffic."""
    expectations: Mapping[str, Mapping[str, Expectation]] = Field(default_factory=dict)
    """By signal, then by figure."""
    contrasts: tuple[Contrast, ...] = ()
    """Other values of our policy's knobs, and what they do to our figures."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario that can be run. attainment: of the objective, by which the clairvoyant goes."""

    name: str
    about: str
    decider: Decider
    setting: Setting
    attainment: float
    expectations: Mapping[str, Mapping[str, Expectation]]
    contrasts: tuple[Contrast, ...]


def load(path: Path) -> Scenario:
    """The scenario in a file; raises ScenarioError with every problem at once."""
    return parsed(text_of(path), str(path), path.parent, path.stem)


def parsed(text: str, file: str = "scenario", base: Path = Path(), name: str = "") -> Scenario:
    """The scenario that ``text`` describes; paths in it are relative to ``base``."""
    values, lines = mapping(text, file)
    said = section(_ScenarioFile, values, lines, file)
    if found := [*_unknown(said, lines, file)]:
        raise ScenarioError(found)
    decider = deciding(said.policy, "faithful", text, base, (file, line_of(("policy",), lines)))
    setting = Setting(
        traffic=said.traffic.traffic(),
        policy=decider.policy,
        pod=pod_spec(said.pod),
        deployment=DeploymentSpec(**dict(said.deployment)),
        limits=said.hpa.limits(),
        routing=said.routing,
        slo_s=said.objective.wait_s,
        rollouts_s=said.rollouts_s,
        outages=tuple(Outage(each.kind, each.from_s, each.to_s) for each in said.outages),
        seed=said.seed,
    )
    return Scenario(
        name=name or Path(file).stem,
        about=leading_comment(text),
        decider=decider,
        setting=setting,
        attainment=said.objective.share,
        expectations=said.expectations,
        contrasts=said.contrasts,
    )


def _unknown(said: _ScenarioFile, lines: Lines, file: str) -> Iterator[Problem]:
    """Signals and figures that nobody knows."""
    signals, known = [*TARGETS, CLAIRVOYANT], [*FIGURES, TO_CLAIRVOYANT]
    named: list[tuple[Place, Sequence[str]]] = []
    for signal, expected in said.expectations.items():
        named.append((("expectations", signal), signals))
        named += [(("expectations", signal, figure), known) for figure in expected]
    named += [
        (("contrasts", str(number), "figure", contrast.figure), [*FIGURES])
        for number, contrast in enumerate(said.contrasts)
    ]
    for place, allowed in named:
        if place[-1] not in allowed:
            kind = "no such signal" if allowed is signals else "no such figure"
            allowed_text = near(place[-1], allowed)
            yield Problem(file, line_of(place, lines), ".".join(place), kind, allowed_text)
