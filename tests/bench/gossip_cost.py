"""What gossip costs: messages and bytes by the size of the fleet, and one sidecar's share.

``python -m tests.bench.gossip_cost [PODS ...]``. A real Mosquitto; the fleet is played by one
process over few connections, since a thousand would cost more than what is measured. One
listener, as in a sidecar, runs in a process of its own; its CPU and memory stand beside those of
the same process with nothing to listen to.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.gossip.messages import LearnedModel, PodState, encoded
from daemon.gossip.topics import Topics
from policies.pace import Pace

if TYPE_CHECKING:
    import aiomqtt

SECONDS = int(os.environ.get("SECONDS", "60"))
MODELS = 5000
RESIDENTS = 30
CHANGE_EVERY_S = float(os.environ.get("CHANGE_EVERY_S", "60"))
"""How often a pod swaps a model, beside what it says at each heartbeat; as far as the pace of a
fleet of that size lets it say so."""
MIB = 2**20
TOPICS = Topics("remora")


def state(pod: int, sequence: int, swaps: int) -> PodState:
    """A pod of RESIDENTS models, of which one is swapped at each of ``swaps``."""
    turns = [(swaps + n) // RESIDENTS for n in range(RESIDENTS)]
    models = [
        f"model-{(pod * 37 + n * 11 + 503 * turn) % MODELS:04}" for n, turn in enumerate(turns)
    ]
    return PodState(
        run="bench",
        sequence=sequence,
        load=round(0.4 + sequence % 10 / 20, 3),
        headroom={f"GPU-{pod:032x}": (3 + sequence % 5) * 2**30},
        residents={name: 60 + n for n, name in enumerate(models)},
        learned={
            name: LearnedModel(700 * MIB + len(name), 4.25, on_host=False, file_bytes=640 * MIB)
            for name in models
        },
    )


async def play(port: int, pods: int, seconds: float, clients: int = 4) -> tuple[int, int]:
    """Speaks for ``pods`` pods; the number of messages said, and their bytes."""
    import aiomqtt

    said = [0, 0]
    pace = Pace()
    per_s = pods * min(1 / pace.gap_s(pods), 1 / pace.heartbeat_s + 1 / CHANGE_EVERY_S)

    async def some(first: int) -> None:
        async with aiomqtt.Client(
            "127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, identifier=f"played-{first}"
        ) as client:
            mine = range(first, pods, clients)
            if not mine:
                return
            for pod in mine:
                await _say(client, pod, 0, said)
            said[:] = [0, 0]
            began_s, number, rate = time.monotonic(), 0, per_s / clients
            while time.monotonic() - began_s < seconds:
                sequence = number // len(mine) + 1
                await _say(client, mine[number % len(mine)], sequence, said)
                number += 1
                await asyncio.sleep(max(0.0, began_s + number / rate - time.monotonic()))

    await asyncio.gather(*(some(first) for first in range(clients)))
    return said[0], said[1]


async def _say(client: "aiomqtt.Client", pod: int, sequence: int, said: list[int]) -> None:
    payload = encoded(state(pod, sequence, sequence // 3))
    await client.publish(TOPICS.pod(f"pod-{pod}"), payload, qos=1, retain=True)
    said[0] += 1
    said[1] += len(payload)


async def listen(port: int, with_gossip: bool) -> None:
    """One sidecar's gossip, or as much of a sidecar without it; prints what it cost."""
    import daemon.run  # noqa: F401

    if not with_gossip:
        await asyncio.sleep(1)
        print(json.dumps(_cost(0.0)))
        return
    from tests.daemon.gossip.podlike import gossip_of, telemetry_of

    gossip = gossip_of(f"mqtt://127.0.0.1:{port}", "listener", telemetry_of("m"))
    await gossip.open()
    await asyncio.sleep(5)
    before = dict(gossip.counted)
    began_s = _cpu_s()
    for _ in range(SECONDS):
        await asyncio.sleep(1)
        gossip.took()
        gossip.peers()
    told = {name: gossip.counted[name] - before.get(name, 0) for name in gossip.counted}
    told |= {"peers": len(gossip.peers()), "dropped": sum(gossip.dropped.values())}
    print(json.dumps(_cost(began_s) | told))
    await gossip.close()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _cost(began_s: float) -> dict[str, float]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {"cpu_s": _cpu_s() - began_s, "rss_mib": pages * resource.getpagesize() / MIB}


def _listener(port: int, *, with_gossip: bool) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.bench.gossip_cost", "listen", str(port)]
    command += ["gossip"] if with_gossip else []
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def main(fleets: Sequence[int] = (10, 100, 1000)) -> None:
    from tests.daemon.gossip.mosquitto import Mosquitto

    bare = _listener(0, with_gossip=False)
    alone = json.loads(bare.communicate()[0])
    print(
        f"{RESIDENTS} residents a pod, {SECONDS} s; a listener without gossip: "
        f"{alone['rss_mib']:.1f} MiB"
    )
    print("pods  messages/s  bytes each  KiB/s  CPU of a core  MiB added  peers known  dropped")
    for pods in fleets:
        with tempfile.TemporaryDirectory() as folder, Mosquitto.start(Path(folder)) as broker:
            playing = asyncio.run(_both(broker.port, pods))
            said, heard = playing
            print(
                f"{pods:4}  {said[0] / (SECONDS + 15):10.1f}  {said[1] / max(1, said[0]):10.0f}"
                f"  {heard['bytes_in'] / SECONDS / 1024:5.1f}"
                f"  {100 * heard['cpu_s'] / SECONDS:12.2f}%"
                f"  {heard['rss_mib'] - alone['rss_mib']:9.1f}  {heard['peers']:11}"
                f"  {heard['dropped']:7}",
                flush=True,
            )


async def _both(port: int, pods: int) -> tuple[tuple[int, int], dict[str, float]]:
    playing = asyncio.create_task(play(port, pods, SECONDS + 15))
    await asyncio.sleep(3)
    listener = _listener(port, with_gossip=True)
    said = await playing
    text, _ = await asyncio.to_thread(listener.communicate)
    return said, json.loads(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["listen"]:
        asyncio.run(listen(int(sys.argv[2]), "gossip" in sys.argv[3:]))
    else:
        main([int(each) for each in sys.argv[1:]] or (10, 100, 1000))
