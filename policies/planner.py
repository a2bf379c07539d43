"""Decides, once a tick, which models come in and which leave: `plan()`.

In order: sick models are healed; devices over their budget are relieved; idle models are let go,
and copies that the fleet can spare; then every model that is wanted, foreseen to be, or called
for by the fleet (see `policies.copies`) is loaded if it fits, or makes room if that pays, or is
held with the reason why not. The worthiest come first, after those that are pinned and those
that somebody has waited for longer than the policy's patience, or, while loads queue for slots,
after those whose loads save most waiting; what is only foreseen comes after what is asked for.
At last one resident whose files have changed is loaded anew (see `policies.updates`).

`plan` is total and deterministic: odd input leads to a hold, never to an exception, and
the order in which models are listed changes nothing. It never promises more memory than
a device's budget (see `policies.memory`), and never unloads what is pinned or engaged (open
streams, requests on their way), except to heal it, or what is pinned to swap it for changed files.
A pod that leaves keeps what it has, and takes in nothing but what requests wait for.

An unload that is decided takes effect when the model has drained. Until then it is decided
again each tick, like everything else, and a plan without it calls the drain off.
"""

from collections.abc import Mapping

from policies.actions import Hold, Plan, Reason, listed
from policies.demand import advance
from policies.draft import Draft
from policies.history import History
from policies.memory import Ledger, Need
from policies.policy import Policy
from policies.quantities import format_bytes
from policies.room import make_room
from policies.snapshot import ModelState, Snapshot
from policies.survey import Survey
from policies.units import Units
from policies.updates import falls_back, roll_in, swap_on


def plan(policy: Policy, snapshot: Snapshot, history: History) -> Plan:
    """What to do now, what was wanted and is not done, and what to remember."""
    if not snapshot.reachable:
        return Plan((), (Hold("", Reason.TRITON_UNREACHABLE),), history)
    history = advance(policy, snapshot, history)
    units = Units(policy, snapshot.models)
    draft = Draft(Survey.of(policy, snapshot, history, units), Ledger(policy, snapshot, units))
    _heal(draft)
    _relieve(draft)
    if not snapshot.leaving:
        _let_idle_go(draft)
        _let_spare_go(draft)
        swap_on(draft)
    for name, reason in _candidates(draft):
        _admit(draft, name, reason)
    if not snapshot.leaving:
        roll_in(draft)
    _note_lost_pins(draft)
    _note_overuse(draft)
    return draft.plan()


def _heal(draft: Draft) -> None:
    """A sick model leaves with its callers, whoever pinned it: it serves nobody as it is."""
    survey = draft.survey
    for name in survey.residents():
        if not survey.models[name].sick or name in draft.gone or survey.models[name].updating:
            continue
        retry_at_s = survey.past(name).retry_at_s
        deaths = survey.past(name).failures
        if deaths > 1 and retry_at_s is not None and survey.now_s < retry_at_s:
            draft.hold(name, Reason.BACKING_OFF, f"died {deaths} times in a row", retry_at_s)
            continue
        for caller in survey.units.callers(name):
            if caller not in draft.gone and survey.state(caller) is ModelState.READY:
                draft.unload(survey.resident(caller), Reason.SICK)
        draft.unload(survey.resident(name), Reason.SICK)


def _relieve(draft: Draft) -> None:
    """Brings devices whose residents exceed the budget back under it, least worth first."""
    for device in sorted(draft.ledger.overdrawn()):
        for resident in draft.leavers():
            if device not in draft.ledger.overdrawn():
                break
            if resident.frees.get(device, 0) > 0:
                draft.unload(resident, Reason.OVER_BUDGET)
        short = draft.ledger.overdrawn().get(device)
        if short:
            draft.hold(device, Reason.OVER_BUDGET, _why_over(draft, device, short))


def _why_over(draft: Draft, device: str, short: int) -> str:
    engaged = [
        name
        for resident in draft.leavers(engaged=True)
        for name in (resident.name, *resident.takes)
        if draft.survey.is_engaged(name) and draft.survey.taken_by([name]).get(device, 0) > 0
    ]
    if engaged:
        subject = f"open streams or requests on their way to {listed(engaged)}"
        return f"{subject} keep the budget exceeded by {format_bytes(short)}"
    return f"pinned models and loads exceed the budget by {format_bytes(short)}"


