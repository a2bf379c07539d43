"""Unloads of one model that take differently long."""

from simulations.pod.run import simulate
from tests.simulations.pod.worlds import exact, policy, profile, workload


def _gone_s(sigma: float, seed: int) -> list[float]:
    """How long each swap of two models that never fit together waits for the other's unload.

    The first is left out: it falls into the rest after a tick, which no later one does.
    """
    asks = [(5.5 + 30 * n, "ab"[n % 2]) for n in range(8)]
    models = {name: profile(3, load_s=2) for name in "ab"}
    pod = exact(gauge_s=None, unload_jitter=sigma)
    played = simulate(workload(asks, ["a", "b"], 260), models, policy(4), pod, seed=seed)
    return [round(wait_s - 2, 6) for wait_s in played.wait_s[2:].tolist()]


def test_without_jitter_every_unload_takes_the_same() -> None:
    assert set(_gone_s(0.0, seed=1)) == {0.5}


def test_with_jitter_unloads_differ_by_the_seed_alone() -> None:
    assert len(set(_gone_s(0.5, seed=1))) > 2
    assert _gone_s(0.5, seed=1) == _gone_s(0.5, seed=1)
    assert _gone_s(0.5, seed=1) != _gone_s(0.5, seed=2)


def test_an_unload_shorter_than_usual_is_seen_at_once() -> None:
    # By default half a second; polls that are left out would see it no sooner than that.
    assert min(_gone_s(0.5, seed=1)) < 0.45
