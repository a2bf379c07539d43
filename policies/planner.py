"""Decides, once a tick, which models come in and which leave: `plan()`.

In order: sick models are healed; devices over their budget are relieved; idle models
are let go; then every model that is wanted, the worthiest first, is loaded if it fits,
or makes room if that pays, or is held with the reason why not.

`plan` is total and deterministic: odd input leads to a hold, never to an exception, and
the order in which models are listed changes nothing. It never promises more memory than
a device's budget (see `policies.memory`), and never unloads what is pinned.
"""

from collections.abc import Iterable, Iterator
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
    _note_overuse(draft)
    return draft.plan()


@dataclass(slots=True)
class Draft:
    """A plan being drawn up. Unloads and claims are entered in the ledger as they are made."""

    survey: Survey
    ledger: Ledger
    unloads: list[Unload] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    victims: list[str] = field(default_factory=list)
    loading: int = 0

    def __post_init__(self) -> None:
        survey = self.survey
        self.loading = sum(
            model.state is ModelState.LOADING and not survey.has_caller_here(name)
            for name, model in survey.models.items()
        )

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
        self.loading += 1

    def is_leaving(self, name: str) -> bool:
        return name in self.gone or self.survey.state(name) is ModelState.UNLOADING

    def may_leave(self, name: str) -> bool:
        return name not in self.gone and self.survey.may_leave(name)

    def evictions_left(self) -> int:
        churn = self.survey.policy.churn
        new = sum(name not in self.survey.history.leaving for name in self.victims)
        return churn.evictions - len(self.survey.history.evictions_s) - new

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
                draft.unload(replace(survey.resident(caller), takes=()), Reason.SICK)
        draft.unload(replace(survey.resident(name), takes=()), Reason.SICK)


def _relieve(draft: Draft) -> None:
    """Brings devices whose residents exceed the budget back under it, least worth first."""
    for device in sorted(draft.ledger.overdrawn()):
        for name in _by_density(draft, draft.survey.residents()):
            if device not in draft.ledger.overdrawn():
                break
            resident = draft.survey.resident(name)
            if draft.may_leave(name) and resident.frees.get(device, 0) > 0:
                draft.unload(resident, Reason.OVER_BUDGET)
        short = draft.ledger.overdrawn().get(device)
        if short:
            detail = f"pinned models and loads exceed the budget by {format_bytes(short)}"
            draft.hold(device, Reason.OVER_BUDGET, detail)


def _let_idle_go(draft: Draft) -> None:
    survey = draft.survey
    for name in sorted(survey.residents()):
        limit_s = survey.policy.idle_unload_s(name)
        if limit_s is None or survey.idle_s(name) < limit_s or survey.is_young(name):
            continue
        if draft.may_leave(name):
            draft.unload(survey.resident(name), Reason.IDLE)


def _candidates(survey: Survey) -> list[tuple[str, Reason]]:
    """Absent models that something calls for, the ones to serve first coming first."""
    found = []
    for name, model in survey.models.items():
        if model.state is ModelState.READY or model.state is ModelState.LOADING:
            continue
        if name in survey.pinned:
            reason, rank = Reason.PINNED, 0
        elif survey.is_wanted(name):
            reason, rank = Reason.DEMANDED, 1
        elif survey.past(name).restore and not _gave_up_restoring(survey, name):
            reason, rank = _why_restored(survey, name), 2
        else:
            continue
        found.append((rank, -survey.density(name), name, reason))
    return [(name, reason) for _, _, name, reason in sorted(found)]


def _why_restored(survey: Survey, name: str) -> Reason:
    return Reason.RESTORED if survey.models[name].forgotten else Reason.HEALED


def _gave_up_restoring(survey: Survey, name: str) -> bool:
    left_s = survey.past(name).left_at_s
    return left_s is not None and survey.now_s - left_s > survey.policy.horizon_s


def _admit(draft: Draft, name: str, reason: Reason) -> None:
    """Loads ``name`` if it fits, makes room for it if that pays, or says why not."""
    survey, ledger = draft.survey, draft.ledger
    if _covered(draft, name):
        return
    if _held_before_memory(draft, name, reason):
        return
    need = survey.need(name)
    if need is None or ledger.blind:
        draft.hold(name, Reason.FOOTPRINT_UNKNOWN, _unknown_sizes(survey, name))
    elif not ledger.has_budget(need):
        draft.hold(name, Reason.BUDGET_UNKNOWN, "set a budget in bytes for its device")
    elif ledger.larger_than_budget(need):
        draft.hold(name, Reason.LARGER_THAN_BUDGET, _amounts(need))
    elif ledger.fits_now(need):
        _take_slot(draft, name, reason, need)
    elif not ledger.shortfall(need):
        ledger.claim(need)
        draft.hold(name, Reason.WAITING_FOR_UNLOAD, _amounts(need))
    elif reason in (Reason.RESTORED, Reason.HEALED):
        # What merely used to be here takes free memory only, and nobody's place.
        draft.hold(name, Reason.NO_ROOM, _amounts(need))
    else:
        _make_room(draft, name, reason, need)


def _covered(draft: Draft, name: str) -> bool:
    """A load decided in this plan brings it along."""
    return any(name in load.brings for load in draft.loads)


