"""What a snapshot makes of GPUs, restarts and silence. No GPU is here, so Triton's answers
and its metrics page are played; the sidecar's own tests use the real ones."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from daemon.clock import Clock
from daemon.demand import Demand
from daemon.frontdoor.gate import Gate
from daemon.learned import LearnedStore
from daemon.measuring import Measuring
from daemon.metrics import Exposition, ScrapeError, parse
from daemon.observer import Observer
from daemon.triton import Served, Unreachable
from policies.snapshot import HOST, ModelState
from policies.source import parse as policy_of

POLICY = policy_of("footprints: {assume: 1GiB}")
READY, UNLOADED = ModelState.READY, ModelState.UNLOADED


def page(*gpus: str, used: int = 2**30, **failures: int) -> str:
    """A metrics page of Triton with GPUs, in the order of their numbers."""
    rows = [
        f'nv_gpu_{name}{{gpu_uuid="{gpu}"}} {value}'
        for gpu in gpus
        for name, value in (("memory_total_bytes", 2**34), ("memory_used_bytes", used))
    ]
    rows += [
        f'nv_inference_request_failure{{model="{model}",reason="BACKEND",version="1"}} {count}'
        for model, count in failures.items()
    ]
    return "\n".join(rows)


@dataclass
class Played:
    """Stands for Triton, its metrics page and the actuator."""

    served: dict[str, Served] | None = field(default_factory=dict)
    text: str | None = ""
    dead: frozenset[str] = frozenset()
    ours: dict[str, ModelState] = field(default_factory=dict)
    ends_meanwhile: bool = False
    configs: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    probes: list[str] = field(default_factory=list)

    async def observe(self, timeout_s: float) -> dict[str, Served]:
        if self.served is None:
            raise Unreachable("nobody there")
        if self.ends_meanwhile:
            self.ours.clear()
        return self.served

    async def scrape(self) -> Exposition:
        if self.text is None:
            raise ScrapeError("nobody there")
        return parse(self.text)

    async def config(self, name: str, timeout_s: float) -> ModelConfig:
        self.asked.append(name)
        return text_format.Parse(self.configs.get(name, ""), ModelConfig())

    async def probe(self, name: str, timeout_s: float) -> bool:
        self.probes.append(name)
        return name in self.dead

    def states(self) -> dict[str, ModelState]:
        return dict(self.ours)

    def draining(self) -> frozenset[str]:
        return frozenset()

    def updating(self) -> frozenset[str]:
        return frozenset()

    def former(self) -> frozenset[str]:
        return frozenset()

    def is_overdue(self, name: str) -> bool:
        return False

    def serve(self, **states: ModelState | None) -> None:
        """Models by state; None for one that Triton has no memory of."""
        self.served = {
            name: Served(name, state or UNLOADED, known=state is not None)
            for name, state in states.items()
        }


@pytest.fixture
def played() -> Played:
    return Played()


@pytest.fixture
def observer(played: Played) -> Observer:
    return Observer(
        triton=played,  # type: ignore[arg-type]
        scraper=played,  # type: ignore[arg-type]
        repository=None,
        learned=LearnedStore(None),
        demand=Demand(),
        gate=Gate(Clock().now_s),
        clock=Clock(),
        measuring=Measuring(2.0),
        timeout_s=1.0,
    )


async def look(observer: Observer, played: Played):  # type: ignore[no-untyped-def]
    return await observer.observe(POLICY, played)  # type: ignore[arg-type]


async def test_models_live_on_gpus_where_there_are_any_and_the_host_stands_beside(
    observer: Observer, played: Played
) -> None:
    played.text = page("GPU-b", "GPU-a") + "\nnv_cpu_memory_total_bytes 99"
    played.serve(a=READY)
    seen = await look(observer, played)
    assert list(seen.devices) == ["GPU-b", "GPU-a", HOST], "in the order of their numbers"
    assert seen.devices["GPU-a"].used_bytes == 2**30
    # Nothing is known of its instances: one on every visible GPU, as Triton itself has it.
    assert seen.models["a"].footprint.by_device == {"GPU-b": 2**30, "GPU-a": 2**30}


async def test_a_gpu_that_misses_a_reading_is_unknown_and_not_gone(
    observer: Observer, played: Played
) -> None:
    played.text = page("GPU-a", "GPU-b")
    await look(observer, played)
    played.text = page("GPU-b", used=0)
    seen = await look(observer, played)
    assert seen.devices["GPU-a"].total_bytes == 2**34
    assert seen.devices["GPU-a"].used_bytes is None
    assert seen.devices["GPU-b"].used_bytes is None, "a failed reading shows as 0"


async def test_without_a_metrics_page_it_goes_on_and_says_so(
    observer: Observer, played: Played
) -> None:
    played.text = None
    played.serve(a=READY)
    seen = await look(observer, played)
    assert seen.reachable
    assert seen.devices[HOST].used_bytes is None
    assert observer.problems == {"metrics": "nobody there"}
    played.text = ""
    await look(observer, played)
    assert observer.problems == {}


async def test_a_repository_out_of_sight_is_told_of_by_triton(
    observer: Observer, played: Played
) -> None:
    played.serve(pair=READY, hinted=READY, away=UNLOADED)
    played.configs = {
        "pair": 'ensemble_scheduling { step { model_name: "a" } step { model_name: "b" } }',
        "hinted": 'parameters { key: "memory_mb" value { string_value: "7" } }',
    }
    seen = await look(observer, played)
    assert seen.models["pair"].steps == ("a", "b")
    assert seen.models["hinted"].footprint.by_device == {HOST: 7 * 2**20}
    await look(observer, played)
    assert sorted(played.asked) == ["hinted", "pair"], "each is asked for once"


async def test_a_silent_triton_leaves_the_last_known_models_marked_unreachable(
    observer: Observer, played: Played
) -> None:
    played.serve(a=READY)
    before = await look(observer, played)
    played.served = None
    seen = await look(observer, played)
    assert not seen.reachable
    assert seen.models == before.models
    assert "triton" in observer.problems


async def test_a_restart_is_told_from_somebody_elses_unload(
    observer: Observer, played: Played
) -> None:
    played.serve(a=READY, b=READY, c=None)
    await look(observer, played)
    played.serve(a=None, b=UNLOADED, c=None)
    seen = await look(observer, played)
    assert {name for name, model in seen.models.items() if model.forgotten} == {"a"}


async def test_only_a_model_whose_every_request_fails_is_probed(
    observer: Observer, played: Played
) -> None:
    played.serve(dead=READY, fine=READY)
    played.text = page(dead=0, fine=0)
    await look(observer, played)
    played.dead = frozenset({"dead"})
    succeeded = '\nnv_inference_request_success{model="fine",version="1"} 1'
    played.text = page(dead=2, fine=2) + succeeded
    await look(observer, played)
    await asyncio.sleep(0)
    played.text = page(dead=2, fine=2) + succeeded
    seen = await look(observer, played)
    assert played.probes == ["dead"]
    assert {name for name, model in seen.models.items() if model.sick} == {"dead"}
    assert seen.models["dead"].failure.error_class == "unhealthy"
    played.serve(dead=UNLOADED, fine=READY)
    await look(observer, played)
    played.serve(dead=READY, fine=READY)
    assert not (await look(observer, played)).models["dead"].sick


async def test_our_own_hand_overlays_what_the_index_says(
    observer: Observer, played: Played
) -> None:
    played.serve(a=READY, b=None)
    played.ours = {"a": ModelState.UNLOADING, "b": ModelState.LOADING}
    seen = await look(observer, played)
    assert seen.models["a"].state is ModelState.UNLOADING
    assert seen.models["b"].state is ModelState.LOADING


async def test_a_load_that_ends_while_triton_answers_is_not_taken_for_absent(
    observer: Observer, played: Played
) -> None:
    played.serve(a=None)
    played.ours = {"a": ModelState.LOADING}
    played.ends_meanwhile = True
    assert (await look(observer, played)).models["a"].state is ModelState.LOADING
    played.serve(a=READY)
    assert (await look(observer, played)).models["a"].state is READY


async def test_reported_demand_reaches_the_next_snapshot_once(
    observer: Observer, played: Played, tmp_path: Path
) -> None:
    played.serve(a=UNLOADED)
    now_s = observer.clock.now_s()
    observer.demand.report("a", 3, 2, 1.5, now_s)
    first = (await look(observer, played)).models["a"]
    assert (first.arrivals, first.waiting) == (3, 2)
    assert first.oldest_wait_s == pytest.approx(1.5, abs=0.5)
    second = (await look(observer, played)).models["a"]
    assert (second.arrivals, second.waiting) == (0, 2)
    played.serve(a=READY)
    third = (await look(observer, played)).models["a"]
    assert third.waiting == 0, "a model that serves keeps nobody waiting"
