"""Decides, once a tick, which models come in and which leave: `plan()`.

In order: sick models are healed; devices over their budget are relieved; idle models
are let go; then every model that is wanted, the worthiest first, is loaded if it fits,
or makes room if that pays, or is held with the reason why not.

`plan` is total and deterministic: odd input leads to a hold, never to an exception, and
the order in which models are listed changes nothing. It never promises more memory than
a device's budget (see `policies.memory`), and never unloads what is pinned.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from policies.actions import Hold, Load, Plan, Reason, Unload
from policies.demand import advance
from policies.history import NOTHING, History
from policies.memory import Ledger, Need
from policies.policy import Policy
from policies.quantities import format_bytes
from policies.ranking import RANKINGS
from policies.snapshot import ModelState, Snapshot
from policies.survey import Resident, Survey
from policies.units import Units


def plan(policy: Policy, snapshot: Snapshot, history: History) -> Plan:
    """What to do now, what was wanted and is not done, and what to remember."""
    if not snapshot.reachable:
        return Plan((), (Hold("", Reason.TRITON_UNREACHABLE),), history)
    history = advance(policy, snapshot, history)
    units = Units(policy, snapshot.models)
    draft = Draft(Survey.of(policy, snapshot, history, units), Ledger(policy, snapshot, units))
    _heal(draft)
    _relieve(draft)
    _let_idle_go(draft)
    for name, reason in _candidates(draft.survey):
        _admit(draft, name, reason)
    _note_lost_pins(draft)
    _note_overuse(draft)
    return draft.plan()


@dataclass(slots=True)
class Draft:
    """A plan being drawn up. Unloads and claims are entered in the ledger as they are made.

    gone: all that leaves by this plan. victims: those of them that make room for another.
    coming: all that its loads bring. kept: members of what it loads, or makes room for.
    loading: loads under way, each with its members counted once.
    first: the worthiest model that waits only for residents to come of age. Lesser ones may
        take free memory, but evict nobody: what they let in would be young again, and the
        first would wait for ever.
    """

    survey: Survey
    ledger: Ledger
    unloads: list[Unload] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    victims: list[str] = field(default_factory=list)
    coming: set[str] = field(default_factory=set)
    kept: dict[str, Reason] = field(default_factory=dict)
    loading: int = 0
    first: str | None = None

    def __post_init__(self) -> None:
        self.loading = sum(self.survey.is_loading_by_itself(name) for name in self.survey.models)

    def hold(self, name: str, reason: Reason, detail: str = "", at_s: float | None = None) -> None:
        self.holds.append(Hold(name, reason, detail, at_s))

    def unload(self, leaving: Resident, reason: Reason, for_model: str | None = None) -> None:
        self.unloads.append(Unload(leaving.name, reason, leaving.takes, for_model))
        self.gone.update((leaving.name, *leaving.takes))
        self.ledger.release(leaving.frees)

    def load(self, name: str, reason: Reason, need: Need) -> None:
        survey = self.survey
        brings = survey.missing_members(name)
        first = tuple(m for m in survey.units.callees_first(name) if m in brings)
        self.loads.append(Load(name, reason, first, brings))
        self.ledger.promise(need)
        self.coming.update(brings)
        self.kept.update(dict.fromkeys(survey.units.members(name), reason))
        self.loading += 1

    def claim(self, name: str, reason: Reason, detail: str, need: Need) -> None:
        """Sets aside what ``name`` waits for: the memory, and its members that are here."""
        self.ledger.claim(need)
        self.kept.update(dict.fromkeys(self.survey.units.members(name), reason))
        self.hold(name, reason, detail)

    def is_leaving(self, name: str) -> bool:
        return name in self.gone or self.survey.state(name) is ModelState.UNLOADING

    def leavers(self, staying: Collection[str] = ()) -> Iterator[Resident]:
        """All that may still leave, without what must stay; the least worth first."""
        gone, kept = self.gone, self.kept
        for resident in self.survey.leavers():
            if resident.name in gone or resident.name in kept or resident.name in staying:
                continue
            if resident.takes:
                stay = {*gone, *kept, *staying}
                takes = tuple(taken for taken in resident.takes if taken not in stay)
                resident = self.survey.resident(resident.name, takes)
            yield resident

    def are_too_many(self, victims: list[Resident]) -> bool:
        """Whether the churn limit forbids these. One decided before has been counted then."""
        history = self.survey.history
        names = (*self.victims, *(victim.name for victim in victims))
        new = sum(name not in history.leaving for name in names)
        return new > 0 and len(history.evictions_s) + new > self.survey.policy.churn.evictions

    def plan(self) -> Plan:
        return Plan((*self.unloads, *self.loads), tuple(self.holds), self._history())

    def _history(self) -> History:
        """What is remembered, with the evictions decided here.

        An unload decided before and not visible yet (always so when only observing) is
        decided again each tick; it counts once.
        """
        survey, history = self.survey, self.survey.history
        models = dict(history.models)
        fresh = [name for name in sorted(self.gone) if name not in history.leaving]
        for name in fresh:
            past = models.get(name, NOTHING)
            models[name] = replace(past, unwanted_at_s=survey.now_s)
        for unload in self.unloads:
            if unload.reason is Reason.SICK:
                models[unload.model] = replace(models[unload.model], restore=True)
        counted = sum(name in fresh for name in self.victims)
        credits = [survey.past(name).credit for name in self.victims]
        return replace(
            history,
            models=models,
            leaving=frozenset(self.gone),
            evictions_s=history.evictions_s + (survey.now_s,) * counted,
            inflation=max([history.inflation, *credits]),
        )


def _heal(draft: Draft) -> None:
    """A sick model leaves with its callers, whoever pinned it: it serves nobody as it is."""
    survey = draft.survey
    for name in sorted(survey.models):
        model = survey.models[name]
        if not model.sick or model.state is not ModelState.READY or name in draft.gone:
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
            detail = f"pinned models and loads exceed the budget by {format_bytes(short)}"
            draft.hold(device, Reason.OVER_BUDGET, detail)


def _let_idle_go(draft: Draft) -> None:
    survey = draft.survey
    for resident in draft.leavers():
        limit_s = survey.policy.idle_unload_s(resident.name)
        if limit_s is None or survey.idle_s(resident.name) < limit_s or resident.young:
            continue
        draft.unload(resident, Reason.IDLE)


def _candidates(survey: Survey) -> list[tuple[str, Reason]]:
    """Absent models that something calls for, the ones to serve first coming first.

    A caller is as urgent as the members it brings, and goes before them: a step loaded by
    hand would be loaded a second time with its ensemble.
    """
    reasons = {name: why for name in survey.absent() if (why := _why_wanted(survey, name))}
    found = []
    for name, reason in reasons.items():
        members = survey.units.members(name)
        urgency = max(survey.density(member) for member in members if member in reasons)
        found.append((_RANKS.get(reason, 2), -urgency, -len(members), name))
    return [(name, reasons[name]) for *_, name in sorted(found)]


_RANKS = {Reason.PINNED: 0, Reason.DEMANDED: 1}


def _why_wanted(survey: Survey, name: str) -> Reason | None:
    if name in survey.pinned_roots:
        return Reason.PINNED
    if survey.is_wanted(name):
        return Reason.DEMANDED
    if name in survey.pinned and not survey.comes_with_pinned(name):
        return Reason.PINNED
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
    if name in draft.coming or _held_before_memory(draft, name, reason):
        return
    need = survey.need(name, draft.coming)
    if need is None or ledger.blind:
        draft.hold(name, Reason.FOOTPRINT_UNKNOWN, _unknown_sizes(survey, name))
    elif not ledger.has_budget(need):
        draft.hold(name, Reason.BUDGET_UNKNOWN, "set a budget in bytes for its device")
    elif ledger.larger_than_budget(need):
        draft.hold(name, Reason.LARGER_THAN_BUDGET, _amounts(need))
    elif ledger.fits_now(need):
        _take_slot(draft, name, reason, need)
    elif not ledger.shortfall(need):
        draft.claim(name, Reason.WAITING_FOR_UNLOAD, _amounts(need), need)
    elif reason in (Reason.RESTORED, Reason.HEALED):
        # What merely used to be here takes free memory only, and nobody's place.
        draft.hold(name, Reason.NO_ROOM, _amounts(need))
    else:
        _make_room(draft, name, reason, need)


def _held_before_memory(draft: Draft, name: str, reason: Reason) -> bool:
    survey = draft.survey
    members, models = survey.units.members(name), survey.models
    lost = [m for m in members if m not in models or not models[m].in_repository]
    retry_at_s = max(survey.past(m).retry_at_s or 0.0 for m in members if not survey.is_here(m))
    if lost:
        draft.hold(name, Reason.NOT_IN_REPOSITORY, ", ".join(lost))
    elif name in draft.kept:
        draft.hold(name, draft.kept[name], "comes with what needs it")
    elif any(draft.is_leaving(m) and not _is_stuck(survey, m) for m in members):
        draft.hold(name, Reason.WAITING_FOR_UNLOAD, "its last unload is under way")
    elif retry_at_s > survey.now_s:
        draft.hold(name, Reason.BACKING_OFF, _failures(survey, name), retry_at_s)
    elif reason is Reason.DEMANDED and not models[name].waiting and _cools(survey, name):
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
        if m in draft.coming or survey.state(m) is ModelState.LOADING
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


def _make_room(draft: Draft, name: str, reason: Reason, need: Need) -> None:
    """Evicts the least worthy residents that make ``need`` fit, if ``name`` is worth them."""
    survey = draft.survey
    if draft.loading >= survey.policy.loads.concurrent:
        # Nobody leaves for a load that could not start yet.
        draft.hold(name, Reason.WAITING_FOR_LOAD_SLOT, f"{draft.loading} loads under way")
        return
    if draft.first is not None and reason is not Reason.PINNED:
        draft.hold(name, Reason.OUTRANKED, draft.first)
        return
    members, missing = survey.units.members(name), draft.ledger.shortfall(need)
    of_age = (r for r in draft.leavers(members) if reason is Reason.PINNED or not r.young)
    victims = _choose(of_age, missing)
    with_young = victims or _choose(draft.leavers(members), missing)
    if with_young is None:
        draft.hold(name, *_why_no_room(draft, name, need))
    elif victims is None and _pays(survey, name, reason, with_young):
        draft.first = name
        young = ", ".join(v.name for v in with_young if v.young)
        draft.hold(name, Reason.MINIMUM_RESIDENCY, young)
    elif victims is None or not _pays(survey, name, reason, victims):
        lost = ", ".join(f"{v.name} {v.worth:.3g}" for v in victims or with_young)
        draft.hold(name, Reason.SWAP_DOES_NOT_PAY, f"worth {survey.worth(name):.3g} over {lost}")
    elif reason is not Reason.PINNED and draft.are_too_many(victims):
        allowed = f"{survey.policy.churn.evictions} in {survey.policy.churn.window_s:g} s"
        draft.hold(name, Reason.CHURN_LIMIT, f"{len(victims)} more evictions; allowed: {allowed}")
    else:
        for victim in victims:
            draft.unload(victim, Reason.EVICTED, for_model=name)
            draft.victims.append(victim.name)
        detail = ", ".join(v.name for v in victims)
        draft.claim(name, Reason.WAITING_FOR_UNLOAD, detail, need)


def _choose(leavers: Iterable[Resident], missing: Need) -> list[Resident] | None:
    """The cheapest of ``leavers`` that free what is missing; None when all do not."""
    chosen: list[Resident] = []
    still_missing = missing
    for resident in leavers:
        if any(resident.frees.get(device, 0) > 0 for device in still_missing):
            chosen.append(resident)
            still_missing = _less(still_missing, resident.frees)
            if not still_missing:
                return _without_needless(chosen, missing)
    return None


def _without_needless(chosen: list[Resident], missing: Need) -> list[Resident]:
    """Gives back, the worthiest first, victims that the later and larger ones made needless."""
    kept = list(chosen)
    for victim in sorted(chosen, key=lambda v: (-v.worth, v.name)):
        others = [v for v in kept if v is not victim]
        if not _short_of(missing, others):
            kept = others
    return kept


def _short_of(missing: Need, victims: Iterable[Resident]) -> Need:
    for victim in victims:
        missing = _less(missing, victim.frees)
    return missing


def _less(missing: Need, frees: Need) -> dict[str, int]:
    return {d: short - frees.get(d, 0) for d, short in missing.items() if short > frees.get(d, 0)}


def _pays(survey: Survey, name: str, reason: Reason, victims: list[Resident]) -> bool:
    if reason is Reason.PINNED:
        return True
    ranking = RANKINGS[survey.policy.ranking]
    worths = [victim.worth for victim in victims]
    return ranking.pays(survey.worth(name), worths, survey.policy.residency.hysteresis)


def _why_no_room(draft: Draft, name: str, need: Need) -> tuple[Reason, str]:
    """Names the rule without which there would have been room."""
    survey = draft.survey
    members = survey.units.members(name)
    pinned = sum(survey.is_here(n) for n in survey.pinned if n not in members)
    if draft.ledger.is_overused(need):
        return Reason.DEVICE_OVERUSED, "memory is used by more than the models accounted for"
    return Reason.NO_ROOM, f"memory is taken by pinned models ({pinned}) or by loads under way"


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
            return f"{member} failed {survey.past(member).failures} times: {failure.message}"
    return ""


def _amounts(need: Need) -> str:
    return "needs " + ", ".join(f"{format_bytes(need[d])} on {d}" for d in sorted(need))
