"""What happens when, second by second, in pods small enough to be worked out by hand.

A tick follows each second upon the one before, the first at zero, unless something wakes the loop;
requests come between ticks, since one at the very moment of a tick would miss it.
"""

import pytest

from policies.actions import Load, Plan, Unload
from policies.snapshot import ErrorClass, ModelState, Snapshot
from simulations.pod.run import simulate
from simulations.pod.spec import Death, FailurePlan, LoadFault, PodSpec, Restart, Silence
from simulations.workloads.arrivals import WorkloadError
from tests.simulations.pod.worlds import GIB, exact, policy, profile, workload


def test_a_cold_request_waits_for_its_load_and_the_delays_around_it() -> None:
    pod = PodSpec(
        64 * GIB, look_s=0.01, ask_s=0.005, load_overhead_s=0.02, release_s=0.004, request_s=0.001
    )
    out = simulate(workload([(5.3, "a")], ["a"], 20), {"a": profile()}, policy(4), pod)
    assert out.wait_s.tolist() == pytest.approx([2 + 0.01 + 0.005 + 0.02 + 0.004 + 0.001])
    assert (out.cold_requests, out.cold_starts, out.loads, out.prewarms) == (1, 1, 1, 0)
    assert out.visible_cold_s == pytest.approx(2.035)


def test_a_crowd_shares_one_load_and_is_served_in_order() -> None:
    asks = [(5.5 + 0.1 * n, "a") for n in range(5)]
    out = simulate(workload(asks, ["a"], 20), {"a": profile()}, policy(4), exact())
    assert out.loads == 1
    assert (out.cold_requests, out.cold_starts) == (5, 1)
    # All come in at 7.5 and take 20 ms each, one after the other.
    assert out.wait_s.tolist() == pytest.approx([2 - 0.1 * n + 0.02 * n for n in range(5)])


def test_a_request_for_a_resident_model_waits_for_nobody() -> None:
    out = simulate(
        workload([(5.5, "a"), (10, "a")], ["a"], 20), {"a": profile()}, policy(4), exact()
    )
    assert out.wait_s.tolist() == pytest.approx([2, 0])
    assert out.cold_requests == 1


def test_a_swap_waits_until_the_unload_is_seen() -> None:
    out = simulate(
        workload([(5.5, "a"), (20.3, "b")], ["a", "b"], 40),
        {"a": profile(3, unload_s=0.73), "b": profile(3)},
        policy(4),
        exact(gauge_s=None),
        keep_stays=True,
    )
    # Looked for every 100 ms, the end of the unload is seen after 800 ms.
    assert out.wait_s.tolist() == pytest.approx([2, 0.8 + 2])
    assert out.evictions == 1
    assert [stay.model for stay in out.stays] == ["a", "b"]
    assert [stay.from_s for stay in out.stays] == pytest.approx([5.5, 21.1])
    assert [stay.to_s for stay in out.stays] == pytest.approx([21.1, 40])
    assert out.memory_bytes.max() == 3 * GIB


def test_an_unload_that_was_given_up_frees_its_memory_when_it_ends_after_all() -> None:
    out = simulate(
        workload([(5.5, "a"), (10.3, "b")], ["a", "b"], 60),
        {"a": profile(3, service_s=15.0), "b": profile(3)},
        policy(4, unloads={"stuck": "3s"}, front_door={"patience": "1s"}),
        exact(gauge_s=None),
        keep_stays=True,
    )
    # What "a" has accepted ends at 22.5, and its unload half a second later.
    assert [(stay.model, stay.to_s) for stay in out.stays] == [("a", 23.0), ("b", 60.0)]
    assert out.memory_bytes.max() == 3 * GIB
    assert out.failed == 0


def test_old_gauges_delay_a_swap_on_a_full_device() -> None:
    asks, names = [(5.5, "a"), (20.3, "b")], ["a", "b"]
    models = {"a": profile(3), "b": profile(3)}
    waits = [
        simulate(workload(asks, names, 60), models, policy(4), exact(4, gauge_s=gauge_s)).wait_s[1]
        for gauge_s in (0.0, 7.0)
    ]
    # The leaver is gone at 20.8, and shown until 21.0; the tick after that is at 21.8.
    assert waits == pytest.approx([2.5, 3.5])


