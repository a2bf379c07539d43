"""What a cold request waits for beyond the load itself.

``python -m tests.bench.cold_start``. One request at a time asks for a model that is not loaded, at
a random moment of the sidecar's tick of a second: once with room for it, after we have unloaded it
through Triton's own API, and once where the model asked for before has to leave first. From
what the client waited is taken what the sidecar itself measured of the load, and of the unload.
"""

import asyncio
import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tritonclient.grpc.aio import InferenceServerClient

from simulations.testbed.installation import find
from simulations.testbed.protocols import Asker, Protocol, Question
from simulations.testbed.repository import ModelSpec
from tests.daemon.pod import Pod, eventually, pod

REQUESTS = int(os.environ.get("REQUESTS", "40"))
AIM_MS = 150
PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc")
ROOM = ("room-a", "room-b", "room-c")
TAKING_TURNS = ("turn-a", "turn-b")

# Loads are the same in every preset; without a cooldown models may take turns at once.
POLICY = """\
budget: {budget}MiB
residency: {{minimum: 0s, cooldown: 0s}}
churn: {{evictions: 1000000}}
# Measured around a load, the host's memory shows also what the rest of a busy machine does.
models: {{"*": {{footprint: 60MiB}}}}
"""


@dataclass(frozen=True, slots=True)
class Cold:
    """One cold request: what the client waited, and what of it was the load and the unload."""

    waited_s: float
    load_s: float
    unload_s: float = 0.0

    @property
    def beyond_ms(self) -> float:
        return 1000 * (self.waited_s - self.load_s - self.unload_s)


def main() -> None:
    print(f"{REQUESTS} cold requests each; ms beyond load (and unload); aim: p95 <= {AIM_MS}")
    for envoy in (True, False):
        for names, budget_mib in ((ROOM, 400), (TAKING_TURNS, 100)):
            asyncio.run(_measure(names, budget_mib, envoy=envoy))


async def _measure(names: Sequence[str], budget_mib: int, *, envoy: bool) -> None:
    specs = [ModelSpec(name, 60, load_s=0.5, compute_ms=1, hint=True) for name in names]
    policy = POLICY.format(budget=budget_mib)
    with (
        tempfile.TemporaryDirectory() as folder,
        pod(find(), Path(folder), specs, policy, envoy=envoy) as running,
    ):
        asker = Asker(http_url=running.door_http, grpc_url=running.door_grpc)
        async with asker, InferenceServerClient(running.triton.grpc_url) as triton:
            for protocol in PROTOCOLS:
                turns = _Turns(running, asker, triton, protocol, names)
                _report(turns, [await turns.cold(number) for number in range(-2, REQUESTS)][2:])


@dataclass(slots=True)
class _Turns:
    """The models of a pod, asked for in turn."""

    running: Pod
    asker: Asker
    triton: InferenceServerClient
    protocol: Protocol
    names: Sequence[str]
    random: Random = field(default_factory=lambda: Random(1))

    @property
    def with_room(self) -> bool:
        return self.names == ROOM

    async def cold(self, number: int) -> Cold:
        name = self.names[number % len(self.names)]
        if self.with_room:
            await asyncio.to_thread(eventually, lambda: self._is_seen_gone(name), 20)
        await asyncio.sleep(self.random.uniform(0.0, 1.0))
        loads_s, unloads_s = self._sum_s("load"), self._sum_s("unload")
        began_s = time.perf_counter()
        await self.asker.ask(Question(name, 3.0, self.protocol), 60)
        waited_s = time.perf_counter() - began_s
        cold = Cold(waited_s, self._sum_s("load") - loads_s, self._sum_s("unload") - unloads_s)
        if self.with_room:
            await self.triton.unload_model(name)
        return cold

    def _is_seen_gone(self, name: str) -> bool:
        """Triton has let go of it, and the sidecar knows."""
        told = self.running.get("/v1/state")["models"][name]["state"]
        return told == "unloaded" and self.running.states()[name] != "READY"

    def _sum_s(self, what: str) -> float:
        """Of all loads or unloads so far, as the sidecar measured them."""
        row = rf"^remora_{what}_seconds_sum (\S+)"
        found = re.search(row, self.running.get("/metrics"), re.M)
        return float(found[1]) if found else 0.0


def _report(turns: _Turns, colds: Sequence[Cold]) -> None:
    way = "Envoy" if turns.running.envoy else "alone"
    where = "with room" if turns.with_room else "one leaves first"
    print(f"{way:6} {turns.protocol:5} {where}")
    print(f"  waited, s    {_spread([cold.waited_s for cold in colds], 3)}")
    print(f"  load, s      {_spread([cold.load_s for cold in colds], 3)}")
    if not turns.with_room:
        print(f"  unload, s    {_spread([cold.unload_s for cold in colds], 3)}")
    print(f"  beyond, ms   {_spread([cold.beyond_ms for cold in colds], 0)}", flush=True)


def _spread(values: Iterable[float], digits: int) -> str:
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    told = (("p50", statistics.median(ordered)), ("p95", p95), ("max", ordered[-1]))
    return "  ".join(f"{name} {value:7.{digits}f}" for name, value in told)


if __name__ == "__main__":
    main()
