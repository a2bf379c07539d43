"""What a pod says of its load, tick by tick."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.demand import advance
from policies.history import History
from policies.policy import Policy
from policies.pressure import Advice, Pressure, pressure
from policies.snapshot import Device, Footprint, FootprintSource, Model, ModelState, Snapshot
from policies.source import parse
from tests.policies.world import GIB, GPU, MONDAY_S, READY, UNLOADED

POLICY = parse("scaling: {window: 30s}")
BY_MODEL = parse("budget: 100%\nscaling: {routing: by-model}")


def model(name: str = "bert", gib: float = 1.0, **facts: object) -> Model:
    size = Footprint({GPU: round(gib * GIB)}, FootprintSource.MEASURED)
    said = {"state": READY, "footprint": size, "load_s": 2.0, "instances": 1, **facts}
    return Model(name, **said)  # type: ignore[arg-type]


def busy(each: Model, rate: float, service_s: float = 0.02, batch: float = 1.0) -> Model:
    """``each`` in a second in which ``rate`` requests come and are served."""
    return replace(
        each,
        arrivals=rate,
        served=rate,
        executions=rate / batch,
        compute_s=rate * service_s * batch,
        busy_s=rate * service_s,
    )


@dataclass
class Pod:
    """Ticks of a second each."""

    policy: Policy = POLICY
    now_s: float = MONDAY_S
    gib: float = 10
    history: History = field(default_factory=History)
    last: Snapshot = field(default_factory=lambda: Snapshot(0.0))

    def see(
        self, *models: Model, times: int = 1, utilisation: float | None = None, metered: bool = True
    ) -> Pressure:
        for _ in range(times):
            self.now_s += 1.0
            device = Device(GPU, round(self.gib * GIB), utilisation=utilisation)
            by_name = {each.name: each for each in models}
            self.last = Snapshot(self.now_s, True, {GPU: device}, by_name, metered=metered)
            self.history = advance(self.policy, self.last, self.history)
        return pressure(self.policy, self.last, self.history)


# --- compute


def test_load_is_arrivals_by_busy_seconds_over_instances() -> None:
    assert Pod().see(busy(model(), 20), times=300).load == pytest.approx(0.4, rel=0.01)
    two = model(instances=2)
    assert Pod().see(busy(two, 20), times=300).load == pytest.approx(0.2, rel=0.01)


@given(rate=st.floats(0.5, 200), factor=st.floats(0.1, 5))
def test_load_is_linear_in_what_is_offered(rate: float, factor: float) -> None:
    one = Pod().see(busy(model(), rate), times=120).load
    other = Pod().see(busy(model(), rate * factor), times=120).load
    assert one is not None
    assert other == pytest.approx(one * factor, rel=0.01)


def test_load_rises_above_one_when_more_comes_than_can_be_served() -> None:
    full = replace(busy(model(), 50), arrivals=100.0)
    assert Pod().see(full, times=300).load == pytest.approx(2.0, rel=0.01)


def test_work_that_moves_to_another_pod_leaves_the_sum_as_it_was() -> None:
    """Right after a scale-up, or the fleet would grow by what is counted twice."""
    old, new = Pod(), Pod()
    new.see(model(), times=60)
    old.see(busy(model(), 40), times=300)
    for _ in range(60):
        parts = (old.see(busy(model(), 20)).compute, new.see(busy(model(), 20)).compute)
        assert sum(each or 0 for each in parts) == pytest.approx(0.8, rel=0.02)


def test_a_model_that_batches_is_as_full_as_its_largest_batches_say() -> None:
    pod = Pod()
    pod.see(busy(model(), 40, service_s=0.02), times=60)
    # Eight at once take hardly longer than one.
    pod.see(busy(model(), 40, service_s=0.004, batch=8), times=60)
    alone = pod.see(busy(model(), 40, service_s=0.02), times=60)
    assert alone.load == pytest.approx(40 * 0.004, rel=0.1)


def test_what_runs_right_after_a_load_teaches_nothing() -> None:
    pod = Pod()
    pod.see(busy(model(), 10), times=60)
    pod.see(model(state=UNLOADED), times=60)
    assert pod.see(busy(model(), 10, service_s=1.0), times=9).compute is not None
    assert pod.history.models["bert"].work.service_s == pytest.approx(0.02)


def test_an_ensemble_is_not_counted_beside_its_steps() -> None:
    pair = busy(model("pair", steps=("bert",)), 20, service_s=5.0)
    found = Pod().see(pair, busy(model(), 20), times=300)
    assert found.by_model == {"bert": pytest.approx(0.4, rel=0.01)}


# --- unknown and idle


def test_nobody_asking_is_idle_and_not_unknown() -> None:
    found = Pod().see(model(), times=60)
    assert (found.load, found.advice) == (0.0, Advice.IDLE)


def test_a_sidecar_that_has_only_just_come_does_not_call_its_pod_idle() -> None:
    assert Pod().see(model(), times=5).load is None


def test_a_triton_that_does_not_answer_is_unknown() -> None:
    pod = Pod()
    pod.see(busy(model(), 20), times=60)
    found = pressure(POLICY, replace(pod.last, reachable=False), pod.history)
    assert found == Pressure()


def test_counts_that_cannot_be_had_are_unknown_once_the_average_is_of_the_past() -> None:
    pod = Pod()
    pod.see(busy(model(), 20), times=60)
    assert pod.see(model(), times=20, metered=False).load is not None
    found = pod.see(model(), times=20, metered=False)
    assert (found.load, found.advice) == (None, Advice.UNKNOWN)


def test_work_of_which_nobody_knows_the_cost_is_unknown() -> None:
    never_served = replace(model(state=UNLOADED), arrivals=1.0)
    assert Pod().see(never_served, times=60).load is None


# --- device


def test_utilisation_counts_against_its_target_and_averaged() -> None:
    pod = Pod()
    assert pod.see(model(), times=300, utilisation=0.45).device == pytest.approx(0.5, rel=0.01)
    assert pod.see(model(), utilisation=1.0).device == pytest.approx(0.52, rel=0.02)


def test_a_gpu_that_tells_nothing_is_unknown_and_is_remembered_for_when_it_does() -> None:
    pod = Pod()
    pod.see(model(), times=300, utilisation=0.45)
    assert pod.see(model()).device is None
    assert pod.see(model(), utilisation=0.45).device == pytest.approx(0.5, rel=0.01)


def test_a_gpu_that_is_shared_with_others_can_be_left_out() -> None:
    pod = Pod(parse("scaling: {device_target: null}"))
    found = pod.see(model(), times=60, utilisation=1.0)
    assert (found.device, found.load) == (None, 0.0)


# --- memory


def many(count: int, rate: float) -> list[Model]:
    return [busy(model(f"m{n}", 1.0), rate, 0.0001) for n in range(count)]


def test_memory_is_what_cannot_be_swapped_over_the_budget() -> None:
    found = Pod(BY_MODEL).see(*many(15, 1.0), times=120)
    assert found.memory == pytest.approx(1.5, rel=0.01)
    assert (found.load, found.advice) == (found.memory, Advice.ADD)


def test_models_that_are_asked_for_seldom_take_turns_here() -> None:
    """2 s of loading may be a tenth of 20 s: one that is asked for every half hour can be away."""
    pod = Pod(BY_MODEL)
    found = Pressure()
    for minute in range(60):
        asked = many(15, 0)
        asked[minute % 15] = busy(asked[minute % 15], 2, 0.0001)
        pod.see(*asked)
        found = pod.see(*many(15, 0), times=59)
    assert found.memory is not None
    assert found.memory < 0.2


def test_where_every_pod_gets_every_model_memory_asks_for_no_pod() -> None:
    found = Pod(parse("budget: 100%")).see(*many(15, 1.0), times=120)
    assert found.memory == pytest.approx(1.5, rel=0.01)
    assert found.load is not None
    assert found.load < 0.01


def test_who_waits_beside_memory_that_suffices_is_swapped_in() -> None:
    away = replace(model("away", state=UNLOADED), waiting=1, arrivals=1.0)
    pod = Pod(BY_MODEL)
    pod.see(busy(model(), 10), model("away"), times=60)
    assert pod.see(busy(model(), 10), away).advice is Advice.SWAP


def test_pinned_models_are_hot_though_nobody_asks() -> None:
    pod = Pod(parse("budget: 100%\nmodels: {bert: {pin: true}}"), gib=4)
    assert pod.see(model(), times=60).memory == pytest.approx(0.25)


# --- queue


def test_a_queue_above_its_slo_raises_the_load_by_a_bounded_factor() -> None:
    def queued(seconds: float) -> Pressure:
        waits = replace(busy(model(), 20), queue_s=20 * seconds)
        return Pod().see(waits, times=300)

    assert queued(0.2).queue_boost == 1
    assert queued(0.375).queue_boost == pytest.approx(1.25, rel=0.01)
    assert queued(60).queue_boost == 1.5
    assert queued(60).load == pytest.approx(0.6, rel=0.01)


@pytest.mark.parametrize(("rate", "load"), [(45, 1.0), (80, 1.6)])
def test_a_queue_says_that_a_pod_is_full_and_no_more(rate: float, load: float) -> None:
    found = Pod().see(replace(busy(model(), rate), queue_s=rate * 60), times=300)
    assert found.load == pytest.approx(load, rel=0.01)


# --- odd input

odd = st.floats() | st.sampled_from([0.0, -1.0, 1e300])


@given(
    numbers=st.tuples(odd, odd, odd, odd, odd, odd),
    instances=st.none() | st.integers(-2, 3),
    utilisation=st.none() | odd,
    state=st.sampled_from(ModelState),
)
def test_odd_input_never_raises_and_a_load_is_a_number_from_zero_or_unknown(
    numbers: tuple[float, ...], instances: int | None, utilisation: float | None, state: ModelState
) -> None:
    names = ("arrivals", "served", "executions", "queue_s", "compute_s", "busy_s")
    facts: dict[str, object] = {"instances": instances, "state": state}
    strange = replace(model(), **facts, **dict(zip(names, numbers, strict=True)))  # type: ignore[arg-type]
    found = Pod(BY_MODEL).see(strange, model("other"), times=40, utilisation=utilisation)
    for each in (found.load, found.compute, found.device, found.memory):
        assert each is None or 0 <= each < float("inf")
