"""Decides recorded ticks again, by today's code or by another policy.

Owns the comparison. What happened between ticks is taken as recorded: another policy
would have changed every later snapshot, and only a simulation can tell how.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from policies.actions import Plan
from policies.journal import Tick
from policies.planner import plan
from policies.policy import Policy


@dataclass(frozen=True, slots=True)
class Divergence:
    """A tick that is decided otherwise now than it was then.

    what: "actions", "holds" or "history".
    """

    number: int
    tick: Tick
    plan: Plan
    what: str


@dataclass(slots=True)
class Replay:
    """Iterates over divergences; counts the ticks it has passed."""

    ticks: Iterable[Tick]
    policy: Policy | None = None
    count: int = 0

    def __iter__(self) -> Iterator[Divergence]:
        policy, written = self.policy, None
        for tick in self.ticks:
            self.count += 1
            if self.policy is None and tick.policy is not written:
                policy, written = Policy.model_validate(tick.policy), tick.policy
            assert policy is not None
            decision = plan(policy, tick.snapshot, tick.history)
            what = _difference(tick, decision, whole=self.policy is None)
            if what:
                yield Divergence(self.count, tick, decision, what)


def _difference(tick: Tick, decision: Plan, *, whole: bool) -> str:
    """The first part that differs. Another policy may well remember otherwise, which only
    matters once it decides otherwise."""
    if decision.actions != tuple(tick.actions):
        return "actions"
    if whole and decision.holds != tuple(tick.holds):
        return "holds"
    if whole and decision.history != tick.next_history:
        return "history"
    return ""
