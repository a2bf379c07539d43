"""What the product promises, seen on a real Triton with the real sidecar beside it."""

import asyncio
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc.aio import InferenceServerClient

from policies.actions import Reason
from policies.replay import Replay
from policies.snapshot import ModelState
from simulations.testbed.installation import Installation, find
from simulations.testbed.repository import ModelSpec, demo_models, write_repository
from simulations.testbed.traffic import Driver, Outcome, mixed, shifting_hot_set
from simulations.testbed.tritonserver import free_ports
from tests.daemon.pod import QUICK, Pod, eventually, pod

MIB = 2**20

NewPod = Callable[..., AbstractContextManager[Pod]]


def model(name: str, memory_mb: int = 40, load_s: float = 0.3) -> ModelSpec:
    return ModelSpec(name, memory_mb, load_s=load_s, compute_ms=2, hint=True)


@pytest.fixture(scope="module")
def installation() -> Installation:
    return find()


@pytest.fixture
def new_pod(installation: Installation, tmp_path: Path) -> NewPod:
    return partial(pod, installation, tmp_path)


@pytest.fixture
def two_of_three(new_pod: NewPod) -> Iterator[Pod]:
    """Three models of 40 MiB, and room for two of them."""
    with new_pod([model("a"), model("b"), model("c")], QUICK.format(budget=95)) as running:
        yield running


class Watcher(threading.Thread):
    """Looks at Triton's own index as fast as it can, beside and apart from the sidecar."""

    def __init__(self, watched: Pod, sizes: dict[str, int]) -> None:
        super().__init__(daemon=True)
        self._pod, self._sizes = watched, sizes
        self._over = threading.Event()
        self.most_bytes = 0
        self.seen: set[str] = set()

    def run(self) -> None:
        while not self._over.wait(0.02):
            states = self._pod.states()
            held = [n for n, s in states.items() if s in ("READY", "LOADING", "UNLOADING")]
            self.seen.update(n for n in held if states[n] == "READY")
            self.most_bytes = max(self.most_bytes, sum(self._sizes[n] for n in held))

    def stop(self) -> None:
        self._over.set()
        self.join()


async def _drive(running: Pod, specs: Sequence[ModelSpec], seconds: float) -> list[Outcome]:
    """Sends shifting traffic to the front door."""
    driver = Driver(specs, http_url=running.door_http, grpc_url=running.door_grpc)
    arrivals = shifting_hot_set(
        sorted(spec.name for spec in specs),
        duration_s=seconds,
        rate_per_s=15,
        hot_count=3,
        shift_every_s=5,
        seed=7,
    )
    return await driver.run(mixed(arrivals, specs, seed=7))


def test_the_budget_holds_while_three_times_as_much_is_demanded(new_pod: NewPod) -> None:
    specs = demo_models()
    sizes = {spec.name: spec.total_mb * MIB for spec in specs}
    assert sum(sizes.values()) >= 3 * 800 * MIB
    with new_pod(specs, QUICK.format(budget=800)) as running:
        watcher = Watcher(running, sizes)
        watcher.start()
        outcomes = asyncio.run(_drive(running, specs, 20))
        watcher.stop()
        ticks = running.ticks()
    assert len(outcomes) > 100
    assert [outcome for outcome in outcomes if not outcome.served] == []
    assert len(watcher.seen) >= 8, "the pattern should have moved through most models"
    assert 400 * MIB < watcher.most_bytes <= 800 * MIB
    assert next(iter(replay := Replay(ticks)), None) is None
    assert replay.count == len(ticks) > 50


def test_killed_triton_is_noticed_and_its_models_come_back(two_of_three: Pod) -> None:
    running = two_of_three
    running.demand("a", "b")
    eventually(lambda: running.ready() == {"a", "b"}, 10)
    eventually(lambda: {"a", "b"} <= resident(running), 5)
    running.triton.kill()
    killed_at_s = time.time()
    eventually(lambda: running.get("/v1/state")["reachable"] is False, 5)
    running.triton.restart()
    eventually(lambda: running.ready() == {"a", "b"}, 20)
    after = [tick for tick in running.ticks() if tick.snapshot.now_s > killed_at_s]
    assert not all(tick.snapshot.reachable for tick in after[:3]), "noticed within three ticks"
    loads = [action for tick in after for action in tick.actions]
    assert {action.model: action.reason for action in loads} == {
        "a": Reason.RESTORED,
        "b": Reason.RESTORED,
    }


