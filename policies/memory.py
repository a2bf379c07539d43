"""The ledger: what each device's memory is promised to.

The invariant of the whole product stands here. On every device

    reserved = resident + loading x peak factor + unloading until Triton says unloaded

(a second copy that loads beside the first, or a first that leaves after it, counts like any other)
and a load is granted only while reserved, with it, stays within the limit. So by our own
act reserved never exceeds the budget. The limit itself shrinks by memory that is used
beyond what is accounted for: leaks, retained arenas, other processes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from policies.policy import Policy
from policies.snapshot import HOST, Device, Model, ModelState, Snapshot
from policies.units import Units

Need = Mapping[str, int]

# More than any device has; odd input above it would leave the range of floats.
_MOST_BYTES = 2**60


@dataclass(slots=True)
class Account:
    """One device's side of the ledger, in bytes.

    budget: what our models may take; None when the device's size is unknown.
    limit: the budget, less what cannot be promised now.
    reserved, leaving: promised, and the part of it that is on its way out.
    claimed: set aside for models that wait for an unload, so that none takes it from them.
    unaccounted: measured use beyond our models'; None when use is not measured.
    """

    budget: int | None
    limit: int | None = None
    reserved: int = 0
    leaving: int = 0
    claimed: int = 0
    unaccounted: int | None = None


class Ledger:
    """All accounts of one plan; it changes while the plan is drawn up, and ends with it."""

    def __init__(self, policy: Policy, snapshot: Snapshot, units: Units) -> None:
        self._policy = policy
        self._devices = snapshot.devices
        here = [m for m in snapshot.models.values() if m.state is not ModelState.UNLOADED]
        self._moving = any(
            model.state is not ModelState.READY or model.updating or model.former for model in here
        )
        self.accounts = {
            name: Account(_budget(policy, device)) for name, device in snapshot.devices.items()
        }
        self._unknown = any(model.footprint is None for model in here)
        settled = self._enter(here)
        for name in _copied(snapshot, units):
            self.promise(self._peak(snapshot.models[name]))
        for name, device in snapshot.devices.items():
            _limit(device, self.accounts[name], settled.get(name, 0), self._unknown)
        unmeasured = any(account.unaccounted is None for account in self.accounts.values())
        self.blind = self._unknown and unmeasured

    def _enter(self, here: Iterable[Model]) -> dict[str, int]:
        """Enters all that takes memory; returns the bytes by device that are taken by now."""
        settled: dict[str, int] = {}
        leaving: dict[str, int] = {}
        for model in here:
            if model.state is ModelState.LOADING:
                self.promise(self._peak(model))
                continue
            copies = 2 if model.former else 1
            for device, amount in footprint(model).items():
                settled[device] = settled.get(device, 0) + copies * amount
                if model.state is ModelState.UNLOADING or model.former:
                    leaving[device] = leaving.get(device, 0) + amount
            if model.updating:
                self.promise(self._peak(model))
        self.promise(settled)
        self.release(leaving)
        return settled

    def _peak(self, model: Model) -> Need:
        factor = self._policy.peak_factor(model.name)
        return {device: round(amount * factor) for device, amount in footprint(model).items()}

    def _account(self, device: str) -> Account:
        if device not in self.accounts:
            self.accounts[device] = Account(budget=None)
        return self.accounts[device]

    def promise(self, need: Need) -> None:
        for device, amount in need.items():
            self._account(device).reserved += amount

    def claim(self, need: Need) -> None:
        for device, amount in need.items():
            self._account(device).claimed += amount

    def release(self, freed: Need) -> None:
        """Memory on its way out: still reserved, until Triton says that it is gone."""
        for device, amount in freed.items():
            self._account(device).leaving += amount

    def fits_now(self, need: Need) -> bool:
        return not self.shortfall(need, after_unloads=False)

    def shortfall(self, need: Need, *, after_unloads: bool = True) -> dict[str, int]:
        """Bytes missing on each device that cannot hold ``need``; empty when it fits."""
        missing = {}
        for device, amount in need.items():
            account = self._account(device)
            taken = account.reserved + account.claimed - (account.leaving if after_unloads else 0)
            short = amount + taken - (account.limit or 0)
            if amount > 0 and short > 0:
                missing[device] = short
        return missing

    def overdrawn(self) -> dict[str, int]:
        """Bytes by which each device's residents exceed its budget, unloads under way done."""
        return {
            name: account.reserved - account.leaving - account.budget
            for name, account in self.accounts.items()
            if account.budget is not None and account.reserved - account.leaving > account.budget
        }

    def is_overused(self, need: Need) -> bool:
        """Whether ``need`` fails only because of use beyond what is accounted for."""
        return any(
            (account := self._account(device)).budget is not None
            and account.reserved + account.claimed - account.leaving + amount <= account.budget
            for device, amount in need.items()
            if device in self.shortfall(need)
        )

    def overuse(self) -> list[tuple[str, int, int]]:
        """Devices with more unaccounted use than the policy bears: device, excess, limit, in bytes.

        Nothing is said while models come or go, since their memory is then neither here nor
        there; while a resident's size is unknown, since the use may be its own; nor of the
        host, whose memory belongs to everybody.
        """
        if self._moving or self._unknown:
            return []
        found = []
        for name in sorted(self.accounts):
            account, device = self.accounts[name], self._devices.get(name)
            if account.unaccounted is None or device is None or name == HOST:
                continue
            limit = share_bytes(self._policy.restart_above, device.total_bytes)
            if limit is not None and account.unaccounted > limit:
                found.append((name, account.unaccounted, limit))
        return found

    def has_budget(self, need: Need) -> bool:
        return not any(
            amount and self._account(device).budget is None for device, amount in need.items()
        )

    def too_small(self, need: Need, beside: Need) -> dict[str, int]:
        """Budgets in bytes that cannot hold ``need`` beside what stays, though all else left."""
        budgets = {}
        for device, amount in need.items():
            budget = self._account(device).budget or 0
            if amount > 0 and amount + beside.get(device, 0) > budget:
                budgets[device] = budget
        return budgets