def _let_idle_go(draft: Draft) -> None:
    survey = draft.survey
    if not survey.policy.lets_idle_go:
        return
    for resident in draft.leavers():
        limit_s = survey.policy.idle_unload_s(resident.name)
        if limit_s is None or survey.idle_s(resident.name) < limit_s:
            continue
        if resident.young or survey.is_expected(resident.name):
            continue
        if survey.why_called(resident.name) is not None:
            # The fleet would only call for it again.
            continue
        draft.unload(resident, Reason.IDLE)


def _let_spare_go(draft: Draft) -> None:
    """Gives memory back that nobody needs, for what other pods may leave to this one."""
    survey = draft.survey
    limit_s = survey.policy.fleet.let_go_s
    if limit_s is None or not survey.policy.routes_by_model:
        return
    for resident in draft.leavers():
        if not survey.is_spare(resident.name) or resident.young:
            continue
        if survey.idle_s(resident.name) >= limit_s and not survey.is_expected(resident.name):
            draft.unload(resident, Reason.SPARE)


def _candidates(draft: Draft) -> list[tuple[str, Reason]]:
    """Absent models that something calls for, the ones to serve first coming first.

    A caller is as urgent as the members it brings, and goes before them: a step loaded by
    hand would be loaded a second time with its ensemble.

    Who left for another comes after it. Those who wait for it since were foreseen when the
    swap was found to pay; counted again, they would undo it when its memory is free.
    """
    survey = draft.survey
    reasons = {name: why for name in survey.stirring() if (why := _why_wanted(survey, name))}
    survey.foresee(list(reasons))
    awaited = sum(survey.models[name].waiting > 0 for name in reasons)
    queueing = draft.loading + awaited > survey.policy.loads.concurrent
    turns = {name: _turn(survey, name, reasons, queueing) for name in reasons}
    found = []
    for name, turn in turns.items():
        before = turns.get(survey.past(name).left_for or "", turn)
        found.append((max(turn, before), turn < before, turn, name))
    return [(name, reasons[name]) for *_, name in sorted(found)]


_Turn = tuple[int, float, int, str]
_URGENCY = {
    Reason.DEMANDED: 2,
    Reason.COPIES: 3,
    Reason.FORESEEN: 4,
    Reason.HANDED_OVER: 4,
    Reason.INHERITED: 5,
}
_FOR_THE_FLEET = (Reason.COPIES, Reason.HANDED_OVER, Reason.INHERITED)
_TURN = 8
"""So many models that the fleet calls for, and there is no room for, are looked at in one tick."""


def _turn(survey: Survey, name: str, reasons: Mapping[str, Reason], queueing: bool) -> _Turn:
    """Pins come first, then whom somebody has waited for too long, the longest first; then what
    requests call for, what they are foreseen to call for, and what merely used to be here, each
    by what it is worth for its bytes.

    queueing: more loads are waited for than may run at once. Then those come first, after the
    pins, for whom most wait for each second of loading. The longest wait would come first in
    vain: where loads queue for longer than requests wait, it would serve each model just before,
    or after, everybody who waits for it gives up.
    """
    members = survey.units.members(name)
    wanted = [member for member in members if member in reasons]
    is_pinned = reasons[name] is Reason.PINNED
    if survey.comes_back(name):
        # Its memory was its own a moment ago, and it only left to come back.
        return -1, 0.0, -len(members), name
    pressing = max([survey.pressing(member) for member in wanted]) if queueing else 0.0
    if pressing > 0 and not is_pinned:
        return 1, -pressing, -len(members), name
    if survey.is_impatient(name) and not is_pinned:
        return 1, -survey.models[name].oldest_wait_s, -len(members), name
    worthiest = -max([survey.density(member) for member in wanted])
    if is_pinned:
        return 0, worthiest, -len(members), name
    return _URGENCY.get(reasons[name], 6), worthiest, -len(members), name


