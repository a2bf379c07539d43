"""Why is it resident, or why not: one model's standing in one tick, with the numbers.

Owns the wording. Decides nothing: it retells what `plan` found, by the same survey.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from policies.actions import Load, Plan, Unload
from policies.demand import load_time_s, rates
from policies.memory import Ledger
from policies.policy import Policy
from policies.quantities import format_bytes
from policies.snapshot import Model, ModelState, Snapshot
from policies.survey import Survey
from policies.units import Units


@dataclass(frozen=True, slots=True)
class Explanation:
    """One model in one tick.

    summary: the answer in a sentence.
    numbers: what the answer rests on; None where unknown. Sizes in bytes, times in
        seconds, rates in requests per second, worth in the ranking's own unit.
    """

    model: str
    state: ModelState
    summary: str
    reason: str | None
    numbers: Mapping[str, float | str | bool | None]


def explain(policy: Policy, snapshot: Snapshot, plan: Plan, name: str) -> Explanation | None:
    """The standing of ``name`` in the tick that led from ``snapshot`` to ``plan``.

    None when the repository has no such model.
    """
    model = snapshot.models.get(name)
    if model is None:
        return None
    units = Units(policy, snapshot.models)
    survey = Survey.of(policy, snapshot, plan.history, units)
    reason, why = _reason(survey, plan, name)
    return Explanation(
        name,
        model.state,
        f"{name} is {model.state}: {why}",
        reason,
        {
            **_size(survey, name),
            **_demand(survey, name),
            **_standing(survey, name),
            **_copies(survey, name),
            **_memory(policy, snapshot, units),
        },
    )


def _reason(survey: Survey, plan: Plan, name: str) -> tuple[str | None, str]:
    for action in plan.actions:
        if isinstance(action, Load) and name in action.brings:
            return action.reason, f"it is being loaded ({action.reason})"
        if isinstance(action, Unload) and name in (action.model, *action.takes):
            room = f", for {action.for_model}" if action.for_model else ""
            doing = "draining, to be" if survey.models[name].draining else "being"
            return action.reason, f"it is {doing} unloaded ({action.reason}{room})"
    hold = next((hold for hold in plan.holds if hold.subject in (name, "")), None)
    if hold:
        return hold.reason, f"it is held ({hold.reason}): {hold.in_words(survey.now_s)}"
    return _reason_of_rest(survey, name)


def _reason_of_rest(survey: Survey, name: str) -> tuple[str | None, str]:
    state = survey.state(name)
    if state is ModelState.READY:
        if name in survey.pinned:
            return "pinned", "it is pinned, or a pinned model needs it"
        if name in survey.kept:
            return "copies", "it is one of the copies that the policy asks for"
        if survey.has_caller_here(name):
            callers = ", ".join(c for c in survey.units.callers(name) if survey.is_here(c))
            return None, f"it is needed by {callers}"
        if survey.is_engaged(name):
            return None, "it stays for open streams, or requests on their way to it"
        if survey.models[name].draining:
            return None, "it stays after all: its drain is called off"
        if survey.is_spare(name):
            return None, "it stays until memory is needed; another pod serves its requests"
        return None, "it stays, since nothing worth more needs its memory"
    if state is ModelState.UNLOADED:
        if called := survey.why_called(name):
            return called, f"the fleet calls for it ({called}), and it waits for its turn"
        return None, "no request calls for it"
    return None, "it is on its way"


def _size(survey: Survey, name: str) -> dict[str, float | str | bool | None]:
    footprint = survey.models[name].footprint
    return {
        "footprint_bytes": footprint.total_bytes if footprint else None,
        "footprint_source": footprint.source if footprint else None,
        "unit_bytes": survey.size_bytes(name),
        "load_s": load_time_s(survey.models[name]),
        "load_time_is_learned": survey.models[name].load_s is not None,
    }


def _demand(survey: Survey, name: str) -> dict[str, float | str | bool | None]:
    model, past = survey.models[name], survey.past(name)
    fast, slow = rates(survey.policy, past, survey.now_s)
    return {
        "fast_rate": fast,
        "slow_rate": slow,
        "waiting": model.waiting,
        "oldest_wait_s": model.oldest_wait_s,
        "in_flight": model.in_flight,
        "in_flight_is": _how_known(model),
        "leases": model.leases,
        "draining": model.draining,
        "last_use_s_ago": None if past.last_use_s is None else survey.now_s - past.last_use_s,
    }


def _how_known(model: Model) -> str | None:
    if model.in_flight is None:
        return None
    return "counted" if model.in_flight_counted else "estimated"


def _standing(survey: Survey, name: str) -> dict[str, float | str | bool | None]:
    past = survey.past(name)
    residents = sorted(survey.residents(), key=lambda n: (survey.density(n), n))
    return {
        "ranking": survey.policy.ranking,
        "worth": survey.worth(name),
        "absence_s": survey.absence_s(name),
        "leaves_as_number": residents.index(name) + 1 if name in residents else None,
        "residents": len(residents),
        "pinned": name in survey.pinned,
        "outdated_s": _outdated_s(survey, name),
        "resident_s": survey.resident_s(name) if past.resident_since_s is not None else None,
        "minimum_residency_s": survey.policy.minimum_s(name),
        "failures": past.failures,
        "retry_in_s": None if past.retry_at_s is None else max(0.0, past.retry_at_s - survey.now_s),
    }


def _copies(survey: Survey, name: str) -> dict[str, float | str | bool | None]:
    """Where it stands in the fleet; nothing where no fleet is known of."""
    copies = survey.models[name].copies
    if copies is None:
        return {}
    is_here = survey.state(name) is ModelState.READY
    return {
        "copies_wanted": survey.policy.copies(name),
        "copies_elsewhere": copies.warm,
        "copies_on_leaving_pods": copies.leaving,
        "pods_tried_before": copies.rank,
        "of_those_with_a_copy": copies.ahead,
        "asked_elsewhere_per_hour": copies.asked,
        "spare": is_here and survey.is_spare(name),
    }


def _outdated_s(survey: Survey, name: str) -> float | None:
    """For how long it has served from other files than lie there; None while it does not."""
    since_s = survey.models[name].outdated_since_s
    return None if since_s is None else max(0.0, survey.now_s - since_s)


def _memory(
    policy: Policy, snapshot: Snapshot, units: Units
) -> dict[str, float | str | bool | None]:
    numbers: dict[str, float | str | bool | None] = {}
    for device, account in sorted(Ledger(policy, snapshot, units).accounts.items()):
        numbers[f"limit_bytes.{device}"] = account.limit
        numbers[f"reserved_bytes.{device}"] = account.reserved
    return numbers


def in_words(explanation: Explanation) -> str:
    """The explanation as lines of text, sizes in binary units."""
    lines = [explanation.summary]
    for name, number in explanation.numbers.items():
        is_size = "bytes" in name and isinstance(number, int | float)
        lines.append(f"  {name}: {_worded(number, is_size=is_size)}")
    return "\n".join(lines)


def _worded(number: float | str | bool | None, *, is_size: bool) -> str:
    if number is None:
        return "none"
    if isinstance(number, bool | str):
        return str(number).lower() if isinstance(number, bool) else number
    return format_bytes(number) if is_size else f"{number:.4g}"