def test_two_loads_at_once_are_slowed_by_sharing_a_disk() -> None:
    asks, models = [(5.5, "a"), (5.5, "b")], {"a": profile(), "b": profile(load_s=3)}
    alone = simulate(workload(asks, ["a", "b"], 30), models, policy(9), exact())
    shared = simulate(
        workload(asks, ["a", "b"], 30), models, policy(9), exact(load_interference=1.0)
    )
    # Two seconds of the first take four; by then the second has one left, and is alone.
    assert alone.wait_s.tolist() == pytest.approx([2, 3], abs=0.06)
    assert shared.wait_s.tolist() == pytest.approx([4, 5], abs=0.06)
    assert shared.load_s == pytest.approx(9, abs=0.11)


def test_loads_beyond_tritons_channels_wait_inside_it() -> None:
    asks = [(5.5, "a"), (5.5, "b"), (5.5, "c")]
    models = {name: profile() for name in "abc"}
    many = policy(9, loads={"concurrent": 3, "peak_factor": 1.0})
    out = simulate(workload(asks, ["a", "b", "c"], 30), models, many, exact(channels=2))
    assert sorted(out.wait_s.tolist()) == pytest.approx([2, 2.05, 4], abs=0.06)
    assert out.load_s == pytest.approx(6)


def test_requests_that_nobody_can_serve_are_turned_away_at_the_next_look() -> None:
    asks = [(5.5, "a"), (9.5, "a")]
    out = simulate(workload(asks, ["a"], 20), {"a": profile(9)}, policy(4), exact())
    assert out.failed == 2
    assert out.notes["failed: turned away, larger_than_budget"] == 2
    assert out.loads == 0
    assert out.visible_cold_s == 0


def test_a_request_is_held_no_longer_than_the_policy_allows() -> None:
    bounded = policy(4, front_door={"wait": "3s"})
    out = simulate(
        workload([(5.5, "a"), (9.5, "a")], ["a"], 20), {"a": profile(load_s=5)}, bounded, exact()
    )
    assert out.notes["failed: timed out"] == 1
    assert out.wait_s.tolist() == pytest.approx([1])
    assert out.visible_cold_s == pytest.approx(3 + 1)


def test_clients_with_deadlines_give_up_at_the_door_and_in_the_queue() -> None:
    asks = [(5.5, "a"), (20.0, "a"), (20.1, "a")]
    out = simulate(
        workload(asks, ["a"], 40),
        {"a": profile(load_s=4, service_s=2.0)},
        policy(4),
        exact(client_deadline_s=3.0),
    )
    assert out.notes == {
        "failed: client gone": 1,
        "failed: timed out": 1,
        "load: demanded": 1,
    }
    assert out.wait_s.tolist() == pytest.approx([0])


def test_no_more_wait_than_the_door_has_room_for() -> None:
    bounded = policy(4, front_door={"waiters_per_model": 2})
    asks = [(5.5 + 0.1 * n, "a") for n in range(5)]
    out = simulate(workload(asks, ["a"], 20), {"a": profile()}, bounded, exact())
    assert out.notes["failed: queue full"] == 3
    assert len(out.wait_s) == 2


def test_a_failed_load_is_tried_again_when_the_policy_says() -> None:
    backoff = {"initialisation": {"first": "4s"}}
    bad = policy(
        4,
        loads={"peak_factor": 1.0, "backoff": backoff},
        front_door={"retry_wait": "10s"},
    )
    fault = FailurePlan(loads=(LoadFault("a", to_s=6.0, after=0.5),))
    out = simulate(workload([(5.5, "a")], ["a"], 40), {"a": profile()}, bad, exact(failures=fault))
    assert out.notes["load failed: initialisation"] == 1
    # Fails at 6, is due at 10, and the first tick from then on loads it.
    assert out.wait_s.tolist() == pytest.approx([7], abs=1.0)
    assert out.loads == 2
    assert out.load_s == pytest.approx(1 + 2)


