"""A fleet's scenario: one commented YAML file that says what comes, how many pods there are and
what they are like, which of them come and go, what breaks between them, and what is expected of
each contestant.

Owns the file's keys; what is not said here is as in the scenarios of one pod. The leading comment
says what it shows. Refuses to know what comes of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from policies.policy import Section
from policies.problems import Lines, Place, Problem, line_of, near
from policies.quantities import PositiveSeconds, Seconds
from simulations.decider import Decider, deciding
from simulations.fleet.broker import Cut, GossipSpec
from simulations.fleet.churn import Add, Change, Drain, Kill, Rollout
from simulations.fleet.contestants import CONTESTANTS, RATIOS
from simulations.fleet.outcome import FIGURES
from simulations.fleet.run import FleetSpec, Setting
from simulations.pod.spec import PodSpec
from simulations.podsection import PodSection, pod_spec
from simulations.reading import ScenarioError, mapping, section, text_of
from simulations.scenario import Contrast, Expectation, leading_comment
from simulations.trial import total_bytes
from simulations.workloads.arrivals import Workload
from simulations.workloads.catalogue import Catalogue
from simulations.workloads.drawn_spec import Seed
from simulations.workloads.loading import load as loaded
from simulations.workloads.spec import WorkloadSpec

_Pods = Annotated[int, Field(ge=1, le=1000)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _FleetSection(Section):
    """As `FleetSpec` has it."""

    pods: _Pods
    memory: Annotated[float, Field(gt=0, le=1000)] | None = None
    """All pods' budgets together, as a multiple of the size of all models; in place of what pod and
    policy say."""
    start_s: Seconds = 20.0
    ready_s: Seconds = 5.0
    noticed_s: Seconds = 2.0
    balance: Annotated[float, Field(ge=1, le=100)] | None = 3.0
    """How much more than the mean of requests in flight one pod may have; null: no limit."""
    step_s: Annotated[PositiveSeconds, Field(le=10)] = 0.25

    def spec(self) -> FleetSpec:
        return FleetSpec(
            self.pods, self.start_s, self.ready_s, self.noticed_s, self.balance or 0.0, self.step_s
        )


class _Span(Section):
    from_s: Seconds
    to_s: PositiveSeconds

    @model_validator(mode="after")
    def _in_order(self) -> "_Span":
        if self.from_s >= self.to_s:
            raise ValueError("an end after the beginning")
        return self


class _PartitionSection(_Span):
    share: _Share = 0.5
    """Of the pods, that cannot reach the broker."""


class _GossipSection(Section):
    """As `GossipSpec` has it."""

    delay_s: Seconds = 0.1
    loss: Annotated[float, Field(ge=0, le=0.99)] = 0.0
    gap_s: Seconds | None = None
    heartbeat_s: PositiveSeconds = 60.0
    will_s: Seconds = 1.0
    silent_s: Seconds = 15.0
    reconnect_s: Seconds = 30.0
    partitions: tuple[_PartitionSection, ...] = ()
    outages: tuple[_Span, ...] = ()
    """When the broker is away."""

    def spec(self) -> GossipSpec:
        words = dict(self)
        cuts = [Cut(each.from_s, each.to_s, each.share) for each in words.pop("partitions")]
        cuts += [Cut(each.from_s, each.to_s, is_outage=True) for each in words.pop("outages")]
        return GossipSpec(**words, cuts=tuple(cuts))


class _ChangeSection(Section):
    """Pods that come or go."""

    at_s: Seconds
    kill: _Pods | None = None
    """So many are gone from one moment to the next."""
    drain: _Pods | None = None
    """So many say that they leave, and are gone after ``notice``."""
    add: _Pods | None = None
    """So many are created."""
    rollout: _Pods | None = None
    """All are replaced, so many at a time."""
    notice_s: Seconds = 30.0

    @model_validator(mode="after")
    def _one(self) -> "_ChangeSection":
        said = [self.kill, self.drain, self.add, self.rollout]
        if sum(each is not None for each in said) != 1:
            raise ValueError("exactly one of kill, drain, add and rollout")
        return self

    def change(self) -> Change:
        if self.kill is not None:
            return Kill(self.at_s, self.kill)
        if self.drain is not None:
            return Drain(self.at_s, self.drain, self.notice_s)
        if self.add is not None:
            return Add(self.at_s, self.add)
        assert self.rollout is not None, "one of the four is given"
        return Rollout(self.at_s, self.rollout, self.notice_s)


class _ScenarioFile(Section):
    workload: WorkloadSpec
    fleet: _FleetSection
    pod: PodSection | None = None
    """What each pod is like; its device is as large as ``fleet.memory`` asks for, if that is
    said."""
    policy: Any = None
    """A policy, the path of a policy file, a preset or a ranking."""
    gossip: _GossipSection = _GossipSection()
    churn: tuple[_ChangeSection, ...] = ()
    warm_up_s: Seconds = 0.0
    """What happens before that does not count."""
    seed: Seed = 0
    """Of what chance decides beside the traffic."""
    expectations: Mapping[str, Mapping[str, Expectation]] = Field(default_factory=dict)
    """By contestant, then by figure."""
    contrasts: tuple[Contrast, ...] = ()
    """Other values of our policy's knobs, and what they do to our figures."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario that can be run. memory: as the file has it; None: as the pod and the policy do.
    Paths in ``workload`` are relative to ``base``."""

    name: str
    about: str
    base: Path
    workload: WorkloadSpec
    decider: Decider
    fleet: FleetSpec
    memory: float | None
    pod: PodSpec | None
    gossip: GossipSpec
    churn: Sequence[Change]
    warm_up_s: float
    seed: int
    expectations: Mapping[str, Mapping[str, Expectation]]
    contrasts: tuple[Contrast, ...]

    def setting(self, values: Mapping[str, Any]) -> Setting:
        """What a contestant finds, whose policy has ``values`` in place of the scenario's."""
        workload, catalogue = _traffic(self.workload.model_dump_json(by_alias=True), self.base)
        pod, values = self.pod, dict(values)
        if self.memory is not None:
            budget_bytes = round(self.memory * total_bytes(catalogue) / self.fleet.pods)
            values |= {"budget": budget_bytes, "headroom": 0, "devices": {}}
            pod = replace(pod or PodSpec(budget_bytes), device_bytes=budget_bytes)
        assert pod is not None, "a scenario says how large pods are"
        return Setting(
            workload=workload,
            catalogue=catalogue,
            policy=self.decider.with_values(values).policy if values else self.decider.policy,
            pod=pod,
            fleet=self.fleet,
            gossip=self.gossip,
            churn=self.churn,
            warm_up_s=self.warm_up_s,
            seed=self.seed,
        )


