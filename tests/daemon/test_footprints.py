"""Which source of a model's size is believed, and on which devices it counts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from daemon.footprints import Evidence, best, places, where_it_lives
from daemon.learned import Learned
from daemon.repository import OnDisk
from policies.policy import Policy
from policies.snapshot import HOST, Footprint, FootprintSource
from policies.source import parse

MIB = 2**20
GPUS = ("GPU-a", "GPU-b")

ON_DISK = OnDisk("m", file_bytes=100 * MIB, hint_bytes=200 * MIB)
LEARNED = Learned(learned_at_s=1.0, footprints=({HOST: 300 * MIB},))
REPORTED = {("CPU", 0): 400 * MIB}
EVERYTHING = Evidence(ON_DISK, LEARNED, REPORTED)
DECLARED = parse("models: {m: {footprint: 500MiB}}")
ASSUMING = parse("footprints: {assume: 600MiB, file_factor: 2}")


def footprint(evidence: Evidence, gpus: tuple[str, ...] = (), policy: Policy = ASSUMING) -> Any:
    return best(policy, "m", evidence, gpus)


# --- the order of sources ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "evidence", "source", "mebibytes"),
    [
        (DECLARED, EVERYTHING, FootprintSource.DECLARED, 500),
        (ASSUMING, EVERYTHING, FootprintSource.REPORTED, 400),
        (ASSUMING, Evidence(ON_DISK, LEARNED), FootprintSource.MEASURED, 300),
        (ASSUMING, Evidence(ON_DISK, heard=LEARNED), FootprintSource.PEER, 300),
        (ASSUMING, Evidence(ON_DISK), FootprintSource.HINTED, 200),
        (ASSUMING, Evidence(replace(ON_DISK, hint_bytes=None)), FootprintSource.FILE_SIZE, 200),
        (ASSUMING, Evidence(OnDisk("m")), FootprintSource.ASSUMED, 600),
        (ASSUMING, Evidence(), FootprintSource.ASSUMED, 600),
    ],
)
def test_the_best_source_that_speaks_is_believed(
    policy: Policy, evidence: Evidence, source: FootprintSource, mebibytes: int
) -> None:
    assert footprint(evidence, policy=policy) == Footprint({HOST: mebibytes * MIB}, source)


def test_sources_come_in_the_order_that_their_names_are_declared_in() -> None:
    found = [
        footprint(evidence, policy=policy).source
        for policy, evidence in (
            (DECLARED, EVERYTHING),
            (ASSUMING, EVERYTHING),
            (ASSUMING, Evidence(ON_DISK, LEARNED)),
            (ASSUMING, Evidence(ON_DISK, heard=LEARNED)),
            (ASSUMING, Evidence(ON_DISK)),
            (ASSUMING, Evidence(replace(ON_DISK, hint_bytes=None))),
            (ASSUMING, Evidence()),
        )
    ]
    assert found == list(FootprintSource)


def test_nothing_known_and_nothing_assumed_is_unknown() -> None:
    assert footprint(Evidence(OnDisk("m")), policy=parse("")) is None


def test_a_load_time_alone_is_no_size() -> None:
    found = footprint(Evidence(ON_DISK, Learned(learned_at_s=1.0, load_s=3.0)))
    assert found.source is FootprintSource.HINTED


def test_an_ensemble_has_no_memory_of_its_own() -> None:
    ensemble = Evidence(OnDisk("m", file_bytes=10, steps=("a", "b")), LEARNED, REPORTED)
    for gpus in ((), GPUS):
        assert footprint(ensemble, gpus) == Footprint({}, FootprintSource.REPORTED)


def test_even_an_ensemble_weighs_what_is_declared_for_it() -> None:
    ensemble = Evidence(OnDisk("m", steps=("a",)))
    assert footprint(ensemble, policy=DECLARED).total_bytes == 500 * MIB


# --- devices -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus_named", "gpus", "devices"),
    [
        ((), (), (HOST,)),
        ((0,), (), (HOST,)),
        ((), GPUS, GPUS),
        ((1,), GPUS, ("GPU-b",)),
        ((0, 1), GPUS, GPUS),
        (None, GPUS, (HOST,)),
        # A number that no visible GPU has: every one is the cautious guess.
        ((7,), GPUS, GPUS),
    ],
)
def test_a_model_lives_on_the_gpus_it_names_else_on_every_one(
    gpus_named: tuple[int, ...] | None, gpus: tuple[str, ...], devices: tuple[str, ...]
) -> None:
    assert places(OnDisk("m", gpus=gpus_named), gpus) == devices


def test_a_model_never_seen_on_disk_lives_on_every_gpu() -> None:
    assert places(None, GPUS) == GPUS


def test_a_hint_counts_on_each_of_its_devices() -> None:
    found = footprint(Evidence(ON_DISK), GPUS)
    assert found.by_device == {"GPU-a": 200 * MIB, "GPU-b": 200 * MIB}


def test_an_amount_declared_counts_on_each_of_its_devices() -> None:
    found = footprint(Evidence(OnDisk("m", gpus=(1,))), GPUS, DECLARED)
    assert found.by_device == {"GPU-b": 500 * MIB}


def test_amounts_declared_by_device_are_taken_as_they_are() -> None:
    policy = parse("models: {m: {footprint: {GPU-b: 1GiB, GPU-z: 2GiB}}}")
    found = footprint(EVERYTHING, GPUS, policy)
    assert found.by_device == {"GPU-b": 1024 * MIB, "GPU-z": 2048 * MIB}


@pytest.mark.parametrize(
    ("reported", "gpus", "by_device"),
    [
        ({("GPU", 0): 5, ("GPU", 1): 7, ("CPU", 0): 9}, GPUS, {"GPU-a": 5, "GPU-b": 7}),
        ({("GPU", 0): 5, ("GPU", 9): 7}, GPUS, {"GPU-a": 5}),
        ({("CPU", 0): 5, ("CPU_PINNED", 0): 7}, (), {HOST: 12}),
    ],
)
def test_triton_reports_by_the_number_of_the_device(
    reported: Mapping[tuple[str, int], int], gpus: tuple[str, ...], by_device: Mapping[str, int]
) -> None:
    assert footprint(Evidence(reported=reported), gpus) == Footprint(
        by_device, FootprintSource.REPORTED
    )


@pytest.mark.parametrize(
    ("reported", "gpus"),
    [({}, ()), ({("CPU", 0): 0}, ()), ({("GPU", 0): 0}, GPUS), ({("CPU", 0): 9}, GPUS)],
)
def test_a_report_of_nothing_is_no_report(
    reported: Mapping[tuple[str, int], int], gpus: tuple[str, ...]
) -> None:
    found = footprint(Evidence(ON_DISK, reported=reported), gpus)
    assert found.source is FootprintSource.HINTED


# --- what was measured elsewhere -----------------------------------------------------------


def measured(**by_device: int) -> Evidence:
    return Evidence(OnDisk("m"), Learned(learned_at_s=1.0, footprints=(by_device,)))


def test_a_surprising_growth_of_the_host_has_to_be_seen_twice() -> None:
    once = Evidence(ON_DISK, Learned(1.0, ({HOST: 900 * MIB},)))
    assert footprint(once).total_bytes == 400 * MIB, "twice the hint"
    twice = Evidence(ON_DISK, Learned(1.0, ({HOST: 900 * MIB}, {HOST: 910 * MIB})))
    assert footprint(twice).total_bytes == 900 * MIB
    on_gpu = Evidence(replace(ON_DISK, gpus=(0,)), Learned(1.0, ({"GPU-a": 900 * MIB},)))
    assert footprint(on_gpu, GPUS).total_bytes == 900 * MIB, "a GPU is its model's alone"


@pytest.mark.parametrize(("grown", "counted"), [(5, 9), (15, 15)])
def test_on_the_host_nothing_is_smaller_than_its_files_or_its_hint(
    grown: int, counted: int
) -> None:
    on_disk = OnDisk("a", file_bytes=8 * MIB, hint_bytes=9 * MIB, gpus=None)
    learned = Learned(1.0, ({HOST: grown * MIB},))
    found = best(ASSUMING, "a", Evidence(on_disk, learned), ())
    assert found == Footprint({HOST: counted * MIB}, FootprintSource.MEASURED)


@pytest.mark.parametrize(
    ("gpus", "asked", "counted"),
    [
        (GPUS, (), {"GPU-a": 7 * MIB}),
        (GPUS, None, {HOST: 9 * MIB}),
        ((), (), {HOST: 9 * MIB}),
    ],
)
def test_growth_counts_only_where_the_model_lives(
    gpus: tuple[str, ...], asked: tuple[int, ...] | None, counted: dict[str, int]
) -> None:
    growth = {"GPU-a": 7 * MIB, HOST: 9 * MIB}
    assert where_it_lives(growth, OnDisk("m", gpus=asked), gpus) == counted


def test_what_was_measured_counts_where_it_was_measured() -> None:
    evidence = Evidence(OnDisk("m"), Learned(1.0, ({"GPU-b": 7 * MIB},)))
    assert footprint(evidence, GPUS).by_device == {"GPU-b": 7 * MIB}


def test_a_size_measured_on_another_node_counts_on_the_devices_of_this_one() -> None:
    evidence = Evidence(OnDisk("m", gpus=(1,)), Learned(1.0, ({"GPU-old": 7 * MIB},)))
    found = footprint(evidence, GPUS)
    assert found == Footprint({"GPU-b": 7 * MIB}, FootprintSource.MEASURED)


def test_the_larger_share_counts_where_the_devices_have_changed() -> None:
    evidence = Evidence(OnDisk("m"), Learned(1.0, ({"GPU-a": 3 * MIB, "GPU-old": 7 * MIB},)))
    assert footprint(evidence, GPUS).by_device == {"GPU-a": 7 * MIB, "GPU-b": 7 * MIB}


def test_a_size_measured_on_the_host_counts_on_gpus_that_came() -> None:
    assert footprint(measured(host=7 * MIB), GPUS[:1]).by_device == {"GPU-a": 7 * MIB}
