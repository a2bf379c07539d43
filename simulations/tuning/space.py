"""Which of a policy's values are searched, and in which range.

Owns the space: its default, its form as YAML, and the way from the unit cube to values as a policy
would write them. Refuses to know how the cube is searched.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from policies.policy import Section
from policies.quantities import parse_seconds
from simulations.comparison.figures import FIGURES
from simulations.reading import mapping, section, text_of

Bound = float | str


class Knob(Section):
    """One value: a number or a duration within a range, or one of several choices."""

    from_: Bound | None = None
    """The least; with a unit (``30s``) it is a duration."""
    to: Bound | None = None
    """The most."""
    scale: Literal["even", "log"] = "even"
    """``log`` searches 1 to 10 as densely as 10 to 100."""
    whole: bool = False
    """Whole numbers only."""
    choices: tuple[Any, ...] | None = None
    """The values themselves, in place of a range."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "Knob":
        if self.choices:
            return self
        low, high = self.range
        if not low < high or (self.scale == "log" and low <= 0):
            raise ValueError("choices, or from below to, both above 0 on a log scale")
        return self

    @property
    def range(self) -> tuple[float, float]:
        low, high = (math.nan if end is None else _plain(end) for end in (self.from_, self.to))
        return low, high

    def at(self, share: float) -> Any:
        """The value at ``share`` (0 to 1) of the way, as a policy would write it."""
        if self.choices:
            return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)]
        low, high = self.range
        if self.whole and self.scale == "even":
            return min(int(low + share * (high - low + 1)), int(high))
        value = low + share * (high - low)
        if self.scale == "log":
            value = low * (high / low) ** share
        # Three digits: more would claim a precision that no search has.
        value = round(value) if self.whole else float(f"{value:.3g}")
        return f"{value:g}s" if isinstance(self.from_, str) else value


class Space(Section):
    """knobs: by dotted key of the policy. objective: figures and what one of each costs."""

    knobs: Annotated[Mapping[str, Knob], Field(min_length=1)]
    objective: Mapping[str, Annotated[float, Field(ge=0)]]

    @model_validator(mode="after")
    def _known(self) -> "Space":
        unknown = sorted(set(self.objective) - set(FIGURES))
        if unknown or not any(self.objective.values()):
            raise ValueError(f"an objective with figures of {', '.join(FIGURES)}")
        return self

    def values(self, point: Sequence[float]) -> dict[str, Any]:
        """The values at a point of the unit cube, which has a side for each knob."""
        return {
            key: knob.at(float(share))
            for (key, knob), share in zip(self.knobs.items(), point, strict=True)
        }

    def score(self, figures: Mapping[str, float]) -> float:
        """What these figures cost; less is better."""
        return sum(cost * figures[name] for name, cost in self.objective.items())


def _plain(end: Bound) -> float:
    return parse_seconds(end) if isinstance(end, str) else end


DEFAULT = Space.model_validate(
    {
        "knobs": {
            "horizon": {"from": "30s", "to": "2h", "scale": "log"},
            "demand.fast": {"from": "10s", "to": "10m", "scale": "log"},
            "demand.slow": {"from": "10m", "to": "24h", "scale": "log"},
            "residency.minimum": {"from": "1s", "to": "5m", "scale": "log"},
            "residency.hysteresis": {"from": 0, "to": 2},
            "churn.evictions": {"from": 10, "to": 1000, "scale": "log", "whole": True},
            "loads.concurrent": {"from": 1, "to": 4, "whole": True},
            "front_door.patience": {"from": "2s", "to": "60s", "scale": "log"},
            "prewarm": {"choices": [True, False]},
        },
        # A load that nobody waits for costs a tenth of one that somebody feels; a request that
        # is never served costs as much as half a minute of waiting.
        "objective": {"visible_cold_s": 1.0, "load_s": 0.1, "failed": 30.0},
    }
)


def load(path: Path) -> Space:
    """The space in a file; what it leaves out is the default's."""
    written, lines = mapping(text_of(path), str(path))
    default = DEFAULT.model_dump(by_alias=True, exclude_unset=True)
    return section(Space, {**default, **written}, lines, str(path))
