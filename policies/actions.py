"""What was decided, and why: actions, holds and the closed set of reasons.

Every action and every hold carries exactly one `Reason`; logs, metrics, the journal,
`explain` and the tests all speak of it by that one name.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from policies.history import History


class Reason(StrEnum):
    """Why a model is loaded, unloaded or left as it is.

    turns_away: waiting does not help, so a request for it is better refused at once. The
        front door still holds one whose next try (the hold's ``retry_at_s``) is near.
    """

    meaning: str
    turns_away: bool

    def __new__(cls, word: str, meaning: str, turns_away: bool = False) -> "Reason":
        reason = str.__new__(cls, word)
        reason._value_ = word
        reason.meaning = meaning
        reason.turns_away = turns_away
        return reason

    # why a model comes in
    PINNED = "pinned", "It is pinned now, always or by its weekly windows."
    DEMANDED = "demanded", "Requests for it wait, or came of late."
    FORESEEN = (
        "foreseen",
        "It comes at regular times, and its next turn is near, or the fleet is asked for it.",
    )
    COPIES = "copies", "It is one of the pods that keep it, by the policy's number of copies."
    HANDED_OVER = "handed_over", "Only pods that leave hold it, and its requests come here next."
    INHERITED = "inherited", "Others hold it and are asked for it; its requests come here now."
    RESTORED = "restored", "It was resident before Triton restarted, and there is room."
    HEALED = "healed", "It left because it was sick, and there is room."
    UPDATED = "updated", "Its files have changed since it was loaded."
    ROLLED_BACK = (
        "rolled_back",
        "Its changed files failed to load, so the versions from before serve again.",
    )
    # why a model leaves
    EVICTED = "evicted", "Another model is worth more than it, by the policy's hysteresis."
    IDLE = "idle", "Nobody used it for the policy's idle unload time."
    SPARE = "spare", "Another pod that is tried first holds it, and nobody asked for it here."
    OVER_BUDGET = "over_budget", "Residents exceed the device's budget."
    SICK = "sick", "Triton says READY, yet its process has died; it is loaded again."
    # why something wanted did not happen
    TRITON_UNREACHABLE = "triton_unreachable", "Triton did not answer; nothing is decided."
    WAITING_FOR_UNLOAD = "waiting_for_unload", "Its memory is on its way to being free."
    WAITING_FOR_LOAD_SLOT = "waiting_for_load_slot", "As many loads run as the policy allows."
    SWAP_DOES_NOT_PAY = "swap_does_not_pay", "What would leave is worth about as much or more."
    MINIMUM_RESIDENCY = "minimum_residency", "What would leave for it has only just come in."
    OUTRANKED = "outranked", "A worthier model waits for residents to come of age."
    NO_ROOM = "no_room", "Nothing that may leave now makes enough room."
    PINNED_OUT = "pinned_out", "Pinned models take the memory it needs.", True
    LARGER_THAN_BUDGET = "larger_than_budget", "It would not fit into the empty budget.", True
    FOOTPRINT_UNKNOWN = (
        "footprint_unknown",
        "Nothing is known of its size, or of a resident's.",
        True,
    )
    BUDGET_UNKNOWN = "budget_unknown", "The budget is a share of a device of unknown size.", True
    NOT_IN_REPOSITORY = (
        "not_in_repository",
        "It, or a model it needs, is not in the repository.",
        True,
    )
    BACKING_OFF = "backing_off", "It failed, and is tried again later.", True
    OUTDATED = "outdated", "Its files have changed, and are not loaded yet."
    UPDATE_REFUSED = "update_refused", "Its changed files cannot be loaded; it serves as it was."
    COOLING_DOWN = "cooling_down", "It has just been let go."
    CHURN_LIMIT = "churn_limit", "As many models were evicted of late as the policy allows."
    DEVICE_OVERUSED = "device_overused", "Memory is used beyond what the models account for."
    RESTART_ADVISED = "restart_advised", "Memory is lost that only a restart of Triton gives back."


@dataclass(frozen=True, slots=True)
class Load:
    """Bring ``model`` in.

    first: declared callees to load before it, in order. The steps of an ensemble are
        not among them: Triton loads those with the ensemble, and loading them by
        hand first would make it load them a second time.
    brings: every model that becomes resident by this action, ``model`` included unless it is
        there already.
    copies: models that are there already and get a second copy, which takes the place of the
        first once it can serve; the first serves until then.
    versions: the only ones to load, whatever the configuration on disk says; empty for those
        that it says.
    """

    model: str
    reason: Reason
    first: tuple[str, ...] = ()
    brings: tuple[str, ...] = ()
    for_model: str | None = None
    copies: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()

    @property
    def is_update(self) -> bool:
        """Whether ``model`` itself serves already, and goes on while its new copy loads."""
        return self.model in self.copies


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
    retry_at_s: when it may be tried again, where that is known; of a swap that does not pay,
        the moment from which the waiting of its requests would make it pay.
    detail: the numbers, in words.
    """

    subject: str
    reason: Reason
    detail: str = ""
    retry_at_s: float | None = None

    def in_words(self, now_s: float) -> str:
        """Its detail, or else what its reason means, and when it may be tried again."""
        text = self.detail or self.reason.meaning
        if self.retry_at_s is None:
            return text
        left_s = math.ceil(max(0.0, self.retry_at_s - now_s))
        if self.reason is Reason.SWAP_DOES_NOT_PAY:
            return f"{text}; by waiting alone it pays in {left_s} s"
        return f"{text}; next try in {left_s} s"


Action = Load | Unload

_NAMES_SHOWN = 3


def listed(names: Iterable[str]) -> str:
    """The first few names of many, and how many more there are."""
    ordered = sorted(names)
    shown, more = ", ".join(ordered[:_NAMES_SHOWN]), len(ordered) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


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