def _held_before_memory(draft: Draft, name: str, reason: Reason) -> bool:
    survey = draft.survey
    model, past = survey.models[name], survey.past(name)
    absent = [
        m
        for m in survey.units.members(name)
        if m not in survey.models or not survey.models[m].in_repository
    ]
    waiting_out = [survey.past(m).retry_at_s or 0.0 for m in (*survey.missing_members(name), name)]
    retry_at_s = max(waiting_out)
    if absent:
        draft.hold(name, Reason.NOT_IN_REPOSITORY, ", ".join(absent))
    elif any(draft.is_leaving(m) and not _is_stuck(survey, m) for m in survey.units.members(name)):
        draft.hold(name, Reason.WAITING_FOR_UNLOAD, "its last unload is under way")
    elif retry_at_s > survey.now_s:
        draft.hold(name, Reason.BACKING_OFF, _failures(survey, name), retry_at_s)
    elif reason is Reason.DEMANDED and not model.waiting and _cools(survey, name):
        cool_at_s = (past.unwanted_at_s or 0.0) + survey.policy.residency.cooldown_s
        draft.hold(name, Reason.COOLING_DOWN, "", cool_at_s)
    else:
        return False
    return True


def _is_stuck(survey: Survey, name: str) -> bool:
    """A sick model whose unload Triton never ends; loading over it is all that helps."""
    model, since_s = survey.models.get(name), survey.past(name).unwanted_at_s
    return (
        model is not None
        and model.sick
        and model.state is ModelState.UNLOADING
        and (since_s is None or survey.now_s - since_s >= survey.policy.unloads.stuck_s)
    )


def _cools(survey: Survey, name: str) -> bool:
    since_s = survey.past(name).unwanted_at_s
    return since_s is not None and survey.now_s - since_s < survey.policy.residency.cooldown_s


def _take_slot(draft: Draft, name: str, reason: Reason, need: Need) -> None:
    if draft.loading < draft.survey.policy.loads.concurrent:
        draft.load(name, reason, need)
    else:
        draft.ledger.claim(need)
        draft.hold(name, Reason.WAITING_FOR_LOAD_SLOT, f"{draft.loading} loads under way")


def _make_room(draft: Draft, name: str, reason: Reason, need: Need) -> None:
    """Evicts the least worthy residents that make ``need`` fit, if ``name`` is worth them."""
    survey, ledger = draft.survey, draft.ledger
    if draft.loading >= survey.policy.loads.concurrent:
        # Nobody leaves for a load that could not start yet.
        draft.hold(name, Reason.WAITING_FOR_LOAD_SLOT, f"{draft.loading} loads under way")
        return
    candidates = [n for n in survey.residents() if _may_yield(draft, n, name, reason)]
    victims = _choose(draft, candidates, need)
    if victims is None:
        draft.hold(name, *_why_no_room(draft, name, need))
    elif not _pays(survey, name, reason, victims):
        lost = ", ".join(f"{v.name} {v.worth:.3g}" for v in victims)
        draft.hold(name, Reason.SWAP_DOES_NOT_PAY, f"worth {survey.worth(name):.3g} over {lost}")
    elif reason is not Reason.PINNED and len(victims) > draft.evictions_left():
        allowed = f"{survey.policy.churn.evictions} in {survey.policy.churn.window_s:g} s"
        draft.hold(name, Reason.CHURN_LIMIT, f"{len(victims)} more evictions; allowed: {allowed}")
    else:
        for victim in victims:
            draft.unload(victim, Reason.EVICTED, for_model=name)
            draft.victims.append(victim.name)
        ledger.claim(need)
        draft.hold(name, Reason.WAITING_FOR_UNLOAD, ", ".join(v.name for v in victims))


def _may_yield(draft: Draft, resident: str, name: str, reason: Reason) -> bool:
    survey = draft.survey
    if not draft.may_leave(resident) or resident in survey.units.members(name):
        return False
    return reason is Reason.PINNED or not survey.is_young(resident)


def _choose(draft: Draft, candidates: Iterable[str], need: Need) -> list[Resident] | None:
    """The cheapest set of residents whose leaving makes ``need`` fit; None when none does."""
    missing = draft.ledger.shortfall(need)
    chosen: list[Resident] = []
    for name in _by_density(draft, candidates):
        if not missing:
            break
        resident = draft.survey.resident(name)
        if any(resident.frees.get(device, 0) > 0 for device in missing):
            chosen.append(resident)
            missing = _less(missing, resident.frees)
    if missing:
        return None
    return _without_needless(chosen, draft.ledger.shortfall(need))


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
    others = [n for n in survey.residents() if n not in survey.units.members(name)]
    if _choose(draft, [n for n in others if draft.may_leave(n)], need) is not None:
        return Reason.NO_ROOM, "what could leave is younger than its minimum residency"
    pinned = sum(n in survey.pinned for n in others)
    if draft.ledger.is_overused(need):
        return Reason.DEVICE_OVERUSED, "memory is used by more than the models accounted for"
    return Reason.NO_ROOM, f"memory is taken by pinned models ({pinned}) or by loads under way"


def _note_overuse(draft: Draft) -> None:
    """Asks for a restart of Triton where memory is lost for good; the asking is all we do."""
    for device, excess, limit in draft.ledger.overuse():
        detail = f"{format_bytes(excess)} used beyond the models; limit {format_bytes(limit)}"
        draft.hold(device, Reason.RESTART_ADVISED, detail)


def _by_density(draft: Draft, names: Iterable[str]) -> Iterator[str]:
    return iter(sorted(names, key=lambda name: (draft.survey.density(name), name)))


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
