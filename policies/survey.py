"""One snapshot seen through the policy and the history: what a plan asks, answered once.

Owns the questions (who is pinned, who is free to leave, what would a load take, what is
it worth). Refuses to decide: that is `policies.planner`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from policies.actions import Reason
from policies.copies import coming, is_kept, is_spare, why_called
from policies.demand import absence_s, expected_rate, is_busy, is_wanted, turn_s
from policies.history import NOTHING, History, ModelHistory
from policies.memory import Need, footprint
from policies.outlook import Outlook, outlooks
from policies.policy import Policy
from policies.ranking import RANKINGS, Ranking, Standing, pressing
from policies.snapshot import Model, ModelState, Snapshot
from policies.units import Units

_HERE = (ModelState.READY, ModelState.LOADING)


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that is here, with the members only it needs.

    takes: those members, callers first, so that none is pulled from under another.
    frees: bytes by device that come free with all of them.
    young: it has not been here for its minimum residency.
    draining: its unload is decided already and can still be called off. It has paid the
        hysteresis: the swap goes on for as long as it brings more than it costs.
    """

    name: str
    takes: tuple[str, ...]
    frees: Need
    young: bool
    draining: bool


@dataclass(slots=True)
class Survey:
    """pinned_roots: pinned by the policy; pinned: those and all they need. kept: residents that
    are kept for the fleet, by the policy's number of copies.

    absent: all that neither serve nor are on their way in. loading: those on their way in.
    updating: those that serve while a new copy of them loads.
    """

    policy: Policy
    snapshot: Snapshot
    history: History
    units: Units
    models: Mapping[str, Model]
    now_s: float
    ranking: Ranking
    pinned_roots: frozenset[str] = frozenset()
    pinned: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    absent: Sequence[str] = ()
    loading: frozenset[str] = frozenset()
    updating: frozenset[str] = frozenset()
    _residents: Sequence[str] = ()
    _standings: dict[str, Standing] = field(default_factory=dict)
    _worths: dict[str, float] = field(default_factory=dict)
    _outlooks: dict[str, Outlook] = field(default_factory=dict)
    _leavers: dict[bool, Sequence[str]] = field(default_factory=dict)
    _found: dict[tuple[str, bool], Resident] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: Policy, snapshot: Snapshot, history: History, units: Units) -> "Survey":
        models, now_s = snapshot.models, snapshot.now_s
        survey = cls(policy, snapshot, history, units, models, now_s, RANKINGS[policy.ranking])
        survey.pinned_roots = _pinned_roots(policy, snapshot)
        survey.pinned = frozenset(m for root in survey.pinned_roots for m in units.members(root))
        states = [(name, model.state) for name, model in models.items()]
        survey.absent = [name for name, state in states if state not in _HERE]
        survey.loading = frozenset(n for n, state in states if state is ModelState.LOADING)
        survey.updating = frozenset(n for n, model in models.items() if model.updating)
        survey._residents = sorted(n for n, state in states if state is ModelState.READY)
        if policy.wants_copies:
            survey.kept = frozenset(n for n in survey._residents if is_kept(policy, models[n]))
        return survey

    def past(self, name: str) -> ModelHistory:
        return self.history.models.get(name, NOTHING)

    def state(self, name: str) -> ModelState:
        model = self.models.get(name)
        return model.state if model else ModelState.UNLOADED

    def stirring(self) -> Iterator[str]:
        """The absent models that may be called for: of all others, a look at each is enough."""
        pinned, pasts, want_s = self.pinned, self.history.models, self.policy.demand.want_s
        for name in self.absent:
            model, past = self.models[name], pasts.get(name, NOTHING)
            last_s = past.last_use_s
            if (
                model.waiting > 0
                or name in pinned
                or model.sick
                or past.restore
                or past.swapped
                or (last_s is not None and not last_s + want_s < self.now_s)
                or (last_s is not None and past.spells.turn_s is not None)
                or (model.copies is not None and self.why_called(name) is not None)
                or model.expected_rate
            ):
                yield name

    def is_impatient(self, name: str) -> bool:
        """Whether a request has waited for ``name`` so long that its worth no longer matters.

        Waiting has a price, but a request that is never served has failed, and no price of
        others' waiting makes up for that.
        """
        model = self.models[name]
        return model.waiting > 0 and model.oldest_wait_s >= self.policy.front_door.patience_s

    def pressing(self, name: str) -> float:
        """What a second of loading ``name`` is worth to those who wait for it."""
        return pressing(self.policy, self.models[name], self.absence_s(name))

    def is_wanted(self, name: str) -> bool:
        """Whether requests call for ``name``, an absent model."""
        return is_wanted(self.policy, self.models[name], self.past(name), self.now_s)

    def why_called(self, name: str) -> Reason | None:
        """Why the fleet calls for ``name``, an absent model. What only others bring along is not
        handed over for itself: its requests go where theirs do."""
        model = self.models[name]
        reason = why_called(self.policy, model)
        if reason is Reason.HANDED_OVER and self.units.callers(name):
            return reason if model.copies and model.copies.asked else None
        return reason

    def is_spare(self, name: str) -> bool:
        """Whether nobody would miss ``name``, a resident."""
        model = self.models[name]
        if model.copies is None:
            return False
        leaving = self.snapshot.leaving
        return is_spare(self.policy, model, self.past(name), self.now_s, leaving=leaving)

    def is_foreseen(self, name: str) -> bool:
        """Whether ``name``, an absent model, would by now have to load for its next turn, or is
        said to be asked for. One that came in for it once, and left, is not brought again."""
        left_s = self.past(name).left_at_s
        turn = self._turn_s(name) if self._has_its_turn_here(name) else None
        if turn is not None and (left_s is None or left_s < turn[0]):
            return True
        horizon_s = self.policy.horizon_s
        has_left = left_s is not None and self.now_s - left_s < horizon_s
        is_due = expected_rate(self.models[name]) * horizon_s >= 1
        return is_due and self.policy.prewarm and not has_left

    def _has_its_turn_here(self, name: str) -> bool:
        """Whether its requests come to this pod, as far as anybody knows: what the whole fleet was
        asked may have been learned here."""
        copies = self.models[name].copies
        return copies is None or copies.rank == 0 or not self.policy.routes_by_model

    def is_expected(self, name: str) -> bool:
        """Whether the next turn of ``name`` is near, and has not passed."""
        return self._turn_s(name) is not None

    def _turn_s(self, name: str) -> tuple[float, float] | None:
        """From when on it has to load for its turn, and when that has passed; None but between
        the two, and of a model that does not come at regular times."""
        if not self.policy.prewarm:
            return None
        found = turn_s(self.models[name], self.past(name), self.snapshot.unload_s)
        return found if found is not None and found[0] <= self.now_s < found[1] else None

    def worth(self, name: str) -> float:
        """What having the unit of ``name`` resident is worth, in the ranking's unit."""
        if name not in self._worths:
            standing = self._standing(name)
            worth = self.ranking.worth(self.policy, standing, self.history, self.now_s)
            # Odd input (an infinite weight times nothing) must not make the order undefined.
            worth = worth if worth == worth else 0.0
            is_spare = self.state(name) is ModelState.READY and self.is_spare(name)
            self._worths[name] = 0.0 if is_spare else worth
        return self._worths[name]

    def price(self, name: str) -> float:
        """What a model must be worth more than, to take the place of ``name``."""
        settled = self.models[name].draining
        return self.worth(name) * (1 if settled else 1 + self.policy.residency.hysteresis)

    def waits_s(self, name: str, price: float) -> float | None:
        """Seconds of further waiting that make ``name`` worth ``price``; None when none do."""
        more = price - self.worth(name)
        return self.ranking.waits_s(self.policy, self._standing(name), more, self.now_s)

    def _standing(self, name: str) -> Standing:
        found = self._standings.get(name)
        if found is None:
            model, past = self.models[name], self.past(name)
            size_bytes, absence_s = self.size_bytes(name), self.absence_s(name)
            outlook = self.outlook(name)
            # What its own past tells of a model, it tells better than a rate.
            expected = (1 - outlook.known) * expected_rate(model)
            asked = max(coming(self.policy, model), expected)
            found = Standing(model, past, size_bytes, absence_s, outlook, asked)
            self._standings[name] = found
        return found

    def outlook(self, name: str) -> Outlook:
        if name not in self._outlooks:
            # All residents are asked about in every tick, and of the others the wanted ones.
            names = self.residents() if self.state(name) is ModelState.READY else [name]
            self.foresee(names)
        return self._outlooks[name]

    def foresee(self, names: Sequence[str]) -> None:
        """Looks into the future of ``names`` together, which costs little more than of one."""
        self._outlooks |= outlooks(self.policy, self.history, names, self.now_s)

    def absence_s(self, name: str) -> float:
        """Seconds that pass, were ``name`` absent, from a request until it could serve."""
        return absence_s(self.models[name], self.snapshot.unload_s)

    def density(self, name: str) -> float:
        return self.ranking.density(self.worth(name), self._standing(name).size_bytes)

    def size_bytes(self, name: str) -> int:
        members = self.units.members(name)
        alone = members == (name,)
        taken = footprint(self.models[name]) if alone else self.taken_by(members)
        return sum(taken.values())

    def is_here(self, name: str) -> bool:
        return self.state(name) in _HERE

    def comes_with_pinned(self, name: str) -> bool:
        """A pinned model that needs it is away too, and will bring it."""
        callers = self.units.callers(name)
        return any(c in self.pinned_roots and not self.is_here(c) for c in callers)

    def has_caller_here(self, name: str) -> bool:
        callers = self.units.callers(name)
        return bool(callers) and any(self.is_here(caller) for caller in callers)

    def is_loading_by_itself(self, name: str) -> bool:
        """On its way in, a second copy too, and not as a member of something that is."""
        on_their_way = self.loading | self.updating
        return name in on_their_way and on_their_way.isdisjoint(self.units.callers(name))

    def resident_s(self, name: str) -> float:
        since_s = self.past(name).resident_since_s
        return 0.0 if since_s is None else max(0.0, self.now_s - since_s)

    def is_young(self, name: str) -> bool:
        return self.resident_s(name) < self.policy.minimum_s(name)

    def idle_s(self, name: str) -> float:
        """Seconds since it was last used, or came in; zero while it is in use."""
        model, past = self.models[name], self.past(name)
        if is_busy(model) or model.waiting:
            return 0.0
        times = [at for at in (past.last_use_s, past.resident_since_s) if at is not None]
        return max(0.0, self.now_s - max(times)) if times else 0.0

    def need(self, name: str, coming: Collection[str] = ()) -> Need | None:
        """Bytes by device a load of the unit would take at its peak; None when unknown.

        Members already here, or coming with another load, cost nothing, unless the load
        would copy them a second time.
        """
        need: dict[str, int] = {}
        for member in self.units.members(name):
            if member in coming:
                continue
            model = self.models.get(member)
            if model is None or model.footprint is None:
                return None
            for device, amount in footprint(model).items():
                need[device] = need.get(device, 0) + self._load_bytes(name, model, amount)
        return need

    def _load_bytes(self, root: str, model: Model, amount: int) -> int:
        peak = round(amount * self.policy.peak_factor(model.name))
        if model.state is ModelState.UNLOADED or (model.name == root and self.is_here(root)):
            return peak
        if model.state is ModelState.UNLOADING:
            # Only a sick one is loaded over; its dead process has given its memory back,
            # and what it still has in the ledger serves for the new copy.
            return peak - amount
        return peak if model.stale and self._is_step_of(root, model.name) else 0

    def _is_step_of(self, root: str, name: str) -> bool:
        return any(name in self.units.steps(member) for member in self.units.members(root))

    def missing_members(self, name: str) -> tuple[str, ...]:
        return tuple(m for m in self.units.members(name) if not self.is_here(m))

    def copied_members(self, root: str) -> tuple[str, ...]:
        """Members that serve already, and of which a load of ``root`` makes a second copy."""
        return tuple(
            m
            for m in self.units.members(root)
            if self.state(m) is ModelState.READY
            and (m == root or (self.models[m].stale and self._is_step_of(root, m)))
        )

    def taken_by(self, names: Iterable[str]) -> Need:
        """Bytes by device that ``names`` take together, once they are loaded."""
        found = [footprint(model) for name in names if (model := self.models.get(name))]
        if len(found) == 1:
            return found[0]
        taken: dict[str, int] = {}
        for amounts in found:
            for device, amount in amounts.items():
                taken[device] = taken.get(device, 0) + amount
        return taken

    def is_engaged(self, name: str) -> bool:
        """READY, and somebody is in the middle of it, or about to be served by it.

        A sick one serves nobody, so nothing keeps it. Those who wait for one that drains
        have been held for the sake of its leaving: they are weighed, and forbid nothing.
        """
        model = self.models.get(name)
        if model is None or model.state is not ModelState.READY or model.sick:
            return False
        return model.leases > 0 or (model.waiting > 0 and not model.draining)

    def comes_back(self, name: str) -> bool:
        """Whether it left only to be loaded anew, and nobody has given that up yet."""
        past = self.past(name)
        if not past.swapped or name not in self.models:
            return False
        return past.left_at_s is None or self.now_s - past.left_at_s <= self.policy.horizon_s

    def is_changing(self, name: str) -> bool:
        """Whether a second copy of it is in memory, on its way in or out."""
        model = self.models[name]
        return model.updating or model.former

    def resident(self, name: str, takes: tuple[str, ...] = ()) -> Resident:
        return Resident(
            name,
            takes,
            frees=self.taken_by((name, *takes)),
            young=self.is_young(name),
            draining=self.models[name].draining,
        )

    def residents(self) -> Sequence[str]:
        """All that are READY, by name."""
        return self._residents

    def leavers(self, *, engaged: bool = False) -> Sequence[str]:
        """All that may leave: READY, in one copy, not pinned or kept, not engaged, and needed by
        nobody here.

        The least worth for its bytes comes first, but before all others those that drain
        already and that nothing waits for: near-equals would take turns in draining, and
        none of them would ever be gone.

        engaged: those too that only their leases, or requests about to be served, keep here.
        """
        if engaged not in self._leavers:
            names = [n for n in self.residents() if engaged or not self.is_engaged(n)]
            stay = self.pinned | self.kept
            names = [n for n in names if n not in stay and not self.has_caller_here(n)]
            names = [n for n in names if not self.is_changing(n)]
            self._leavers[engaged] = sorted(names, key=self._turn)
        return self._leavers[engaged]

    def leaver(self, name: str, *, engaged: bool = False) -> Resident:
        """One of `leavers`, with all that it takes along."""
        key = name, engaged
        if key not in self._found:
            self._found[key] = self.resident(name, self.takes(name, engaged=engaged))
        return self._found[key]

    def _turn(self, name: str) -> tuple[bool, bool, float]:
        """Going before staying, what the fleet can spare before what it cannot, then by what
        keeping it earns, with the hysteresis of `price`."""
        standing = self._standing(name)
        kept = self.ranking.kept(self.policy, standing, self.history, self.now_s)
        # Odd input must not make the order undefined; see `worth`.
        kept = kept if kept == kept else 0.0
        model = standing.model
        kept *= 1 if model.draining else 1 + self.policy.residency.hysteresis
        is_going = model.draining and model.waiting <= 0
        return (
            not is_going,
            not self.is_spare(name),
            self.ranking.density(kept, standing.size_bytes),
        )

    def takes(self, root: str, *, engaged: bool = False) -> tuple[str, ...]:
        """Members that leave with ``root``: READY, not pinned, not engaged, not asked for on
        their own within the demand window, and needed by none that stays."""
        leaving = [root]
        # Callers come before what they need: one that stays keeps all of its own.
        for member in reversed(self.units.members(root)):
            stays = (
                member == root
                or self.state(member) is not ModelState.READY
                or member in self.pinned
                or member in self.kept
                or self.is_changing(member)
                or (not engaged if self.is_engaged(member) else self._is_used_alone(member))
            )
            callers = () if stays else self.units.callers(member)
            if not stays and all(c in leaving or not self.is_here(c) for c in callers):
                leaving.append(member)
        return tuple(leaving[1:])

    def _is_used_alone(self, member: str) -> bool:
        last_s = self.past(member).last_use_s
        return last_s is not None and self.now_s - last_s <= self.policy.demand.fast_s


def _pinned_roots(policy: Policy, snapshot: Snapshot) -> frozenset[str]:
    if not any(wishes.pin for wishes in policy.models.values()):
        return frozenset()
    wishes, now_s = policy.wishes, snapshot.now_s
    pinned = (name for name in snapshot.models if wishes(name).pin)
    return frozenset(name for name in pinned if wishes(name).pinned_at(now_s))
