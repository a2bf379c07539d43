"""Making room: who leaves for a model that does not fit, and whether it is worth them.

Owns the choice of victims and the limits on it: hysteresis, minimum residency, churn.

Victims are chosen anew each tick until their unload is seen, and may drain meanwhile. So
what a choice rests on must not change by having been made: see `policies.survey` for the
order in which models leave, and for what one that drains costs.
"""

from collections.abc import Iterable

from policies.actions import Reason, listed
from policies.draft import Draft
from policies.memory import Need
from policies.survey import Resident, Survey


def make_room(draft: Draft, name: str, reason: Reason, need: Need, missing: Need) -> None:
    """Evicts the least worthy residents that make ``need`` fit, if ``name`` is worth them.

    missing: the part of ``need`` that there is no room for.
    """
    survey = draft.survey
    if draft.loading + draft.awaited >= survey.policy.loads.concurrent:
        # Nobody leaves for a load that could not start yet, or those who wait for a slot would
        # empty the memory long before they are loaded.
        detail = f"{draft.loading} loads under way, {draft.awaited} to come"
        draft.hold(name, Reason.WAITING_FOR_LOAD_SLOT, detail)
        return
    if draft.first is not None and reason is not Reason.PINNED:
        draft.hold(name, Reason.OUTRANKED, draft.first)
        return
    members = survey.units.members(name)
    of_age = (r for r in draft.leavers(members) if reason is Reason.PINNED or not r.young)
    victims = _choose(survey, of_age, missing)
    with_young = victims or _choose(survey, draft.leavers(members), missing)
    if with_young is None:
        draft.hold(name, *_why_no_room(draft, name, need, missing))
    elif victims is None and _pays(survey, name, reason, with_young):
        draft.first = name
        young = ", ".join(v.name for v in with_young if v.young)
        draft.hold(name, Reason.MINIMUM_RESIDENCY, young)
    elif victims is None or not _pays(survey, name, reason, victims):
        lost = victims or with_young
        against = ", ".join(f"{v.name} {survey.worth(v.name):.3g}" for v in lost)
        detail = f"worth {survey.worth(name):.3g} over {against}"
        draft.hold(name, Reason.SWAP_DOES_NOT_PAY, detail, _pays_at_s(survey, name, lost))
    elif reason is not Reason.PINNED and draft.are_too_many(victims):
        allowed = f"{survey.policy.churn.evictions} in {survey.policy.churn.window_s:g} s"
        draft.hold(name, Reason.CHURN_LIMIT, f"{len(victims)} more evictions; allowed: {allowed}")
    else:
        for victim in victims:
            draft.unload(victim, Reason.EVICTED, for_model=name)
            draft.victims.append(victim.name)
        detail = ", ".join(v.name for v in victims)
        draft.claim(name, Reason.WAITING_FOR_UNLOAD, detail, need)


def _choose(survey: Survey, leavers: Iterable[Resident], missing: Need) -> list[Resident] | None:
    """The cheapest of ``leavers`` that free what is missing; None when all do not."""
    chosen: list[Resident] = []
    still_missing = missing
    for resident in leavers:
        left = _less(still_missing, resident.frees)
        if left != still_missing:
            chosen.append(resident)
            still_missing = left
            if not left:
                return _without_needless(survey, chosen, missing)
    return None


def _without_needless(survey: Survey, chosen: list[Resident], missing: Need) -> list[Resident]:
    """Gives back victims that the later and larger ones made needless: the worthiest first,
    and those that drain already last."""
    if len(chosen) == 1:
        return chosen
    kept = list(chosen)
    for victim in sorted(chosen, key=lambda v: (v.draining, -survey.worth(v.name), v.name)):
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
    if reason in (Reason.PINNED, Reason.COPIES) or survey.is_impatient(name):
        return True
    return survey.worth(name) > _price(survey, victims)


def _price(survey: Survey, victims: list[Resident]) -> float:
    return survey.ranking.price([survey.price(victim.name) for victim in victims])


def _pays_at_s(survey: Survey, name: str, victims: list[Resident]) -> float | None:
    """When the swap would pay by waiting alone, victims staying as dear as they are."""
    model = survey.models[name]
    if model.waiting <= 0:
        return None
    left_s = survey.policy.front_door.patience_s - max(0.0, model.oldest_wait_s)
    waits_s = survey.waits_s(name, _price(survey, victims))
    return round(survey.now_s + (left_s if waits_s is None else min(left_s, waits_s)), 3)


def _why_no_room(draft: Draft, name: str, need: Need, missing: Need) -> tuple[Reason, str]:
    """Names the rule without which there would have been room."""
    if draft.ledger.is_overused(need):
        return Reason.DEVICE_OVERUSED, "memory is used by more than the models accounted for"
    survey = draft.survey
    members = survey.units.members(name)
    unleased = _choose(survey, draft.leavers(members, engaged=True), missing)
    if unleased is not None:
        leaving = (n for victim in unleased for n in (victim.name, *victim.takes))
        engaged = listed(n for n in leaving if survey.is_engaged(n))
        return Reason.NO_ROOM, f"open streams or requests on their way keep {engaged} here"
    loading = survey.loading | draft.coming
    takers = {
        "pinned models": {n for n in survey.pinned if survey.is_here(n)} - loading,
        "copies that the policy asks for": survey.kept - survey.pinned - loading,
        "loads under way": loading,
        "worthier models to come": {n for n in draft.kept if not survey.is_here(n)} - loading,
    }
    said = [f"{who} ({listed(names)})" for who, names in takers.items() if names - {*members}]
    return Reason.NO_ROOM, f"memory is taken by {', '.join(said) or 'what others need'}"
