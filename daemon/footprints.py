"""How much device memory each model needs, by the best source there is.

Owns the order of sources: declared in the policy, reported by Triton, measured around a
load here or by a peer, hinted in the model's configuration, guessed from its files, assumed by
the policy.
Refuses to measure: that is `daemon.measuring`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daemon.learned import Learned
from daemon.repository import OnDisk
from policies.policy import Policy
from policies.snapshot import HOST, Footprint, FootprintSource

SURPRISE = 2
"""A single measurement of the host's memory is believed up to so many times files and hint."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one model's size.

    reported: (memory type, device number) to bytes, as in Triton's statistics.
    heard: what peers have learned; on GPUs that are not ours.
    """

    on_disk: OnDisk | None = None
    learned: Learned | None = None
    reported: Mapping[tuple[str, int], int] | None = None
    heard: Learned | None = None


def best(policy: Policy, name: str, evidence: Evidence, gpus: Sequence[str]) -> Footprint | None:
    """The footprint of ``name`` on devices among ``gpus`` (uuids by number) or the host.

    None when no source speaks.
    """
    on_disk = evidence.on_disk
    devices = places(on_disk, gpus)
    if (declared := policy.wishes(name).footprint) is not None:
        by_device = declared if isinstance(declared, Mapping) else _each(devices, declared)
        return Footprint(dict(by_device), FootprintSource.DECLARED)
    if on_disk and on_disk.steps:
        # An ensemble is a plan of its steps; they hold the memory.
        return Footprint({}, FootprintSource.REPORTED)
    if reported := _reported(evidence.reported, gpus):
        return Footprint(reported, FootprintSource.REPORTED)
    if measured := _measured(evidence.learned, devices, gpus):
        once = evidence.learned is not None and len(evidence.learned.footprints) == 1
        return Footprint(_plausible(measured, on_disk, once=once), FootprintSource.MEASURED)
    if heard := _heard(evidence.heard, devices, gpus):
        return Footprint(_plausible(heard, on_disk, once=True), FootprintSource.PEER)
    if on_disk and on_disk.hint_bytes:
        return Footprint(_each(devices, on_disk.hint_bytes), FootprintSource.HINTED)
    if on_disk and on_disk.file_bytes > 0:
        guess = round(on_disk.file_bytes * policy.footprints.file_factor)
        return Footprint(_each(devices, guess), FootprintSource.FILE_SIZE)
    if policy.footprints.assume_bytes is not None:
        return Footprint(_each(devices, policy.footprints.assume_bytes), FootprintSource.ASSUMED)
    return None


def places(on_disk: OnDisk | None, gpus: Sequence[str]) -> tuple[str, ...]:
    """Devices a model lives on: those its instance groups name, else every visible GPU.

    A model of CPU instances lives in the host's memory.
    """
    if not gpus or (on_disk and on_disk.gpus is None and not on_disk.steps):
        return (HOST,)
    named = on_disk.gpus if on_disk and on_disk.gpus else range(len(gpus))
    return tuple(gpus[number] for number in named if number < len(gpus)) or tuple(gpus)


def where_it_lives(
    growth: Mapping[str, int], on_disk: OnDisk | None, gpus: Sequence[str]
) -> dict[str, int]:
    """The part of a measured growth that is the model's footprint.

    A model on a GPU grows the host's memory too, by libraries and buffers; that is no
    device memory of its own. Which of the GPUs it took, the growth itself says.
    """
    lives_in = {HOST} if places(on_disk, gpus) == (HOST,) else {*gpus}
    return {device: amount for device, amount in growth.items() if device in lives_in}


def _each(devices: Sequence[str], amount_bytes: int) -> dict[str, int]:
    return dict.fromkeys(devices, amount_bytes)


def _plausible(
    measured: Mapping[str, int], on_disk: OnDisk | None, *, once: bool
) -> dict[str, int]:
    """On the host other processes come and go too: a measurement below the model's own files
    or hint is most likely theirs, and so is one far above, until a second one confirms it."""
    if on_disk is None or HOST not in measured:
        return dict(measured)
    least = max(on_disk.file_bytes, on_disk.hint_bytes or 0)
    most = least * SURPRISE if once and least else measured[HOST]
    return {**measured, HOST: max(least, min(measured[HOST], most))}


def _measured(
    learned: Learned | None, devices: Sequence[str], gpus: Sequence[str]
) -> dict[str, int] | None:
    """What was measured, on the devices of now: a pod may come back on another node, where
    no device has the uuid that the sizes were learned with."""
    if learned is None or not learned.footprint_bytes:
        return None
    measured = dict(learned.footprint_bytes)
    if measured.keys() <= set(gpus or (HOST,)):
        return measured
    return _each(devices, max(measured.values()))


def _heard(
    learned: Learned | None, devices: Sequence[str], gpus: Sequence[str]
) -> dict[str, int] | None:
    """What peers measured; what a model takes of a host's memory says nothing of a GPU's."""
    if learned is None or not learned.footprint_bytes:
        return None
    if (learned.footprint_bytes.keys() == {HOST}) != (tuple(devices) == (HOST,)):
        return None
    return _measured(learned, devices, gpus)


def _reported(
    usage: Mapping[tuple[str, int], int] | None, gpus: Sequence[str]
) -> dict[str, int] | None:
    if not usage:
        return None
    if gpus:
        return {
            gpus[number]: amount
            for (kind, number), amount in usage.items()
            if kind == "GPU" and number < len(gpus) and amount > 0
        }
    host = sum(amount for (kind, _), amount in usage.items() if kind != "GPU")
    return {HOST: host} if host > 0 else None
