"""What a fleet costs one sidecar's decisions: CPU of a core and memory, by the number of peers.

Run: python -m tests.bench.fleet_plan [seconds]

One pod with 5,000 models in its repository, 30 of them resident, of which ten are asked for in
each tick, and a tick a second. Peers with 30 residents each swap a model as often as the pace
lets them, all of them, which is the most that may ever come. What it costs to take in what they
say, to see where models stand, and to plan with it, each beside the same pod without peers; how
messages are read is measured by `gossip_cost`. CPU seconds of this process, of each simulated
second.
"""

import sys
import tracemalloc
from dataclasses import replace
from random import Random
from time import process_time

from policies.history import History
from policies.pace import Pace
from policies.peers import Fleet, Peer
from policies.planner import plan
from policies.policy import Policy
from policies.snapshot import Device, Footprint, FootprintSource, Model, ModelState, Snapshot

GIB, MIB = 2**30, 2**20
START_S = 1_764_028_800.0
MODELS, RESIDENTS, ASKED, PEERS = 5_000, 30, 10, (0, 10, 100, 1_000)
NAMES = [f"model-{number:04d}" for number in range(MODELS)]
POLICY = Policy.model_validate({"budget": "90%", "scaling": {"routing": "by-model"}})


def peer(number: int, swaps: int) -> Peer:
    """One of RESIDENTS models, of which another is swapped each time."""
    turns = [(swaps + n) // RESIDENTS for n in range(RESIDENTS)]
    held = [(number * 37 + n * 11 + 503 * turn) % MODELS for n, turn in enumerate(turns)]
    place = f"10.0.{number // 250}.{number % 250 + 1}:9482"
    asked = {NAMES[model]: 64 for model in held[:ASKED]}
    residents = frozenset(NAMES[model] for model in held)
    return Peer(f"pod-{number}", place, residents, 0.5, 4 * GIB, False, asked)


def repository() -> Snapshot:
    models = {}
    for number, name in enumerate(NAMES):
        state = ModelState.READY if number < RESIDENTS else ModelState.UNLOADED
        size = Footprint({"GPU-0": GIB}, FootprintSource.MEASURED)
        models[name] = Model(name, state, size, load_s=2.0, revision="1")
    # Nearly full, so that what others bring in here has to pay.
    device = Device("GPU-0", int((RESIDENTS + 1.5) * GIB / 0.9), RESIDENTS * GIB)
    return Snapshot(START_S, devices={"GPU-0": device}, models=models)


def measure(peers: int, seconds: int) -> tuple[float, float, float, float]:
    """Messages a second, then CPU seconds per second to take them in and to plan, and the bytes
    that the view of peers takes."""
    random, base, history = Random(7), repository(), History()
    tracemalloc.start()
    fleet = Fleet("10.9.0.1:9482")
    for number in range(peers):
        fleet.heard(peer(number, 0))
    fleet.copies(NAMES)
    view_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    per_s = peers / Pace().gap_s(peers + 1)
    heard, hear_s, plan_s = 0, 0.0, 0.0
    for second in range(seconds):
        upto = int(per_s * (second + 1)) if peers else 0
        said = [peer(n % peers, n // peers + 1) for n in range(heard, upto)]
        heard = upto
        asked = {NAMES[random.randrange(RESIDENTS)] for _ in range(ASKED)}
        began_s = process_time()
        for message in said:
            fleet.heard(message)
        copies = fleet.copies(NAMES)
        seen_s = process_time()
        models = dict(base.models)
        for name, each in copies.items():
            if each is not models[name].copies:
                models[name] = replace(models[name], copies=each)
        base = replace(base, models=models)
        served = {n: replace(models[n], arrivals=2.0, served=2.0) for n in sorted(asked)}
        snapshot = replace(base, now_s=START_S + second, models={**models, **served})
        planned_s = process_time()
        history = plan(POLICY, snapshot, history).history
        hear_s += seen_s - began_s
        plan_s += process_time() - planned_s
    return per_s, hear_s / seconds, plan_s / seconds, view_bytes


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 120
    print("peers  messages/s  taking in  planning  both, beyond no peers  view")
    alone_s = 0.0
    for peers in PEERS:
        per_s, hear_s, plan_s, view_bytes = measure(peers, seconds)
        alone_s = alone_s or hear_s + plan_s
        print(
            f"{peers:5}  {per_s:10.1f}  {100 * hear_s:8.2f}%  {100 * plan_s:7.2f}%"
            f"  {100 * (hear_s + plan_s - alone_s):20.2f}%  {view_bytes / MIB:.1f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
