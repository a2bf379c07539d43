"""What a limit on a pod's share costs in cold loads, and gains for a hot model.

``python -m tests.bench.gateway_load``. Real pods, each case with a fleet of its own: first all
models are asked for evenly, then one of them far more than the others. One tier is one Envoy
straight to the Tritons and activators of all pods.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from simulations.testbed.envoy import EnvoyServer, find_envoy
from simulations.testbed.installation import find
from simulations.testbed.repository import ModelSpec
from simulations.testbed.tritonserver import free_ports
from tests.bench.one_tier import Addresses, one_tier
from tests.daemon.gateway.fleet import Fleet, fleet
from tests.daemon.gateway.traffic import Traffic

WINDOW_S = float(os.environ.get("WINDOW_S", "8"))
HOT = "m00"
HOT_CLIENTS = 24
SPECS = [
    ModelSpec(f"m{at:02}", 16, 0.3, 25 if at == 0 else 2, hint=True, max_batch_size=0)
    for at in range(30)
]
MODELS = [spec.name for spec in SPECS]


@dataclass(frozen=True, slots=True)
class Case:
    tiers: int
    pods: int
    balance: int
    clients: int


CASES = (
    Case(2, 4, 0, 4),
    Case(2, 4, 200, 4),
    Case(2, 4, 300, 4),
    Case(2, 4, 200, 16),
    Case(2, 4, 300, 16),
    Case(1, 3, 200, 4),
    Case(2, 3, 200, 4),
)


def main() -> None:
    print("tiers pods balance clients | even: asked loads | hot: asked failed p50 ms, pods")
    for case in CASES:
        with (
            tempfile.TemporaryDirectory() as folder,
            fleet(find(), Path(folder), SPECS, pods=case.pods, balance=case.balance) as whole,
            _doors(whole, case, Path(folder)) as (http, grpc),
        ):
            even = _play(Traffic(http, grpc, MODELS, case.clients))
            loads = sum(whole.loads(model) for model in MODELS)
            hot = _play(Traffic(http, grpc, [HOT] * 60 + MODELS, HOT_CLIENTS))
            p50_ms = statistics.median(took_s for _, took_s in hot.took_s) * 1e3
            print(
                f"{case.tiers:5} {case.pods:4} {case.balance:7} {case.clients:7} |"
                f" {even.sent.total():11} {loads:5} |"
                f" {hot.sent.total():10} {len(hot.failures):6} {p50_ms:6.0f},"
                f" {len(whole.held()[HOT])}",
                flush=True,
            )
            for _, model, failure in hot.failures[:2]:
                print(f"      {model}: {failure[:90]}")


@contextmanager
def _doors(whole: Fleet, case: Case, folder: Path) -> Iterator[tuple[str, str]]:
    """Where clients go, for HTTP and for gRPC."""
    if case.tiers == 2:
        yield whole.http, whole.grpc
        return
    http, grpc, admin = free_ports(3)
    pods = [member.pod for member in whole.members]
    addresses = [
        Addresses(pod.triton.http_url, pod.triton.grpc_url, pod.door_http, pod.door_grpc)
        for pod in pods
    ]
    text = one_tier(
        addresses, http_port=http, grpc_port=grpc, admin_port=admin, balance=case.balance
    )
    with EnvoyServer.start(find_envoy(), text, log_path=folder / "one.log") as one:
        one.wait_live()
        yield f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"


def _play(traffic: Traffic) -> Traffic:
    with traffic:
        time.sleep(WINDOW_S)
    return traffic


if __name__ == "__main__":
    main()
