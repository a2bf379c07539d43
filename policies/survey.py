"""One snapshot seen through the policy and the history: what a plan asks, answered once.

Owns the questions (who is pinned, who is free to leave, what would a load take, what is
it worth). Refuses to decide: that is `policies.planner`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from policies.demand import is_wanted
from policies.history import NOTHING, History, ModelHistory
from policies.memory import Need, footprint
from policies.policy import Policy
from policies.ranking import RANKINGS, Standing
from policies.snapshot import Model, ModelState, Snapshot
from policies.units import Units

_HERE = (ModelState.READY, ModelState.LOADING)


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that may be asked to leave, with the members only it needs.

    takes: those members, callers first, so that none is pulled from under another.
    frees: bytes by device that come free with all of them.
    """

    name: str
    takes: tuple[str, ...]
    frees: Need
    worth: float
    density: float


@dataclass(slots=True)
class Survey:
    policy: Policy
    snapshot: Snapshot
    history: History
    units: Units
    pinned: frozenset[str] = frozenset()
    _worths: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: Policy, snapshot: Snapshot, history: History, units: Units) -> "Survey":
        survey = cls(policy, snapshot, history, units)
        roots = [
            name
            for name in snapshot.models
            if policy.wishes(name).pin and policy.wishes(name).pinned_at(snapshot.now_s)
        ]
        survey.pinned = frozenset(member for root in roots for member in units.members(root))
        return survey

    @property
    def now_s(self) -> float:
        return self.snapshot.now_s

    @property
    def models(self) -> Mapping[str, Model]:
        return self.snapshot.models

    def past(self, name: str) -> ModelHistory:
        return self.history.models.get(name, NOTHING)

    def state(self, name: str) -> ModelState:
        model = self.models.get(name)
        return model.state if model else ModelState.UNLOADED

    def is_wanted(self, name: str) -> bool:
        model = self.models[name]
        absent = model.state not in _HERE
        return absent and is_wanted(self.policy, model, self.past(name), self.now_s)

    def worth(self, name: str) -> float:
        """What having the unit of ``name`` resident is worth, in the ranking's unit."""
        if name not in self._worths:
            model = self.models[name]
            standing = Standing(model, self.past(name), self.size_bytes(name), self.is_wanted(name))
            ranking = RANKINGS[self.policy.ranking]
            worth = ranking.worth(self.policy, standing, self.history, self.now_s)
            # Odd input (an infinite weight times nothing) must not make the order undefined.
            self._worths[name] = worth if worth == worth else 0.0
        return self._worths[name]

    def density(self, name: str) -> float:
        ranking = RANKINGS[self.policy.ranking]
        return ranking.density(self.worth(name), self.size_bytes(name))

    def size_bytes(self, name: str) -> int:
        known = (self.models[m] for m in self.units.members(name) if m in self.models)
        return sum(sum(footprint(model).values()) for model in known)

    def has_caller_here(self, name: str) -> bool:
        return any(self.state(caller) in _HERE for caller in self.units.callers(name))

    def resident_s(self, name: str) -> float:
        since_s = self.past(name).resident_since_s
        return 0.0 if since_s is None else max(0.0, self.now_s - since_s)

    def is_young(self, name: str) -> bool:
        return self.resident_s(name) < self.policy.minimum_s(name)

    def idle_s(self, name: str) -> float:
        """Seconds since it was last used, or came in; zero while requests are inside."""
        model, past = self.models[name], self.past(name)
        if model.in_flight or model.pending or model.waiting:
            return 0.0
        times = [at for at in (past.last_use_s, past.resident_since_s) if at is not None]
        return max(0.0, self.now_s - max(times)) if times else 0.0

    def need(self, name: str) -> Need | None:
        """Bytes by device a load of the unit would take at its peak; None when unknown.

        Members already here cost nothing, unless the load would copy them a second time.
        """
        need: dict[str, int] = {}
        for member in self.units.members(name):
            model = self.models.get(member)
            if model is None or model.footprint is None:
                return None
            for device, amount in footprint(model).items():
                need[device] = need.get(device, 0) + self._load_bytes(name, model, amount)
        return need

    def _load_bytes(self, root: str, model: Model, amount: int) -> int:
        peak = round(amount * self.policy.peak_factor(model.name))
        if model.state is ModelState.UNLOADED:
            return peak
        if model.state is ModelState.UNLOADING:
            # Only a sick one is loaded over; its dead process has given its memory back,
            # and what it still has in the ledger serves for the new copy.
            return peak - amount
        is_step = any(model.name in self.units.steps(m) for m in self.units.members(root))
        return peak if model.stale and is_step else 0

    def missing_members(self, name: str) -> tuple[str, ...]:
        return tuple(m for m in self.units.members(name) if self.state(m) not in _HERE)

    def may_leave(self, name: str) -> bool:
        """READY, not pinned, and nobody here needs it."""
        return (
            self.state(name) is ModelState.READY
            and name not in self.pinned
            and not self.has_caller_here(name)
        )

    def resident(self, name: str) -> Resident:
        takes = self.takes(name)
        frees: dict[str, int] = {}
        for member in (name, *takes):
            for device, amount in footprint(self.models[member]).items():
                frees[device] = frees.get(device, 0) + amount
        return Resident(name, takes, frees, self.worth(name), self.density(name))

    def residents(self) -> Iterator[str]:
        return (n for n, m in self.models.items() if m.state is ModelState.READY)

    def takes(self, root: str) -> tuple[str, ...]:
        """Members that leave with ``root``: READY, not pinned, needed by none outside the unit,
        and not asked for on their own within the demand window."""
        members = self.units.members(root)
        unit = frozenset(members)
        return tuple(
            member
            for member in reversed(members)
            if member != root
            and self.state(member) is ModelState.READY
            and member not in self.pinned
            and not self._is_used_alone(member)
            and not any(
                self.state(caller) in _HERE
                for caller in self.units.callers(member)
                if caller not in unit
            )
        )

    def _is_used_alone(self, member: str) -> bool:
        last_s = self.past(member).last_use_s
        return last_s is not None and self.now_s - last_s <= self.policy.demand.fast_s