def test_model_that_always_fails_is_tried_ever_more_rarely(new_pod: NewPod) -> None:
    broken = ModelSpec("broken", 20, load_s=0.1, compute_ms=1, hint=True, fails="initialize")
    policy = QUICK.format(budget=100) + (
        "loads: {backoff: {initialisation: {first: 1s, factor: 2, max: 1h}}}\n"
    )
    with new_pod([broken, model("good")], policy) as running:
        running.demand("broken", "good")
        end_s = time.monotonic() + 9
        while time.monotonic() < end_s:
            running.post({"model": "broken", "waiting": 1})
            running.demand("good")
            time.sleep(0.3)
        assert "good" in running.ready()
        assert running.infer("good") == ""
        said, ticks = running.get("/v1/explain/broken"), running.ticks()
    tries = [
        tick.snapshot.now_s for tick in ticks for action in tick.actions if action.model == "broken"
    ]
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert len(gaps) >= 2
    # A busy machine stretches gaps, but shortens none.
    assert all(gap >= 2.0**at for at, gap in enumerate(gaps))
    waits = [
        round(hold.retry_at_s - failure.at_s, 3)
        for tick in ticks
        for hold in tick.holds
        if hold.subject == "broken" and hold.retry_at_s is not None
        if (failure := tick.snapshot.models["broken"].failure) is not None
    ]
    assert list(dict.fromkeys(waits))[:2] == [1.0, 2.0]
    assert said["reason"] == "backing_off"
    assert "told to fail" in said["summary"]


def test_model_whose_files_are_mended_is_tried_at_once(new_pod: NewPod) -> None:
    broken = ModelSpec("a", 20, load_s=0.1, compute_ms=1, hint=True, fails="initialize")
    policy = QUICK.format(budget=100) + "loads: {backoff: {initialisation: {first: 1h}}}\n"
    with new_pod([broken], policy) as running:
        running.demand("a")
        eventually(lambda: running.get("/v1/explain/a")["reason"] == "backing_off", 10)
        write_repository(running.directory / "repository", [replace(broken, fails="")])
        eventually(lambda: running.post({"model": "a"}) == 202 and "a" in running.ready(), 15)
        assert running.infer("a") == ""


def test_stub_killed_under_a_ready_model_heals(two_of_three: Pod) -> None:
    running = two_of_three
    running.demand("a", "b")
    eventually(lambda: running.ready() == {"a", "b"}, 10)
    eventually(lambda: {"a", "b"} <= resident(running), 5)
    for pid in running.triton.stub_pids()["a"]:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    assert "not healthy" in running.infer("a")
    eventually(lambda: running.infer("a") == "", 30)
    assert running.times_loaded("b") == 1, "the other model is left alone"
    reasons = [action.reason for tick in running.ticks() for action in tick.actions]
    assert reasons.count(Reason.SICK) == 1


def test_ensemble_loads_and_leaves_as_one(new_pod: NewPod) -> None:
    ensemble = ModelSpec("pair", 0, load_s=0, compute_ms=0, steps=("a", "b"))
    specs = [model("a"), model("b"), model("big", 80), ensemble]
    with new_pod(specs, QUICK.format(budget=100)) as running:
        running.demand("pair")
        eventually(lambda: running.ready() == {"a", "b", "pair"}, 10)
        assert running.infer("pair") == ""
        waits = {"model": "big", "waiting": 50, "oldest_wait_s": 30}
        # A wait stands for three seconds, and a busy machine may take longer.
        eventually(lambda: running.post(waits) == 202 and running.ready() == {"big"}, 15)
        assert (running.times_loaded("a"), running.times_loaded("b")) == (1, 1)


def test_load_that_outlives_its_deadline_is_not_started_twice(new_pod: NewPod) -> None:
    policy = QUICK.format(budget=100) + "loads: {timeout: 300ms}\n"
    with new_pod([model("slow", load_s=2.5)], policy) as running:
        for _ in range(20):
            running.post({"model": "slow", "waiting": 1})
            time.sleep(0.2)
        eventually(lambda: running.ready() == {"slow"}, 10)
        assert running.times_loaded("slow") == 1
        assert "still loading after 0.3 s" in running.log


