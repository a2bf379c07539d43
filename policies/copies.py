"""What the fleet's copies of a model mean for this pod: which to bring in, keep, and let go.

Owns those rules; each pod follows them alone, from what gossip says. They rest on one order of pods
for each model, the same seen from every pod that stays (`policies.places`), so that two pods with
the same view never both bring in what one of them should, and never both let go of what the other
counts on: who lets go always leaves to a pod that is tried before it, and the first of those that
hold a model leaves to nobody.

A model of whose copies nothing is known is as in a pod alone, and none of this applies. That is so
too where all peers have fallen silent: no rule brings in or lets go because of silence.
"""

from policies.actions import Reason
from policies.history import ModelHistory
from policies.policy import Policy
from policies.snapshot import Model


def why_called(policy: Policy, model: Model) -> Reason | None:
    """Why an absent model should be here although nobody asks for it here; a pod that leaves has
    no place in any order, and takes in nothing."""
    copies = model.copies
    if copies is None or copies.rank is None:
        return None
    if copies.rank < policy.copies(model.name):
        return Reason.COPIES
    if copies.rank > 0 or not (policy.fleet.hand_over and policy.routes_by_model):
        return None
    if copies.leaving and not copies.warm:
        return Reason.HANDED_OVER
    return Reason.INHERITED if copies.warm and copies.asked else None


def is_kept(policy: Policy, model: Model) -> bool:
    """Whether this pod's copy is one of those that the policy asks for, or stands in for one: the
    first so many that there are do not leave, be they where they are. A pod that should hold it
    and cannot has no say in that."""
    copies = model.copies
    return copies is not None and copies.ahead < policy.copies(model.name)


def is_spare(
    policy: Policy, model: Model, past: ModelHistory, now_s: float, *, leaving: bool
) -> bool:
    """Whether nobody would miss this pod's copy: its requests go to other pods, one of which holds
    the model, and none has come here of late.

    leaving: this pod goes, so that all of its requests go to others.
    """
    copies = model.copies
    if copies is None or not policy.routes_by_model:
        return False
    if leaving:
        return copies.warm > 0
    if copies.rank == 0 or not copies.ahead or is_kept(policy, model):
        return False
    return past.last_use_s is None or now_s - past.last_use_s >= policy.demand.fast_s


def coming(policy: Policy, model: Model) -> float:
    """Requests per second that peers have had of late for a model whose requests come here now."""
    copies = model.copies
    if copies is None or copies.rank != 0 or not policy.routes_by_model:
        return 0.0
    return copies.asked / 3600