def _why_wanted(survey: Survey, name: str) -> Reason | None:
    if survey.snapshot.leaving:
        # Its requests go elsewhere but for those that wait already.
        return Reason.DEMANDED if survey.models[name].waiting > 0 else None
    if name in survey.pinned_roots:
        return Reason.PINNED
    if survey.comes_back(name):
        return Reason.UPDATED
    if survey.is_wanted(name):
        return Reason.DEMANDED
    if name in survey.pinned and not survey.comes_with_pinned(name):
        return Reason.PINNED
    if (called := survey.why_called(name)) is Reason.COPIES:
        return called
    if survey.is_foreseen(name):
        return Reason.FORESEEN
    if called is not None:
        return called
    if _is_stuck(survey, name):
        return Reason.HEALED
    if survey.past(name).restore and not _gave_up_restoring(survey, name):
        return Reason.RESTORED if survey.models[name].forgotten else Reason.HEALED
    return None


def _gave_up_restoring(survey: Survey, name: str) -> bool:
    left_s = survey.past(name).left_at_s
    return left_s is not None and survey.now_s - left_s > survey.policy.horizon_s


def _admit(draft: Draft, name: str, reason: Reason) -> None:
    """Loads ``name`` if it fits, makes room for it if that pays, or says why not."""
    survey, ledger = draft.survey, draft.ledger
    if falls_back(survey, name):
        reason = Reason.ROLLED_BACK
    if name in draft.coming or _awaits_turn(draft, reason):
        return
    if _held_before_memory(draft, name, reason):
        return
    need, staying = survey.need(name, draft.coming), _members_staying(survey, name)
    if need is None or ledger.blind:
        draft.hold(name, Reason.FOOTPRINT_UNKNOWN, _unknown_sizes(survey, name))
    elif not ledger.has_budget(need):
        draft.hold(name, Reason.BUDGET_UNKNOWN, "set a budget in bytes for its device")
    elif budgets := ledger.too_small(need, survey.taken_by(staying)):
        draft.hold(name, Reason.LARGER_THAN_BUDGET, _over_budgets(survey, staying, need, budgets))
    elif ledger.fits_now(need):
        _take_slot(draft, name, reason, need)
    elif not (missing := ledger.shortfall(need)):
        draft.claim(name, Reason.WAITING_FOR_UNLOAD, _amounts(need), need)
    elif pins := _pins_in_the_way(draft, staying, need):
        draft.hold(name, Reason.PINNED_OUT, f"memory is taken by pinned models ({listed(pins)})")
    elif reason in (Reason.RESTORED, Reason.HEALED):
        # What merely used to be here takes free memory only, and nobody's place.
        draft.hold(name, Reason.NO_ROOM, _amounts(need))
    else:
        draft.refused += reason in _FOR_THE_FLEET
        make_room(draft, name, reason, need, missing)


def _awaits_turn(draft: Draft, reason: Reason) -> bool:
    """What only the fleet calls for asks for memory when a slot is free, and not before: a new pod
    has more to take over than it may claim at once."""
    if reason not in _FOR_THE_FLEET:
        return False
    slots = draft.survey.policy.loads.concurrent
    if reason is Reason.INHERITED:
        # It has been without until now, and a pod that knows some of its peers only, as after an
        # outage of the broker, takes too much for its own.
        slots = max(1, slots - 1)
    return draft.loading + draft.awaited >= slots or draft.refused >= _TURN


def _members_staying(survey: Survey, name: str) -> set[str]:
    """Members that are here and stay. A stale one is copied, and ``need`` speaks for it."""
    members = survey.units.members(name)
    return {m for m in members if survey.is_here(m) and not survey.models[m].stale}


def _pins_in_the_way(draft: Draft, staying: set[str], need: Need) -> list[str]:
    """Pinned models beside which a load does not fit, though all else left but its own members.

    staying: those members, which are here already.

    Those count that are here or come by this plan. A pin that cannot be met itself (too
    large, broken, or shut out by other pins) takes nothing, and shuts nobody out.
    """
    survey, pins = draft.survey, draft.pins
    if not pins:
        return []
    taken = survey.taken_by(pins | staying) if staying else draft.pinned_bytes
    short = draft.ledger.too_small(need, taken)
    if not short:
        return []
    return [pin for pin in pins if any(survey.taken_by([pin]).get(device) for device in short)]