def test_what_happens_behind_our_back_is_reconciled(new_pod: NewPod) -> None:
    policy = QUICK.format(budget=95) + "models: {a: {pin: true}}\n"
    with new_pod([model("a"), model("b"), model("c")], policy) as running:
        eventually(lambda: running.ready() == {"a"}, 10)
        asyncio.run(_behind_our_back(running, "unload", "a"))
        eventually(lambda: running.times_loaded("a") == 2 and running.ready() == {"a"}, 10)
        for name in ("b", "c"):
            asyncio.run(_behind_our_back(running, "load", name))
        # Three are 120 MiB and the budget is 95: one of the strangers leaves again.
        eventually(lambda: "a" in (ready := running.ready()) and len(ready) == 2, 10)
        unloads = [a for tick in running.ticks() for a in tick.actions]
        assert Reason.OVER_BUDGET in {action.reason for action in unloads}


def test_observe_mode_decides_and_touches_nothing(new_pod: NewPod) -> None:
    with new_pod([model("a")], QUICK.format(budget=95) + "mode: observe\n") as running:
        running.demand("a")
        eventually(lambda: "would load a" in running.log, 5)
        time.sleep(1)
        assert running.times_loaded("a") == 0
        assert sum(bool(tick.actions) for tick in running.ticks()) > 3
        counted = 'remora_actions_total{action="load",reason="demanded"} 1.0'
        assert counted in running.get("/metrics").splitlines()
        assert running.log.count("would load a") == 1


def test_policy_is_reloaded_and_a_wrong_one_is_refused(two_of_three: Pod) -> None:
    running = two_of_three
    good = running.policy.read_text()
    running.policy.write_text(good.replace("budget: 95MiB", "budget: 60MiB"))
    eventually(lambda: device(running)["budget"] == 60 * MIB, 5)
    running.policy.write_text("budget: 0%\n")
    eventually(lambda: "policy" in running.get("/v1/state")["problems"], 5)
    assert "policy.yaml:1: budget: '0%'; allowed: a percentage above 0%" in running.log
    assert device(running)["budget"] == 60 * MIB
    running.policy.write_text(good)
    assert running.sidecar is not None
    running.sidecar.send_signal(signal.SIGHUP)
    eventually(lambda: device(running)["budget"] == 95 * MIB, 5)
    assert "policy" not in running.get("/v1/state")["problems"]


def load_s(running: Pod, name: str) -> float | None:
    found: float | None = running.get("/v1/state")["models"][name]["load_s"]
    return found


def test_sigterm_leaves_triton_as_it_is_and_a_restart_goes_on(two_of_three: Pod) -> None:
    running = two_of_three
    running.demand("a", "b")
    eventually(lambda: running.ready() == {"a", "b"}, 10)
    eventually(lambda: load_s(running, "a") is not None, 10)
    learned = load_s(running, "a")
    assert learned == pytest.approx(0.3, abs=0.5)
    assert running.stop_sidecar() == 0
    assert running.ready() == {"a", "b"}
    running.start_sidecar()
    eventually(lambda: resident(running) == {"a", "b"}, 5)
    time.sleep(1)
    assert running.times_loaded("a") == running.times_loaded("b") == 1
    assert load_s(running, "a") == learned


def test_killed_sidecar_starts_again_in_the_middle_of_a_load(new_pod: NewPod) -> None:
    with new_pod([model("slow", load_s=2.5), model("b")], QUICK.format(budget=95)) as running:
        running.demand("b", "slow")
        eventually(lambda: running.states()["slow"] == "LOADING", 5)
        running.stop_sidecar(signal.SIGKILL)
        running.start_sidecar()
        for _ in range(10):
            running.post({"model": "slow", "waiting": 1})
            time.sleep(0.2)
        eventually(lambda: running.ready() == {"b", "slow"}, 10)
        assert running.times_loaded("slow") == running.times_loaded("b") == 1
        replay = Replay(running.ticks())
        assert next(iter(replay), None) is None


