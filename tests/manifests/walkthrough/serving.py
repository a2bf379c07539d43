"""The pod of deploy/overlays/cpu, as processes, with the example repository: asked, told, changed.

Ports are the pod's own, as `kubectl port-forward` would have them.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

from tests.manifests.overlays import DEPLOY, objects
from tests.manifests.pod import Pod, raise_loopback
from tests.manifests.walkthrough.typist import Typist

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
    pod = Pod(objects("cpu"), folder)
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
        typed.says("The pod is told to end: the hooks, Triton, then the sidecars.")
        print(json.dumps(pod.stop()))


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
