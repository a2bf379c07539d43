"""What the replay asks of a residency policy, and nothing more.

Owns the protocol. A policy sees arrivals and who is resident; it never sees what comes later,
unless it was made with the workload in hand, as the clairvoyant ones are.
"""

import math
from dataclasses import dataclass
from typing import Protocol

from simulations.residency.memory import Memory, Models, Values

NEVER_S = math.inf


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done at a miss: who leaves before the load, or that it is refused.

    A refused request is never served.
    """

    victims: tuple[int, ...] | list[int] = ()
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Wake:
    """What a policy does of its own accord: who leaves, then who is loaded before it is asked for.

    What no longer fits is not loaded.
    """

    leave: tuple[int, ...] = ()
    load: tuple[int, ...] = ()


class Policy(Protocol):
    """Decides who is resident.

    name: as in reports. wake_s: when it wants to be asked next without an arrival; infinite
    where it acts at misses only. The replay reads it after each call.
    """

    name: str
    wake_s: float

    def begin(self, models: Models, time_s: Values) -> None:
        """The arrivals that are played next, in this order, for who works out at once what each
        of them will have taught it. No decision may go by one before it is played; how a
        workload is cut into runs must make no difference.
        """

    def hits(self, models: Models, time_s: Values, weight: Values) -> None:
        """A run of arrivals that all found their model resident; a model may come repeatedly."""

    def miss(self, model: int, time_s: float, weight: float, memory: Memory) -> Decision:
        """An arrival whose model is absent and fits the budget; it is loaded after the victims
        have left, and must fit then."""

    def wake(self, time_s: float, memory: Memory) -> Wake:
        """Called when ``wake_s`` has come, before any arrival of that moment."""


class AtMissesOnly:
    """What policies share that neither wake nor prewarm."""

    wake_s = NEVER_S

    def begin(self, models: Models, time_s: Values) -> None:
        """It learns as it goes."""

    def wake(self, time_s: float, memory: Memory) -> Wake:
        raise AssertionError("it never asks to be woken")
