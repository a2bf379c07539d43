"""What was decided, and why: actions, holds and the closed set of reasons.

Every action and every hold carries exactly one `Reason`; logs, metrics, the journal,
`explain` and the tests all speak of it by that one name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from policies.history import History


class Reason(StrEnum):
    """Why a model is loaded, unloaded or left as it is."""

    # why a model comes in
    PINNED = "pinned"
    DEMANDED = "demanded"
    RESTORED = "restored"
    HEALED = "healed"
    # why a model leaves
    EVICTED = "evicted"
    IDLE = "idle"
    OVER_BUDGET = "over_budget"
    SICK = "sick"
    MEMORY_OF_UNIT = "memory_of_unit"
    # why something wanted did not happen
    TRITON_UNREACHABLE = "triton_unreachable"
    WAITING_FOR_UNLOAD = "waiting_for_unload"
    WAITING_FOR_LOAD_SLOT = "waiting_for_load_slot"
    WAITING_FOR_DRAIN = "waiting_for_drain"
    SWAP_DOES_NOT_PAY = "swap_does_not_pay"
    NO_ROOM = "no_room"
    LARGER_THAN_BUDGET = "larger_than_budget"
    FOOTPRINT_UNKNOWN = "footprint_unknown"
    BUDGET_UNKNOWN = "budget_unknown"
    NOT_IN_REPOSITORY = "not_in_repository"
    BACKING_OFF = "backing_off"
    COOLING_DOWN = "cooling_down"
    CHURN_LIMIT = "churn_limit"
    DEVICE_OVERUSED = "device_overused"
    RESTART_ADVISED = "restart_advised"


@dataclass(frozen=True, slots=True)
class Load:
    """Bring ``model`` in.

    first: declared callees to load before it, in order. The steps of an ensemble are
        not among them: Triton loads those with the ensemble, and loading them by
        hand first would make it load them a second time.
    brings: every model that becomes resident by this action, ``model`` included.
    """

    model: str
    reason: Reason
    first: tuple[str, ...] = ()
    brings: tuple[str, ...] = ()
    for_model: str | None = None


@dataclass(frozen=True, slots=True)
class Unload:
    """Let ``model`` go, then ``takes``, the members nobody else needs, in order.

    for_model: whose room it makes, when it is evicted for another.
    """

    model: str
    reason: Reason
    takes: tuple[str, ...] = ()
    for_model: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Something wanted that did not happen.

    subject: a model's name, a device's id, or "" for everything.
    retry_at_s: when it may be tried again, where that is known.
    detail: the numbers, in words.
    """

    subject: str
    reason: Reason
    detail: str = ""
    retry_at_s: float | None = None


Action = Load | Unload


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered actions (unloads first), holds, and what to remember for next time."""

    actions: tuple[Action, ...]
    holds: tuple[Hold, ...]
    history: History

    @property
    def loads(self) -> Iterator[Load]:
        return (action for action in self.actions if isinstance(action, Load))

    @property
    def unloads(self) -> Iterator[Unload]:
        return (action for action in self.actions if isinstance(action, Unload))