def test_a_load_that_memory_does_not_allow_fails_as_such() -> None:
    huge = {"a": profile(3, peak=2.0)}
    out = simulate(workload([(5.5, "a")], ["a"], 90), huge, policy(4), exact(5))
    assert out.notes[f"load failed: {ErrorClass.MEMORY.value}"] >= 1
    assert out.failed == 1


def test_a_restart_of_triton_fails_those_inside_and_restores_the_models() -> None:
    plan = FailurePlan(restarts=(Restart(20.0, down_s=3.0),))
    out = simulate(
        workload([(5.5, "a"), (19.9, "a"), (21, "a")], ["a"], 60),
        {"a": profile(service_s=0.5)},
        policy(4),
        exact(failures=plan),
        keep_stays=True,
    )
    assert out.notes["failed: Triton ended"] == 1
    assert out.loads == 2
    # Triton is back at 23; the look at that second, or the next, finds it and loads.
    assert out.wait_s.tolist()[1] == pytest.approx(23 + 2 - 21, abs=1.01)
    assert [stay.to_s for stay in out.stays] == pytest.approx([20, 60])


def test_a_restart_restores_what_nobody_asks_for() -> None:
    plan = FailurePlan(restarts=(Restart(20.0),))
    out = simulate(
        workload([(5.5, "a")], ["a"], 60), {"a": profile()}, policy(4), exact(failures=plan)
    )
    assert out.notes["load: restored"] == 1
    assert (out.prewarms, out.used_prewarms) == (1, 0)


def test_a_load_under_way_is_lost_with_triton_and_tried_again() -> None:
    plan = FailurePlan(restarts=(Restart(6.0, down_s=1.0),))
    out = simulate(
        workload([(5.5, "a")], ["a"], 60), {"a": profile()}, policy(4), exact(failures=plan)
    )
    assert out.notes["load failed: unavailable"] == 1
    assert out.failed == 0
    assert out.wait_s.tolist() == pytest.approx([4], abs=1.01)


def test_a_model_whose_process_died_is_probed_unloaded_and_loaded_over() -> None:
    asks = [(5.5, "a"), *((20 + n, "a") for n in range(40))]
    plan = FailurePlan(deaths=(Death(19.5, "a"),))
    out = simulate(
        workload(asks, ["a"], 90),
        {"a": profile()},
        policy(4, front_door={"wait": "60s"}),
        exact(failures=plan),
    )
    assert out.notes["unload: sick"] == 1
    # The first failure is seen by a look at 21 at the latest, and a probe takes a second.
    assert 1 <= out.notes["failed: dead process"] <= 4
    assert out.loads == 2
    assert len(out.wait_s) + out.failed == len(asks)


def test_while_triton_is_silent_hot_requests_go_on_and_nothing_is_decided() -> None:
    plan = FailurePlan(silences=(Silence(10.0, 20.0),))
    out = simulate(
        workload([(5.5, "a"), (12, "a"), (12.5, "b")], ["a", "b"], 60),
        {"a": profile(), "b": profile()},
        policy(4),
        exact(failures=plan),
    )
    assert out.wait_s.tolist()[:2] == pytest.approx([2, 0])
    assert out.wait_s.tolist()[2] == pytest.approx(20 + 2 - 12.5, abs=1.01)


class _Decisions:
    """What a run's plans decided and saw, by time since the start."""

    def __init__(self, pod: PodSpec) -> None:
        self.epoch_s = pod.epoch_s
        self.actions: list[tuple[float, Load | Unload]] = []
        self.draining: list[float] = []

    def __call__(self, snapshot: Snapshot, decision: Plan) -> None:
        at_s = snapshot.now_s - self.epoch_s
        self.actions += [(at_s, action) for action in decision.actions]
        if any(model.draining for model in snapshot.models.values()):
            self.draining.append(at_s)


def test_a_model_that_drains_finishes_its_requests_and_holds_new_ones() -> None:
    pod = exact(through_envoy=False, gauge_s=None)
    seen = _Decisions(pod)
    out = simulate(
        workload([(5.5, "a"), (20, "a"), (20.5, "b"), (22.2, "a")], ["a", "b"], 80),
        {"a": profile(3, service_s=3.0), "b": profile(3, load_s=1)},
        policy(4, front_door={"patience": "1ms"}, ranking="lru"),
        pod,
        on_tick=seen,
    )
    assert out.failed == 0
    assert seen.draining
    assert max(seen.draining) <= 23
    # Its own request ends at 23; half a second later it is gone, and the other loads.
    assert out.wait_s.tolist()[2] == pytest.approx(23 + 0.5 + 1 - 20.5, abs=0.1)
    assert out.wait_s.tolist()[1] == 0


