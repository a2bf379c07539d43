"""What a scenario may say of traffic that is drawn: one section for each law.

Owns the keys, ranges and defaults of `simulations.workloads.generators`. Rates are requests a
second.
"""

from typing import Annotated

from pydantic import Field, model_validator

from policies.policy import Section
from policies.quantities import PositiveSeconds, Seconds
from simulations.workloads import generators
from simulations.workloads.arrivals import Workload

Models = Annotated[int, Field(ge=1, le=1_000_000)]
Rate = Annotated[float, Field(gt=0, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Exponent = Annotated[float, Field(ge=0, le=10)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class DrawnTraffic(Section):
    """What all laws have."""

    models: Models
    """How many there are."""
    duration_s: PositiveSeconds
    """How long the traffic lasts."""
    seed: Seed = 0
    """Of every draw."""

    def workload(self) -> Workload:
        """The traffic. Each law knows its own generator."""
        raise NotImplementedError


class ZipfSpec(DrawnTraffic):
    """Poisson arrivals, some models far more popular than others."""

    rate: Rate
    """Of all models together."""
    exponent: Exponent = 1.0
    """How steeply popularity falls with a model's rank; 0 makes all alike."""

    def workload(self) -> Workload:
        return generators.zipf(**dict(self))


class DiurnalSpec(DrawnTraffic):
    """As zipf, each model with a day and a night of its own."""

    rate: Rate
    """Of all models together, on average."""
    exponent: Exponent = 1.0
    """How steeply popularity falls with a model's rank."""
    period_s: PositiveSeconds = 86400.0
    """From one height to the next."""
    swing: Share = 0.8
    """How far a rate rises and falls, as a share of its average."""

    def workload(self) -> Workload:
        return generators.diurnal(**dict(self))


class TimersSpec(DrawnTraffic):
    """Models called on a schedule."""

    periods_s: Annotated[tuple[PositiveSeconds, ...], Field(min_length=1)]
    """Each model has one of them, drawn."""
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """A call is late by up to this share of its period."""
    calls: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Requests that come together."""

    def workload(self) -> Workload:
        return generators.timers(**dict(self))


class BurstsSpec(DrawnTraffic):
    """Models that sleep and wake at random."""

    rate: Rate
    """Of one model while it is awake."""
    awake_s: PositiveSeconds = 60.0
    """How long it stays awake, on average."""
    asleep_s: PositiveSeconds = 600.0
    """How long it sleeps, on average."""

    def workload(self) -> Workload:
        return generators.bursts(**dict(self))


class HotSetSpec(DrawnTraffic):
    """A few models have most of the traffic, and then others do."""

    rate: Rate
    """Of all models together."""
    hot: Models
    """How many are hot at once; at most as many as there are."""
    share: Share = 0.9
    """Of all requests, what goes to them."""
    shift_s: PositiveSeconds = 3600.0
    """After this long, others are drawn."""

    @model_validator(mode="after")
    def _hot_are_models(self) -> "HotSetSpec":
        if self.hot > self.models:
            raise ValueError(f"hot is {self.hot}; allowed: from 1 to models, {self.models}")
        return self

    def workload(self) -> Workload:
        return generators.hot_set(**dict(self))


class FlashCrowdSpec(DrawnTraffic):
    """As zipf, and then a crowd comes for the least popular model."""

    rate: Rate
    """Of all models together, without the crowd."""
    at_s: Seconds
    """When the first of the crowd come."""
    peak: Rate
    """Of the crowd at its height."""
    rise_s: PositiveSeconds = 60.0
    """How long the crowd grows."""
    fade_s: PositiveSeconds = 1800.0
    """After that, it falls by a factor of e in each such time."""
    exponent: Exponent = 1.0
    """How steeply popularity falls with a model's rank."""

    def workload(self) -> Workload:
        return generators.flash_crowd(**dict(self))