@lru_cache(maxsize=2)
def _traffic(spec: str, base: Path) -> tuple[Workload, Catalogue]:
    return loaded(WorkloadSpec.model_validate_json(spec), base)


def load(path: Path) -> Scenario:
    """The scenario in a file; raises ScenarioError with every problem at once."""
    return parsed(text_of(path), str(path), path.parent, path.stem)


def parsed(text: str, file: str = "scenario", base: Path = Path(), name: str = "") -> Scenario:
    """The scenario that ``text`` describes; paths in it are relative to ``base``."""
    values, lines = mapping(text, file)
    said = section(_ScenarioFile, values, lines, file)
    if found := [*_unknown(said, lines, file)]:
        raise ScenarioError(found)
    if said.pod is None and said.fleet.memory is None:
        allowed = "a pod, as `pod: {device: 24GiB}`, or `memory: 1.5` in `fleet`"
        raise ScenarioError([Problem(file, None, "pod", "missing", allowed)])
    decider = deciding(said.policy, "faithful", text, base, (file, line_of(("policy",), lines)))
    return Scenario(
        name=name or Path(file).stem,
        about=leading_comment(text),
        base=base,
        workload=said.workload,
        decider=decider,
        fleet=said.fleet.spec(),
        memory=said.fleet.memory,
        pod=None if said.pod is None else pod_spec(said.pod),
        gossip=said.gossip.spec(),
        churn=tuple(each.change() for each in said.churn),
        warm_up_s=said.warm_up_s,
        seed=said.seed,
        expectations=said.expectations,
        contrasts=said.contrasts,
    )


def _unknown(said: _ScenarioFile, lines: Lines, file: str) -> Iterator[Problem]:
    """Contestants and figures that nobody knows."""
    named: list[tuple[Place, Sequence[str], str]] = []
    for contestant, expected in said.expectations.items():
        named.append((("expectations", contestant), [*CONTESTANTS], "contestant"))
        for figure in expected:
            known = [*FIGURES, *RATIOS]
            named.append((("expectations", contestant, figure), known, "figure"))
    for number, contrast in enumerate(said.contrasts):
        named.append((("contrasts", str(number), "figure", contrast.figure), [*FIGURES], "figure"))
    for place, allowed, kind in named:
        if place[-1] not in allowed:
            said_so, line = f"no such {kind}", line_of(place, lines)
            yield Problem(file, line, ".".join(place), said_so, near(place[-1], allowed))
