"""Which pods come and go in a run, and when; as values.

Owns those. Which pods they are is drawn when it happens (`simulations.fleet.run`).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kill:
    """Pods are gone from one moment to the next, with all that is inside."""

    at_s: float
    pods: int = 1


@dataclass(frozen=True, slots=True)
class Drain:
    """Pods say that they leave, and are gone ``notice_s`` later."""

    at_s: float
    pods: int = 1
    notice_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Add:
    """New pods are created."""

    at_s: float
    pods: int = 1


@dataclass(frozen=True, slots=True)
class Rollout:
    """Every pod is replaced, ``at_once`` of them at a time."""

    at_s: float
    at_once: int = 1
    notice_s: float = 30.0


Change = Kill | Drain | Add | Rollout
