"""A plan being drawn up: what is decided so far, and what that leaves for the rest of it.

Owns the bookkeeping. Refuses to decide: that is `policies.planner`.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from policies.actions import Hold, Load, Plan, Reason, Unload
from policies.history import NOTHING, History
from policies.memory import Ledger, Need
from policies.snapshot import ModelState
from policies.survey import Resident, Survey


@dataclass(slots=True)
class Draft:
    """A plan being drawn up. Unloads and claims are entered in the ledger as they are made.

    gone: all that leaves by this plan. victims: those of them that make room for another.
    coming: all that its loads bring. kept: members of what it loads, or makes room for.
    pins: pinned models that are here or come by this plan. pinned_bytes: what they take.
    loading: loads under way in time, each with its members counted once.
    awaited: loads to come that memory has been set aside for; they take the next slots.
    refused: models that the fleet calls for and that there was no room for.
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
    pins: frozenset[str] = frozenset()
    pinned_bytes: Need = field(default_factory=dict)
    loading: int = 0
    awaited: int = 0
    refused: int = 0
    first: str | None = None

    def __post_init__(self) -> None:
        # A load that hangs in Triton for ever keeps its memory, but must not keep all others out.
        self.loading = sum(
            self.survey.is_loading_by_itself(name) and not self.survey.models[name].overdue
            for name in (*self.survey.loading, *self.survey.updating)
        )
        self._pin(name for name in self.survey.pinned if self.survey.is_here(name))

    def hold(self, name: str, reason: Reason, detail: str = "", at_s: float | None = None) -> None:
        self.holds.append(Hold(name, reason, detail, at_s))

    def unload(self, leaving: Resident, reason: Reason, for_model: str | None = None) -> None:
        self.unloads.append(Unload(leaving.name, reason, leaving.takes, for_model))
        self.gone.update((leaving.name, *leaving.takes))
        self.ledger.release(leaving.frees)

    def load(self, name: str, reason: Reason, need: Need) -> None:
        survey = self.survey
        brings, copies = survey.missing_members(name), survey.copied_members(name)
        first = tuple(m for m in survey.units.callees_first(name) if m in brings)
        versions = survey.models[name].fallback if reason is Reason.ROLLED_BACK else ()
        self.loads.append(Load(name, reason, first, brings, copies=copies, versions=versions))
        self.ledger.promise(need)
        self.coming.update((*brings, *copies))
        self._keep(name, reason)
        self.loading += 1

    def claim(self, name: str, reason: Reason, detail: str, need: Need) -> None:
        """Sets aside what ``name`` waits for: the memory, and its members that are here."""
        self.ledger.claim(need)
        self.awaited += 1
        self._keep(name, reason)
        self.hold(name, reason, detail)

    def _keep(self, name: str, reason: Reason) -> None:
        members = self.survey.units.members(name)
        self.kept.update(dict.fromkeys(members, reason))
        self._pin(self.survey.pinned.intersection(members))

    def _pin(self, names: Iterable[str]) -> None:
        pins = self.pins.union(names)
        if pins != self.pins:
            self.pins, self.pinned_bytes = pins, self.survey.taken_by(pins)

    def is_leaving(self, name: str) -> bool:
        return name in self.gone or self.survey.state(name) is ModelState.UNLOADING

    def leavers(
        self, staying: Collection[str] = (), *, engaged: bool = False
    ) -> Iterator[Resident]:
        """All that may still leave, without what must stay, in the order of `Survey.leavers`."""
        gone, kept = self.gone, self.kept
        for name in self.survey.leavers(engaged=engaged):
            if name in gone or name in kept or name in staying:
                continue
            resident = self.survey.leaver(name, engaged=engaged)
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
            past = models.get(unload.model, NOTHING)
            if unload.reason is Reason.SICK:
                past = replace(past, restore=True)
            if past.swapped is not (unload.reason is Reason.UPDATED):
                past = replace(past, swapped=unload.reason is Reason.UPDATED)
            if past is not models.get(unload.model, NOTHING):
                models[unload.model] = past
            if unload.for_model is not None:
                for name in (unload.model, *unload.takes):
                    past = models.get(name, NOTHING)
                    if past.left_for != unload.for_model:
                        models[name] = replace(past, left_for=unload.for_model)
        counted = sum(name in fresh for name in self.victims)
        credits = [survey.past(name).credit for name in self.victims]
        return replace(
            history,
            models=models,
            leaving=frozenset(self.gone),
            evictions_s=history.evictions_s + (survey.now_s,) * counted,
            inflation=max([history.inflation, *credits]),
        )