def test_a_drain_is_called_off_when_nothing_needs_its_room_any_more() -> None:
    pod = exact(through_envoy=False, gauge_s=None)
    out = simulate(
        workload([(5.5, "a"), (20, "a"), (20.5, "b"), (25, "a")], ["a", "b"], 80),
        {"a": profile(3, service_s=8.0), "b": profile(3, load_s=1)},
        policy(
            4,
            ranking="lru",
            demand={"want": "1s"},
            front_door={"wait": "2s", "patience": "1ms"},
        ),
        pod,
    )
    assert out.notes["drain called off"] == 1
    assert out.notes["failed: timed out"] >= 1
    assert out.evictions == 0
    assert out.loads == 1


def test_an_observing_sidecar_loads_nothing_and_holds_nobody() -> None:
    out = simulate(
        workload([(5.5, "a")], ["a"], 20), {"a": profile()}, policy(4, mode="observe"), exact()
    )
    assert (out.loads, out.failed) == (0, 1)
    assert out.notes["failed: not loaded"] == 1


def test_a_pinned_model_is_there_before_anybody_asks() -> None:
    pinned = policy(4, models={"a": {"pin": True}})
    out = simulate(workload([(10, "a")], ["a"], 20), {"a": profile()}, pinned, exact())
    assert (out.prewarms, out.used_prewarms, out.cold_requests) == (1, 1, 0)
    assert out.wait_s.tolist() == [0]


def test_a_pod_may_begin_with_residents_that_took_no_load() -> None:
    out = simulate(
        workload([(0.5, "a"), (3.5, "b")], ["a", "b"], 20),
        {"a": profile(3), "b": profile(3)},
        policy(4),
        exact(resident=("a",)),
        keep_stays=True,
    )
    assert (out.loads, out.prewarms, out.evictions, out.cold_requests) == (1, 0, 1, 1)
    assert out.wait_s.tolist()[0] == 0
    assert [stay.from_s for stay in out.stays] == [0, pytest.approx(4.0)]


def test_residents_beyond_the_budget_are_no_pod() -> None:
    pod = exact(resident=("a",))
    with pytest.raises(AssertionError, match="bytes reserved"):
        simulate(workload([], ["a"], 20), {"a": profile(9)}, policy(4), pod)


def test_memory_that_leaks_after_unloads_is_measured_and_no_longer_promised() -> None:
    asks = [(5 + 15 * n, "ab"[n % 2]) for n in range(12)]
    names, models = ["a", "b"], {"a": profile(3), "b": profile(3)}
    seen: list[int] = []

    def look(snapshot: Snapshot, decision: Plan) -> None:
        used_bytes = snapshot.devices["GPU-0"].used_bytes
        here = [m for m in snapshot.models.values() if m.state is not ModelState.UNLOADED]
        if used_bytes is not None and not here:
            seen.append(used_bytes)

    pod = exact(5, leak=0.2)
    out = simulate(workload(asks, names, 200), models, policy(5), pod, on_tick=look)
    assert max(seen) >= 1.2 * GIB
    assert out.failed > 0


def test_the_wait_of_a_batch_is_what_it_adds_to_an_execution_alone() -> None:
    asks = [(5.5, "a"), *((20 + 0.01 * n, "a") for n in range(3))]
    model = profile(service_s=0.1, max_batch=8, batch_share=0.5)
    out = simulate(workload(asks, ["a"], 40), {"a": model}, policy(4), exact())
    # One goes alone until 20.1; the two that came meanwhile go together, in 0.15 s.
    assert out.wait_s.tolist()[1:] == pytest.approx([0, 0.14, 0.13])


def test_a_model_that_the_catalogue_lacks_is_an_error() -> None:
    with pytest.raises(WorkloadError, match="'b'"):
        simulate(workload([], ["a", "b"], 1), {"a": profile()}, policy(4), exact())
