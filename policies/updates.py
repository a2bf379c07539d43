"""Rolling changed files into models that are resident: a new copy beside the old one, or a swap.

Owns when a resident is loaded anew, and how. Refuses to know how files are looked at, and which
versions of a model are served: that is what its own configuration says.

Beside: the old copy serves until the new one can, and goes on serving when that one fails. It
takes memory for both. Swap: the old copy drains and leaves, and the model comes back before
all others while the front door holds its requests. What fails then cannot be undone by itself:
the versions from before are loaded again, if they are still there. So a swap is tried only for
files that have never failed, and for a model that nothing else here needs.

One model at a time, for what is wrong with files is often wrong with those of many models; the
least asked first, where that hurts least. All that is asked for and absent goes before.
"""

from collections.abc import Mapping

from policies.actions import Reason
from policies.demand import rates
from policies.draft import Draft
from policies.memory import footprint
from policies.quantities import format_bytes
from policies.room import make_room
from policies.snapshot import ModelState
from policies.survey import Survey


def falls_back(survey: Survey, name: str) -> bool:
    """Whether an absent model's files have failed, and it can serve as it did before them."""
    model, past = survey.models[name], survey.past(name)
    waits = past.retry_at_s is not None and survey.now_s < past.retry_at_s
    is_absent = model.state is ModelState.UNLOADED
    return is_absent and bool(model.fallback) and past.failures > 0 and waits


def swap_on(draft: Draft) -> None:
    """Goes on with a swap whose model still drains, before anybody else gets its memory."""
    survey = draft.survey
    for name in survey.residents():
        if survey.comes_back(name) and name not in draft.gone and _why_not(draft, name) is None:
            _swap(draft, name)


def roll_in(draft: Draft) -> None:
    """Begins to load anew one resident whose files have changed; says why not of the others."""
    survey = draft.survey
    outdated = [
        name
        for name in survey.residents()
        if survey.models[name].outdated_since_s is not None
        and name not in draft.gone
        and name not in draft.coming
        and not survey.models[name].updating
    ]
    for name in sorted(outdated, key=lambda each: _turn(survey, each)):
        why_not = _why_not(draft, name) or _waits_its_turn(draft, name)
        if why_not is None:
            _update(draft, name)
        else:
            draft.hold(name, *why_not)


def _turn(survey: Survey, name: str) -> tuple[float, str]:
    _, slow = rates(survey.policy, survey.past(name), survey.now_s)
    return slow, name


# Never with a time of the next try: the front door would take it for that of an absent model.
_WhyNot = tuple[Reason, str]


def _why_not(draft: Draft, name: str) -> _WhyNot | None:
    """Why ``name``, a resident, is not to be loaded anew, whatever else goes on."""
    survey = draft.survey
    model, past, wishes = survey.models[name], survey.past(name), survey.policy.versions
    if model.outdated_since_s is None:
        return Reason.OUTDATED, "its files are what they were"
    if not wishes.roll_in:
        return Reason.OUTDATED, "its files have changed; versions.roll_in is off"
    if survey.now_s < model.outdated_since_s + wishes.settle_s:
        return Reason.OUTDATED, f"its files have changed within {wishes.settle_s:g} s"
    if model.unusable is not None:
        return Reason.UPDATE_REFUSED, model.unusable
    if past.retry_at_s is not None and survey.now_s < past.retry_at_s:
        return Reason.UPDATE_REFUSED, _failures(survey, name)
    if model.sick:
        return Reason.OUTDATED, "it is healed first, which loads it anew"
    if model.stateful and survey.is_engaged(name):
        return Reason.OUTDATED, "open sequences, of which a new copy would know nothing"
    return None


def _waits_its_turn(draft: Draft, name: str) -> _WhyNot | None:
    survey, models = draft.survey, draft.survey.models
    callers = [c for c in survey.units.callers(name) if _brings_along(survey, c, name)]
    if callers:
        return Reason.OUTDATED, f"comes with {callers[0]}"
    others = [n for n, m in sorted(models.items()) if m.former or (m.updating and not m.overdue)]
    others += [n for n in sorted(survey.history.models) if n != name and survey.comes_back(n)]
    others += [unload.model for unload in draft.unloads if unload.reason is Reason.UPDATED]
    others += [load.model for load in draft.loads if load.reason is Reason.UPDATED]
    if others:
        return Reason.OUTDATED, f"after {others[0]}"
    if draft.loading + draft.awaited >= survey.policy.loads.concurrent:
        return Reason.OUTDATED, f"{draft.loading} loads under way, {draft.awaited} to come"
    return None


def _brings_along(survey: Survey, caller: str, step: str) -> bool:
    """Whether ``caller`` is outdated itself, and takes its changed steps in with it."""
    model = survey.models[caller]
    is_outdated = model.state is ModelState.READY and model.outdated_since_s is not None
    return is_outdated and model.unusable is None and step in survey.units.steps(caller)


def _update(draft: Draft, name: str) -> None:
    survey, ledger = draft.survey, draft.ledger
    need = survey.need(name)
    if need is None or ledger.blind:
        draft.hold(name, Reason.OUTDATED, "what a second copy takes is not known")
    elif ledger.fits_now(need):
        draft.load(name, Reason.UPDATED, need)
    elif survey.past(name).failures:
        draft.hold(name, Reason.UPDATE_REFUSED, _failures(survey, name))
    elif survey.has_caller_here(name) or survey.units.steps(name):
        text = f"needs {_amounts(need)} beside what is there, since others need it meanwhile"
        draft.hold(name, Reason.OUTDATED, text)
    elif survey.is_engaged(name):
        text = "no room for a second copy, and open streams or requests on their way need the first"
        draft.hold(name, Reason.OUTDATED, text)
    else:
        more = _beyond(need, footprint(survey.models[name]))
        if ledger.fits_now(more):
            _swap(draft, name)
        elif missing := ledger.shortfall(more):
            make_room(draft, name, Reason.UPDATED, more, missing)
        else:
            draft.claim(name, Reason.OUTDATED, "memory is on its way to being free", more)


def _swap(draft: Draft, name: str) -> None:
    """Lets ``name`` go, and sets aside what it takes to come back."""
    need = draft.survey.need(name)
    if need is None or draft.survey.is_engaged(name):
        return
    draft.unload(draft.survey.resident(name), Reason.UPDATED)
    draft.claim(name, Reason.OUTDATED, "it leaves, to be loaded anew", need)


def _beyond(need: Mapping[str, int], has: Mapping[str, int]) -> dict[str, int]:
    return {device: max(0, amount - has.get(device, 0)) for device, amount in need.items()}


def _failures(survey: Survey, name: str) -> str:
    failure, times = survey.models[name].failure, survey.past(name).failures
    told = f": {failure.message}" if failure else ""
    return f"its changed files failed {f'{times} times' if times > 1 else 'once'}{told}"


def _amounts(need: Mapping[str, int]) -> str:
    return ", ".join(f"{format_bytes(need[device])} on {device}" for device in sorted(need))