def test_sidecar_waits_for_a_triton_that_comes_later(new_pod: NewPod) -> None:
    policy = QUICK.format(budget=95) + "models: {a: {pin: true}}\n"
    with new_pod([model("a")], policy) as running:
        running.stop_sidecar()
        running.triton.kill()
        running.launch_sidecar()
        eventually(lambda: running.get("/healthz") == "ok\n", 10)
        assert running.get("/readyz") is None
        assert running.get("/v1/state")["holds"][0]["reason"] == "triton_unreachable"
        running.triton.restart()
        eventually(lambda: running.ready() == {"a"}, 15)


def test_sidecar_goes_on_where_it_can_keep_and_measure_nothing(new_pod: NewPod) -> None:
    with new_pod([model("a")], QUICK.format(budget=95)) as running:
        running.stop_sidecar()
        shutil.rmtree(running.directory / "state")
        (running.directory / "state").write_text("a file where a folder should be")
        running.metrics_port = free_ports(1)[0]
        running.start_sidecar()
        running.demand("a")
        eventually(lambda: running.ready() == {"a"}, 10)
        troubles = {"journal", "learned", "metrics"}
        eventually(lambda: set(running.get("/v1/state")["problems"]) == troubles, 20)


def test_model_without_a_hint_is_measured_and_that_is_kept(new_pod: NewPod) -> None:
    unknown = ModelSpec("unknown", 150, load_s=0.3, compute_ms=1)
    policy = QUICK.format(budget=400) + "footprints: {file_factor: 2}\n"
    with new_pod([unknown], policy) as running:
        time.sleep(1)
        # An empty stub holds about 17 MiB.
        likely = range(150 * MIB, 3 * 167 * MIB // 2)
        measured = next((size for size in measurements(running, "unknown", 5) if size in likely), 0)
        assert measured, "not once in five loads"
        running.stop_sidecar()
        running.start_sidecar()
        assert seen(running, "unknown")["footprint_bytes"] == measured


def measurements(running: Pod, name: str, loads: int) -> Iterator[int | None]:
    """Loads a model again and again; what it measured, or None where it could not.

    What others on this machine take or give back during a load can hide the model in it.
    """
    for _ in range(loads):
        running.demand(name)
        eventually(lambda: name in resident(running), 15)
        time.sleep(1)
        found = seen(running, name)
        yield found["footprint_bytes"] if found["footprint_source"] == "measured" else None
        running.unload_by_hand(name)
        eventually(lambda: name not in running.ready() | resident(running), 15)


def test_port_answers_what_its_description_says(two_of_three: Pod) -> None:
    running = two_of_three
    paths = running.get("/openapi.json")["paths"]
    for path in paths:
        if "get" in paths[path]:
            assert running.get(path.replace("{model}", "a")) is not None, path
    assert running.post({"model": "nobody"}) == 404
    assert running.post({"model": "a", "count": -1}) == 400
    assert running.post({"model": "a", "colour": 1}) == 400
    assert running.post([]) == 400
    assert running.post(b"[" * 60_000) == 400
    assert running.post(b" " * 70_000) == 413
    assert running.post({"model": "a"}, **{"Content-Type": "text/plain"}) == 415
    assert running.get("/v1/explain/nobody") is None
    names = set(re.findall(r"^(remora_\w+)", running.get("/metrics"), re.MULTILINE))
    assert {"remora_model_resident", "remora_device_reserved_bytes", "remora_models"} <= names


def resident(running: Pod) -> set[str]:
    """Models the sidecar itself has seen READY."""
    models = running.get("/v1/state")["models"]
    return {name for name, seen in models.items() if seen["state"] == ModelState.READY}


def seen(running: Pod, name: str) -> dict[str, Any]:
    found: dict[str, Any] = running.get("/v1/state")["models"][name]
    return found


def device(running: Pod) -> dict[str, int]:
    devices: dict[str, dict[str, int]] = running.get("/v1/state")["devices"]
    return devices["host"]


async def _behind_our_back(running: Pod, what: str, name: str) -> None:
    async with InferenceServerClient(running.triton.grpc_url) as client:
        await (client.load_model if what == "load" else client.unload_model)(name)
