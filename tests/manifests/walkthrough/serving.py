"""The pod of deploy/overlays/cpu, as processes, with the example repository: asked, told, changed.

Ports are the pod's own, as `kubectl port-forward` would have them. The gossip component's variables
are written out, for nobody here fills in a pod's address; a broker and a gateway come last.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from simulations.testbed.envoy import find_envoy
from tests.controlplane.client import Object
from tests.daemon.gossip.mosquitto import Mosquitto, found
from tests.manifests.overlays import DEPLOY, container, objects, of
from tests.manifests.pod import Container, Pod, raise_loopback
from tests.manifests.walkthrough.typist import Typist

BROKER_PORT = 1883
DOOR = "http://localhost:9480/v2"
FRAUD, IMAGE, WORDS = (
    f"{DOOR}/models/{name}" for name in ("fraud_detector", "image_classifier", "sentiment_analysis")
)
REQUESTS = {
    "payment.json": ("FEATURES", "FP32", [1, 6], [900, 3, 400, 6, 10, 1]),
    "sentence.json": ("TEXT", "BYTES", [1, 1], ["The film was not good."]),
    "picture.json": ("IMAGE", "FP32", [1, 3, 32, 32], [0.5] * 3072),
}
TIMED = r"-w '\n%{http_code} in %{time_total} s\n'"
ALONE = r"-s -o /dev/null -w '%{http_code} in %{time_total} s\n'"
RESIDENT = "curl -s localhost:9400/metrics | grep '^remora_model_resident'"
READY = f"curl -s -d '{{\"ready\": true}}' {DOOR}/repository/index"


def play(folder: Path) -> None:
    raise_loopback()
    typed = Typist(folder)
    pod = Pod(_gossiping(objects("cpu")), folder)
    (folder / "deploy").symlink_to(DEPLOY)
    for name, (tensor, datatype, shape, data) in REQUESTS.items():
        given = {"name": tensor, "datatype": datatype, "shape": shape, "data": data}
        (folder / name).write_text(json.dumps({"inputs": [given]}))
    typed.says("The repository. The third version of one model is kept back for later.")
    typed.types("python deploy/example-repository/write.py models")
    typed.types("mkdir later && mv models/image_classifier/3 later/")
    with ExitStack() as stack:
        pod.start(stack)
        typed.waits(pod.is_ready, 60, "the pod is ready")
        _ask(typed)
        _change(typed, folder)
        _roll(typed)
        _gossip(typed, folder, stack)
        _gateway(typed, folder, stack)
        typed.says("The pod is told to end: the hooks, Triton, then the sidecars.")
        print(json.dumps(pod.stop()))


def _gossiping(applied: tuple[Object, ...]) -> tuple[Object, ...]:
    changed = copy.deepcopy(applied)
    template = of(changed, "Deployment", "triton")["spec"]["template"]
    container(template, "remora")["env"].extend(
        {"name": f"REMORA_{name}", "value": value}
        for name, value in (
            ("GOSSIP", f"mqtt://127.0.0.1:{BROKER_PORT}"),
            ("POD", "triton-0"),
            ("GOSSIP_PLACE", "127.0.0.1:9482"),
        )
    )
    return changed


def _ask(typed: Typist) -> None:
    typed.says("What guides ask, and what a Triton has instead.")
    typed.types(f"curl -s {TIMED} {DOOR}/models")
    typed.types(f"curl -s -d '{{}}' {DOOR}/repository/index")
    typed.types(READY)
    typed.types(f"curl -s {TIMED} {DOOR}/repository/models/fraud_detector")
    typed.types(f"curl -s {TIMED} {FRAUD}/ready")
    typed.types(f"curl -s {TIMED} -d '{{}}' {DOOR}/repository/models/fraud_detector/load")
    typed.says("The first request for a model waits for it; the second does not.")
    typed.types(f"curl -si -d @payment.json {FRAUD}/infer")
    typed.types(f"curl -s {TIMED} -d @payment.json {FRAUD}/infer")
    typed.types(f"curl -s {TIMED} -d @sentence.json {WORDS}/infer")
    typed.types(f"curl -s {TIMED} -d @sentence.json {WORDS}/versions/1/infer")
    typed.types(f"curl -s {TIMED} -d @payment.json {DOOR}/models/unheard_of/infer")
    typed.types(READY)
    typed.types(f"curl -s {FRAUD}/ready {TIMED}")
    typed.types(f"curl -s {FRAUD}/versions/3/stats | head -c 240; echo")
    typed.says("Why it is there, and why another is not.")
    typed.types("remora explain fraud_detector")
    typed.types("remora explain image_classifier")


def _change(typed: Typist, folder: Path) -> None:
    typed.says("Another policy: less memory than all three take, and one model pinned.")
    wrong = "budget: 110MiB\\nresidency: {minimun: 5s}\\n"
    typed.types(f"printf '{wrong}' > policy.yaml; remora check policy.yaml")
    right = "budget: 110MiB\\nresidency: {minimum: 5s}\\nmodels: {image_classifier: {pin: true}}\\n"
    typed.types(f"printf '{right}' > policy.yaml; remora check policy.yaml | head -3")
    print("(the ConfigMap's file is put in the place of the one before, as a kubelet does it)")
    shutil.copy(folder / "policy.yaml", folder / "remora-policy" / "policy.yaml")
    ready = "image_classifier is ready"
    typed.waits(lambda: typed.asks(f"curl -sf {IMAGE}/ready")[0] == 0, 60, ready)
    typed.types(RESIDENT)
    typed.types("remora explain image_classifier")
    typed.says("Two models that do not fit beside it at once, asked for in turn.")
    for _ in range(2):
        typed.types(f"curl {ALONE} -d @payment.json {FRAUD}/infer")
        typed.types(f"curl {ALONE} -d @sentence.json {WORDS}/infer")
    typed.types(RESIDENT)
    typed.types("curl -s localhost:9400/metrics | grep '^remora_actions_total'")


def _roll(typed: Typist) -> None:
    typed.says("A new version, moved in whole; it is taken when nobody has touched it for 10 s.")
    typed.types(f"curl -s -d @picture.json {IMAGE}/infer | head -c 120; echo")
    typed.types("mv later/3 models/image_classifier/")
    third = f'{READY} | grep -q \'"image_classifier","version":"3"\''
    typed.waits(lambda: typed.asks(third)[0] == 0, 90, "version 3 serves")
    typed.types(f"curl -s -d @picture.json {IMAGE}/infer | head -c 120; echo")
    typed.types("curl -s localhost:9400/metrics | grep '^remora_updates_total'")


def _gossip(typed: Typist, folder: Path, stack: ExitStack) -> None:
    problems = "curl -s localhost:9400/v1/state | python -m json.tool | grep -A3 '\"problems\"'"
    connected = "curl -s localhost:9400/metrics | grep -q '^remora_gossip_connected 1'"
    typed.says("There has been no broker so far, and it went on alone.")
    typed.types(problems)
    typed.says("A broker comes.")
    broker = Mosquitto(found(), folder, BROKER_PORT, ("allow_anonymous true",))
    stack.enter_context(broker)
    typed.waits(lambda: typed.asks(connected)[0] == 0, 60, "the sidecar is connected")
    typed.types(problems)
    typed.types("mosquitto_sub -V 5 -C 1 -W 10 -t 'remora/pods/+' | head -c 700; echo")
    typed.says("An operator expects requests for a model that is not there.")
    typed.types(RESIDENT)
    hint = "mosquitto_pub -V 5 -t remora/demand/fraud_detector -m '{\"count\": 20}'"
    typed.types(hint)
    ready = "fraud_detector is ready, and nobody has asked for it"
    typed.waits(lambda: typed.asks(f"curl -sf {FRAUD}/ready")[0] == 0, 60, ready)
    typed.types(RESIDENT)


def _gateway(typed: Typist, folder: Path, stack: ExitStack) -> None:
    typed.says("A gateway, before this pod alone.")
    typed.types("remora gateway-config --pod 127.0.0.1:9482 > gateway.yaml")
    command = [str(find_envoy()), "--config-path", str(folder / "gateway.yaml")]
    command += ["--disable-hot-restart", "--log-level", "warning"]
    stack.enter_context(Container("gateway", command, os.environ, folder / "gateway.log"))
    door = "http://localhost:9580/v2"
    typed.waits(lambda: typed.asks(f"curl -sf {door}/health/live")[0] == 0, 30, "it answers")
    typed.types(f"curl -s {TIMED} -d @payment.json {door}/models/fraud_detector/infer")
    typed.types(f"curl -s {TIMED} -d '{{}}' {door}/repository/models/fraud_detector/unload")
