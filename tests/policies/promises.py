"""What no plan ever does, as checks of one decision."""

from policies.actions import Load, Plan, Reason
from policies.policy import Policy
from policies.snapshot import (
    Snapshot,
)
from tests.policies.world import (
    LOADING,
    READY,
)


def check_pins(policy: Policy, seen: Snapshot, decided: Plan) -> None:
    """In spite of its pin leaves only a sick one, or one that leans on a sick one, and what comes
    back at once from changed files."""
    pinned = {name for name in seen.models if policy.wishes(name).pinned_at(seen.now_s)}
    for unload in decided.unloads:
        if unload.reason not in (Reason.SICK, Reason.UPDATED):
            for name in (unload.model, *unload.takes):
                needs = {name, *callers_of(policy, seen, name)}
                assert not needs & pinned, f"{name} left in spite of a pin"
                model = seen.models[name]
                assert model.state is READY


def check_copies(policy: Policy, seen: Snapshot, decided: Plan) -> None:
    """The first copies that the policy asks for stay; what others hold, and come before, may go."""
    for unload in decided.unloads:
        if unload.reason is Reason.SICK:
            continue
        for name in (unload.model, *unload.takes):
            found = seen.models[name].copies
            assert found is None or found.ahead >= policy.copies(name), f"{name} was to be kept"
        if unload.reason is Reason.SPARE:
            found = seen.models[unload.model].copies
            assert found is not None
            assert found.ahead > 0
            assert found.rank != 0


def check_engaged(seen: Snapshot, decided: Plan) -> None:
    """Nobody in the middle of a model, or about to be served by it, loses it to a decision."""
    for unload in decided.unloads:
        for name in (unload.model, *unload.takes):
            model = seen.models[name]
            if unload.reason is not Reason.SICK and not model.sick:
                assert model.leases <= 0, f"{name} left with streams open"
                assert model.draining or model.waiting <= 0, f"{name} left before it served"


def callers_of(policy: Policy, seen: Snapshot, name: str) -> set[str]:
    found: set[str] = set()
    while True:
        more = {
            other.name
            for other in seen.models.values()
            if {*other.steps, *policy.calls(other.name)} & {name, *found}
        }
        if more <= found:
            return found
        found |= more


def check_answers(policy: Policy, seen: Snapshot, decided: Plan) -> None:
    """What is wanted and away is loaded, or brought, or held with one reason."""
    brought = {name for load in decided.loads for name in load.brings}
    subjects = [hold.subject for hold in decided.holds]
    for name, model in seen.models.items():
        if model.state not in (READY, LOADING) and is_called_for(policy, seen, decided, name):
            assert (name in brought) != (subjects.count(name) == 1), name
    assert {*subjects} <= {*seen.models, *seen.devices, *policy.models}
    assert len({(hold.subject, hold.reason) for hold in decided.holds}) == len(decided.holds)


def is_called_for(policy: Policy, seen: Snapshot, decided: Plan, name: str) -> bool:
    """By its pin, by requests that wait, or by new ones that were not asked of its callers."""
    model = seen.models[name]
    if model.waiting or policy.wishes(name).pinned_at(seen.now_s):
        return True
    through = any(seen.models[caller].arrivals for caller in callers_of(policy, seen, name))
    has_just_left = decided.history.models[name].left_at_s == seen.now_s if model.arrivals else True
    return not through and not has_just_left


def check_shape(decided: Plan) -> None:
    kinds = [isinstance(action, Load) for action in decided.actions]
    assert kinds == sorted(kinds), "unloads come first"
    gone = [name for u in decided.unloads for name in (u.model, *u.takes)]
    come = [name for load in decided.loads for name in (*load.brings, *load.copies)]
    assert len(set(gone + come)) == len(gone + come), "each model moves once"


def check_patience(seen: Snapshot, decided: Plan) -> None:
    """What has failed is not tried again before its time, unless as it was before."""
    for load in decided.loads:
        retry_at_s = decided.history.models[load.model].retry_at_s
        is_early = retry_at_s is not None and seen.now_s < retry_at_s
        assert not is_early or load.versions, f"{load.model} was tried too early"
        assert not load.versions or load.reason is Reason.ROLLED_BACK


def check_updates(policy: Policy, seen: Snapshot, decided: Plan) -> None:
    """One at a time, of settled files that are others than before; no swap of what others need,
    nor of what has failed."""
    updates = [load.model for load in decided.loads if load.is_update]
    swaps = [each.model for each in decided.unloads if each.reason is Reason.UPDATED]
    under_way = [name for name, m in seen.models.items() if m.former or m.updating]
    assert len(updates) + len(swaps) <= 1
    assert not (updates and under_way)
    for name in (*updates, *swaps):
        since_s = seen.models[name].outdated_since_s
        assert since_s is not None
        assert seen.now_s - since_s >= policy.versions.settle_s
    for name in swaps:
        assert decided.history.models[name].failures == 0
        assert not callers_of(policy, seen, name) & here_in(seen)


def here_in(seen: Snapshot) -> set[str]:
    return {name for name, model in seen.models.items() if model.state in (READY, LOADING)}
