"""Who counts, what is known, what is stale: a timeline on a clock of our own."""

from dataclasses import replace

import pytest

from daemon.fleet.samples import ModelSignal, Pod, Samples, Signals

POD = Pod("default", "a", "uid-1", {}, "10.0.0.1", 9400, "triton", False, "Running")
SIGNALS = Signals(
    at_s=1000.0,
    reachable=True,
    load=0.4,
    compute=0.4,
    device=None,
    memory=None,
    queue_boost=1.0,
    advice="enough",
    budget_bytes=None,
    pinned_bytes=0,
    pins_fit=True,
    models={"resnet": ModelSignal(True, 0.4, 3.0)},
)


class Time:
    now_s = 50.0


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def samples(time: Time) -> Samples:
    samples = Samples(30.0, lambda: time.now_s, lambda: time.now_s + 1_700_000_000)
    samples.put_pod(POD)
    return samples


def test_a_pod_that_never_answered_is_unknown(samples: Samples) -> None:
    assert samples.signals(POD.key) is None
    assert samples.sampled_at_s(POD.key) is None
    assert samples.served(POD.key) is None


def test_an_answer_is_known_until_it_is_stale(samples: Samples, time: Time) -> None:
    samples.put_signals(POD, SIGNALS)
    samples.serve({POD.key: 0.5})
    time.now_s += 30.0
    assert samples.signals(POD.key) == SIGNALS
    assert samples.served(POD.key) == 0.5
    assert samples.sampled_at_s(POD.key) == 1_700_000_050.0
    time.now_s += 0.1
    assert samples.signals(POD.key) is None
    assert samples.served(POD.key) is None
    assert samples.sampled_at_s(POD.key) is None


def test_answers_whose_own_time_stands_still_grow_stale(samples: Samples, time: Time) -> None:
    for _ in range(4):
        samples.put_signals(POD, SIGNALS)
        time.now_s += 10.0
    assert samples.signals(POD.key) is None
    samples.put_signals(POD, replace(SIGNALS, at_s=1001.0))
    assert samples.signals(POD.key) is not None


def test_a_pods_clock_that_was_set_back_makes_nothing_stale(samples: Samples, time: Time) -> None:
    samples.put_signals(POD, SIGNALS)
    time.now_s += 29.0
    samples.put_signals(POD, replace(SIGNALS, at_s=3.0))
    time.now_s += 29.0
    assert samples.signals(POD.key) is not None


def test_a_pod_whose_triton_is_unreachable_is_unknown(samples: Samples) -> None:
    samples.put_signals(POD, replace(SIGNALS, reachable=False))
    assert samples.signals(POD.key) is None


def test_a_load_that_is_unknown_is_not_served(samples: Samples) -> None:
    samples.put_signals(POD, replace(SIGNALS, load=None))
    samples.serve({POD.key: 0.5})
    assert samples.signals(POD.key) is not None
    assert samples.served(POD.key) is None


def test_a_pod_being_deleted_is_gone_at_once(samples: Samples) -> None:
    samples.put_signals(POD, SIGNALS)
    samples.serve({POD.key: 0.5})
    samples.put_pod(replace(POD, is_leaving=True))
    assert samples.pods("default") == ()
    assert samples.signals(POD.key) is None
    assert samples.served(POD.key) is None


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_is_over_does_not_count(samples: Samples, phase: str) -> None:
    samples.put_pod(replace(POD, phase=phase))
    assert samples.pods("default") == ()
    assert samples.deployments() == {}


def test_an_answer_that_arrives_after_the_pod_left_is_dropped(samples: Samples) -> None:
    samples.put_pod(replace(POD, is_leaving=True))
    samples.put_signals(POD, SIGNALS)
    assert samples.signals(POD.key) is None


def test_another_pod_of_the_same_name_starts_unknown(samples: Samples) -> None:
    samples.put_signals(POD, SIGNALS)
    another = replace(POD, uid="uid-2")
    samples.put_pod(another)
    assert samples.signals(POD.key) is None
    samples.put_signals(POD, SIGNALS)
    assert samples.signals(POD.key) is None, "it is the answer of the one before"
    samples.put_signals(another, SIGNALS)
    assert samples.signals(POD.key) == SIGNALS


def test_a_whole_list_drops_those_it_does_not_name(samples: Samples) -> None:
    samples.put_signals(POD, SIGNALS)
    other = replace(POD, name="b", uid="uid-b")
    samples.replace_pods([other])
    assert samples.pods("default") == (other,)
    assert samples.signals(POD.key) is None


def test_pods_are_sorted_and_kept_by_namespace_and_deployment(samples: Samples) -> None:
    names = [("default", "c"), ("default", "b"), ("other", "a")]
    for namespace, name in names:
        samples.put_pod(replace(POD, namespace=namespace, name=name, uid=name))
    samples.put_pod(replace(POD, name="bare", uid="bare", deployment=None))
    assert [pod.name for pod in samples.pods("default")] == ["a", "b", "bare", "c"]
    assert [pod.name for pod in samples.pods("other")] == ["a"]
    assert samples.pods("nowhere") == ()
    owned = {owner: [pod.name for pod in pods] for owner, pods in samples.deployments().items()}
    assert owned == {("default", "triton"): ["a", "b", "c"], ("other", "triton"): ["a"]}