def footprint(model: Model) -> Need:
    """Bytes by device; odd input is brought into the range of what can be."""
    if model.footprint is None:
        return {}
    amounts = model.footprint.by_device
    for amount in amounts.values():
        if not 0 <= amount <= _MOST_BYTES:
            return {name: _possible(amount) for name, amount in amounts.items()}
    return amounts


def _possible(amount_bytes: int) -> int:
    return int(min(max(0, amount_bytes), _MOST_BYTES))


def _copied(snapshot: Snapshot, units: Units) -> frozenset[str]:
    """Stale steps of ensembles that load: they are loaded again, beside their first copies."""
    return frozenset(
        step
        for name, model in snapshot.models.items()
        if model.state is ModelState.LOADING
        for step in units.steps(name)
        if (member := snapshot.models.get(step))
        if member.stale and member.state is ModelState.READY and not member.updating
    )


def share_bytes(share: int | float, total_bytes: int | None) -> int | None:
    """A share of a device in bytes; None when it is a fraction of an unknown total."""
    if isinstance(share, int):
        return share
    return None if total_bytes is None else int(share * _possible(total_bytes))


def _budget(policy: Policy, device: Device) -> int | None:
    own = policy.devices.get(device.id)
    share = own.budget if own and own.budget is not None else policy.budget
    headroom = own.headroom_bytes if own and own.headroom_bytes is not None else None
    budget = share_bytes(share, device.total_bytes)
    if budget is None:
        return None
    if device.total_bytes is not None:
        budget = min(budget, _possible(device.total_bytes))
    return max(0, budget - (policy.headroom_bytes if headroom is None else headroom))


def _limit(device: Device, account: Account, settled: int, unknown: bool) -> None:
    """Sets what may be promised. Loads under way count as not there yet, which errs on the
    safe side for as long as they last."""
    limit = account.budget
    if limit is not None and device.used_bytes is not None:
        account.unaccounted = max(0, _possible(device.used_bytes) - settled)
        if unknown:
            # Residents of unknown size are inside the unaccounted use; only it bounds them.
            limit -= account.unaccounted
        if device.total_bytes is not None:
            limit = min(limit, _possible(device.total_bytes) - account.unaccounted)
    account.limit = None if limit is None else max(0, limit)
