"""What a newcomer believes of what its peers have measured."""

import pytest

from daemon.footprints import Evidence, best
from daemon.gossip import hearsay as module
from daemon.gossip.hearsay import PEER_DEVICE, REPORTS, Hearsay
from daemon.gossip.messages import LearnedModel
from daemon.learned import Learned
from daemon.repository import OnDisk
from policies.snapshot import HOST, Footprint, FootprintSource
from policies.source import parse

MIB = 2**20
GPUS = ("GPU-a", "GPU-b")
ON_GPU = OnDisk("m", file_bytes=100 * MIB, hint_bytes=200 * MIB, gpus=())
ON_HOST = OnDisk("m", file_bytes=100 * MIB, hint_bytes=200 * MIB, gpus=None)


def report(
    mebibytes: int | None,
    load_s: float | None = None,
    *,
    on_host: bool = False,
    file_bytes: int | None = None,
) -> LearnedModel:
    amount = None if mebibytes is None else mebibytes * MIB
    return LearnedModel(amount, load_s, on_host, file_bytes)


def heard(*reports: LearnedModel) -> Hearsay:
    hearsay = Hearsay()
    for number, each in enumerate(reports):
        hearsay.heard(f"p{number}", {"m": each})
    return hearsay


def test_the_median_is_believed_and_one_liar_is_not() -> None:
    learned = heard(report(300, 2.0), report(2**30, 9e8), report(310, 3.0)).of("m", None)
    assert learned is not None
    assert learned.footprint_bytes == {PEER_DEVICE: 310 * MIB}
    assert learned.load_s == 3.0


def test_reports_of_other_files_do_not_count() -> None:
    hearsay = heard(report(300, 2.0, file_bytes=7), report(900, 9.0, file_bytes=8))
    learned = hearsay.of("m", 8)
    assert learned is not None
    assert learned.load_s == 9.0
    assert hearsay.of("m", 9) is None


def test_files_out_of_sight_on_either_side_are_taken_for_the_same() -> None:
    assert heard(report(300, 2.0, file_bytes=7)).of("m", None) is not None
    assert heard(report(300, 2.0)).of("m", 7) is not None


def test_nothing_heard_is_nothing_known() -> None:
    assert Hearsay().of("m", None) is None
    assert heard(report(None, None)).of("m", None) is None


def test_a_pods_later_report_replaces_its_earlier_one() -> None:
    hearsay = heard(report(300))
    hearsay.heard("p0", {"m": report(400)})
    learned = hearsay.of("m", None)
    assert learned is not None
    assert learned.footprint_bytes == {PEER_DEVICE: 400 * MIB}


def test_the_latest_reports_are_kept_and_the_models_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learned = heard(report(1), report(2), *(report(9) for _ in range(REPORTS))).of("m", None)
    assert learned is not None
    assert learned.footprint_bytes == {PEER_DEVICE: 9 * MIB}
    monkeypatch.setattr(module, "MOST_MODELS", 2)
    hearsay = Hearsay()
    hearsay.heard("p", {name: report(1) for name in "abc"})
    assert [name for name in "abc" if hearsay.of(name, None)] == ["b", "c"]


def footprint(on_disk: OnDisk, learned: Learned | None, gpus: tuple[str, ...]) -> Footprint | None:
    return best(parse(""), "m", Evidence(on_disk, heard=learned), gpus)


def test_what_was_measured_on_another_pods_gpu_counts_on_each_of_ours() -> None:
    learned = heard(report(300)).of("m", None)
    expected = Footprint(dict.fromkeys(GPUS, 300 * MIB), FootprintSource.PEER)
    assert footprint(ON_GPU, learned, GPUS) == expected


def test_what_a_peer_measured_on_a_host_says_nothing_of_a_gpu_nor_the_other_way_round() -> None:
    of_host = heard(report(300, on_host=True)).of("m", None)
    of_gpu = heard(report(300)).of("m", None)
    for on_disk, learned, gpus in ((ON_GPU, of_host, GPUS), (ON_HOST, of_gpu, GPUS)):
        found = footprint(on_disk, learned, gpus)
        assert found is not None
        assert found.source is FootprintSource.HINTED
    assert footprint(ON_HOST, of_host, ()) == Footprint({HOST: 300 * MIB}, FootprintSource.PEER)
