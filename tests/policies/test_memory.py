"""The ledger: what is reserved, what may be promised, and who shrinks it."""

from dataclasses import replace

import pytest

from policies.memory import Ledger, footprint, share_bytes
from policies.policy import Policy
from policies.snapshot import HOST, Device, Footprint, FootprintSource, Model, Snapshot
from policies.units import Units
from tests.policies.world import (
    GIB,
    GPU,
    LOADING,
    READY,
    UNLOADING,
    Guest,
    World,
    gpu_world,
    guest,
    policy_of,
)


def ledger_of(world: World, policy: Policy) -> Ledger:
    return ledger_for(world.snapshot(), policy)


def ledger_for(snapshot: Snapshot, policy: Policy) -> Ledger:
    return Ledger(policy, snapshot, Units(policy, snapshot.models))


def one(gib: float) -> dict[str, int]:
    return {GPU: int(gib * GIB)}


def test_reserved_is_resident_and_loading_at_its_peak_and_unloading() -> None:
    world = gpu_world(
        guest("r", 1, state=READY),
        guest("l", 2, state=LOADING),
        guest("u", 3, state=UNLOADING),
        guest("away", 4),
    )
    account = ledger_of(world, policy_of(loads={"peak_factor": 1.5})).accounts[GPU]
    assert (account.reserved, account.leaving) == (7 * GIB, 3 * GIB)


def test_what_is_leaving_counts_until_it_is_gone() -> None:
    ledger = ledger_of(gpu_world(guest("r", 6, state=READY)), policy_of())
    assert ledger.fits_now(one(4))
    assert not ledger.fits_now(one(5))
    ledger.release(one(6))
    assert not ledger.fits_now(one(5))
    assert ledger.shortfall(one(5)) == {}
    assert ledger.shortfall(one(11)) == one(1)


def test_a_promise_and_a_claim_both_take_room() -> None:
    ledger = ledger_of(gpu_world(), policy_of())
    ledger.promise(one(4))
    ledger.claim(one(3))
    assert ledger.fits_now(one(3))
    assert ledger.shortfall(one(5)) == one(2)


def test_a_need_must_fit_on_every_device() -> None:
    world = World({"A": 4 * GIB, "B": 2 * GIB}, {})
    ledger = ledger_of(world, policy_of("100%"))
    assert ledger.fits_now({"A": 4 * GIB, "B": 2 * GIB})
    assert ledger.shortfall({"A": 5 * GIB, "B": 5 * GIB}) == {"A": GIB, "B": 3 * GIB}


def test_a_second_copy_of_a_stale_step_is_counted_once_at_its_peak() -> None:
    world = gpu_world(
        guest("s", 2, state=READY, stale=True),
        guest("e", 0, steps=("s",), state=LOADING),
        guest("d", 0, steps=("s",), state=LOADING),
    )
    account = ledger_of(world, policy_of(loads={"peak_factor": 1.5})).accounts[GPU]
    assert account.reserved == 5 * GIB


def test_memory_used_by_others_shrinks_the_limit_and_not_the_budget() -> None:
    world = gpu_world(guest("r", 2, state=READY))
    world.foreign[GPU] = 5 * GIB
    account = ledger_of(world, policy_of(8 * GIB)).accounts[GPU]
    assert (account.budget, account.limit, account.unaccounted) == (8 * GIB, 5 * GIB, 5 * GIB)


def test_use_is_unknown_where_it_is_not_measured() -> None:
    world = gpu_world(guest("r", 2, state=READY))
    world.measured = False
    ledger = ledger_of(world, policy_of(8 * GIB))
    assert ledger.accounts[GPU].unaccounted is None
    assert ledger.accounts[GPU].limit == 8 * GIB
    assert not ledger.blind


def test_a_resident_of_unknown_size_blinds_only_where_use_is_not_measured() -> None:
    world = gpu_world(guest("r", 2, state=READY, known_size=False))
    assert not ledger_of(world, policy_of()).blind
    world.measured = False
    assert ledger_of(world, policy_of()).blind


def test_overdrawn_is_what_stays_beyond_the_budget() -> None:
    world = gpu_world(guest("r", 6, state=READY), guest("u", 3, state=UNLOADING))
    assert ledger_of(world, policy_of(4 * GIB)).overdrawn() == one(2)
    assert ledger_of(world, policy_of(6 * GIB)).overdrawn() == {}


def test_a_need_is_overused_only_if_the_budget_alone_would_hold_it() -> None:
    world = gpu_world()
    world.foreign[GPU] = 5 * GIB
    ledger = ledger_of(world, policy_of())
    assert ledger.is_overused(one(6))
    assert not ledger.is_overused(one(5))
    assert not ledger.is_overused(one(11))


def test_the_hosts_memory_belongs_to_everybody_and_asks_for_no_restart() -> None:
    for device, expected in ((GPU, [(GPU, 5 * GIB, 2 * GIB)]), (HOST, [])):
        snapshot = Snapshot(0, devices={device: Device(device, 10 * GIB, 5 * GIB)})
        assert ledger_for(snapshot, policy_of(restart_above=2 * GIB)).overuse() == expected


def test_nothing_is_needed_of_a_device_without_a_budget_if_the_need_is_nothing() -> None:
    ledger = ledger_of(gpu_world(), policy_of())
    assert ledger.has_budget({"elsewhere": 0})
    assert not ledger.has_budget({"elsewhere": 1})


def test_a_model_on_a_device_nobody_has_seen_is_counted_and_harmless() -> None:
    world = World({GPU: 4 * GIB}, {"m": Guest("m", {"elsewhere": GIB}, state=READY)})
    ledger = ledger_of(world, policy_of("100%"))
    assert ledger.accounts["elsewhere"].reserved == GIB
    assert ledger.fits_now(one(4))


@pytest.mark.parametrize(
    ("total_bytes", "used_bytes", "budget", "limit"),
    [
        (None, None, None, None),
        (0, None, 0, 0),
        (-5, None, 0, 0),
        (8 * GIB, 9 * GIB, 4 * GIB, 0),
        (8 * GIB, -GIB, 4 * GIB, 4 * GIB),
        (10**400, 0, 2**59, 2**59),
        (8 * GIB, 10**400, 4 * GIB, 0),
    ],
)
def test_odd_devices_promise_nothing_they_cannot_have(
    total_bytes: int | None, used_bytes: int | None, budget: int | None, limit: int | None
) -> None:
    snapshot = Snapshot(0, devices={GPU: Device(GPU, total_bytes, used_bytes)})
    account = ledger_for(snapshot, policy_of("50%")).accounts[GPU]
    assert (account.budget, account.limit) == (budget, limit)


def test_odd_footprints_are_brought_into_the_range_of_what_can_be() -> None:
    model = Model("m", footprint=Footprint({"A": -1, "B": 10**400}, FootprintSource.MEASURED))
    assert footprint(model) == {"A": 0, "B": 2**60}
    assert footprint(replace(model, footprint=None)) == {}


def test_a_share_is_of_the_total_and_an_amount_is_itself() -> None:
    assert share_bytes(0.25, 8 * GIB) == 2 * GIB
    assert share_bytes(0.25, None) is None
    assert share_bytes(GIB, None) == GIB