def _held_before_memory(draft: Draft, name: str, reason: Reason) -> bool:
    survey = draft.survey
    members, models = survey.units.members(name), survey.models
    lost = [m for m in members if m not in models or not models[m].in_repository]
    retry_at_s = max([survey.past(m).retry_at_s or 0.0 for m in members if not survey.is_here(m)])
    if lost:
        draft.hold(name, Reason.NOT_IN_REPOSITORY, ", ".join(lost))
    elif name in draft.kept:
        draft.hold(name, draft.kept[name], "comes with what needs it")
    elif any(draft.is_leaving(m) and not _is_stuck(survey, m) for m in members):
        text = "its last unload is under way"
        back = survey.need(name) if survey.comes_back(name) else None
        if back is None:
            draft.hold(name, Reason.WAITING_FOR_UNLOAD, text)
        else:
            draft.claim(name, Reason.WAITING_FOR_UNLOAD, text, back)
    elif retry_at_s > survey.now_s and reason is not Reason.ROLLED_BACK:
        draft.hold(name, Reason.BACKING_OFF, _failures(survey, name), retry_at_s)
    elif reason in _URGENCY and not models[name].waiting and _cools(survey, name):
        since_s = survey.past(name).unwanted_at_s or 0.0
        cool_at_s = since_s + survey.policy.residency.cooldown_s
        draft.hold(name, Reason.COOLING_DOWN, "", cool_at_s)
    else:
        return False
    return True


def _is_stuck(survey: Survey, name: str) -> bool:
    """A sick model whose unload Triton never ends; loading over it is all that helps."""
    model = survey.models.get(name)
    if model is None or not model.sick or model.state is not ModelState.UNLOADING:
        return False
    since_s = survey.past(name).left_at_s
    return since_s is None or survey.now_s - since_s >= survey.policy.unloads.stuck_s


def _cools(survey: Survey, name: str) -> bool:
    since_s = survey.past(name).unwanted_at_s
    return since_s is not None and survey.now_s - since_s < survey.policy.residency.cooldown_s


def _take_slot(draft: Draft, name: str, reason: Reason, need: Need) -> None:
    survey = draft.survey
    shared = [
        m
        for m in survey.units.members(name)
        if m in draft.coming or survey.state(m) is ModelState.LOADING or survey.is_changing(m)
    ]
    if shared:
        # Two loads at once of what they share could make two copies of it.
        detail = f"{', '.join(shared)} under way"
        draft.claim(name, Reason.WAITING_FOR_LOAD_SLOT, detail, need)
    elif draft.loading >= survey.policy.loads.concurrent:
        detail = f"{draft.loading} loads under way"
        draft.claim(name, Reason.WAITING_FOR_LOAD_SLOT, detail, need)
    else:
        draft.load(name, reason, need)


def _note_lost_pins(draft: Draft) -> None:
    """A pin on a name that the repository does not have is most likely a slip of the pen."""
    survey = draft.survey
    for name, wishes in sorted(survey.policy.models.items()):
        is_pattern = any(sign in name for sign in "*?[")
        if name not in survey.models and not is_pattern and wishes.pinned_at(survey.now_s):
            draft.hold(name, Reason.NOT_IN_REPOSITORY, "pinned by the policy")


def _note_overuse(draft: Draft) -> None:
    """Asks for a restart of Triton where memory is lost for good; the asking is all we do."""
    for device, excess, limit in draft.ledger.overuse():
        detail = f"{format_bytes(excess)} used beyond the models; limit {format_bytes(limit)}"
        draft.hold(device, Reason.RESTART_ADVISED, detail)


def _unknown_sizes(survey: Survey, name: str) -> str:
    unknown = [
        m
        for m in survey.units.members(name)
        if m not in survey.models or survey.models[m].footprint is None
    ]
    subject = ", ".join(unknown) or "a resident model"
    return f"{subject}: declare models.<name>.footprint, or set footprints.assume"


def _failures(survey: Survey, name: str) -> str:
    for member in (name, *survey.missing_members(name)):
        failure = survey.models[member].failure
        if failure and survey.past(member).failures:
            times = survey.past(member).failures
            return f"{member} failed {f'{times} times' if times > 1 else 'once'}: {failure.message}"
    return ""


def _over_budgets(survey: Survey, staying: set[str], need: Need, budgets: Need) -> str:
    here = survey.taken_by(staying)
    amounts = {device: need[device] + here.get(device, 0) for device in sorted(budgets)}
    return "needs " + ", ".join(
        f"{format_bytes(amount)} on {device}, where the budget is {format_bytes(budgets[device])}"
        for device, amount in amounts.items()
    )


def _amounts(need: Need) -> str:
    return "needs " + ", ".join(f"{format_bytes(need[d])} on {d}" for d in sorted(need))
