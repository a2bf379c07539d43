"""Leads one real autoscaler through a script, one step for each of its synchronisations.

The controller reads its target's scale, then asks for metrics, then looks at the pods. The world
moves on right after each decision, and the next answer waits until all have seen it: so each
synchronisation sees one step whole, and comes at the script's own time. The target is a resource
of our own with a scale, which no controller but this one touches.

Owns the pods and the target of one namespace. Knows nothing of what is the right decision.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from tests.controlplane.client import Client, Object
from tests.controlplane.metricserver import METRICS, Answer
from tests.controlplane.sequences import STEP_S, Script, Step, Told, Value, pods

GROUP = "controlplane.remora.test"
SCALE_READ_S = 0.05
"""Within this the controller asks for metrics after it has read the target's scale."""
SETTLE_S = 0.4
"""How long the controller's own view of the pods may lag behind the API server."""
DECIDED_AFTER_S = 0.2
CLAMPED_WITHIN_S = 3.0
TARGET: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"targets.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"kind": "Target", "plural": "targets", "singular": "target"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    },
                },
            }
        ],
    },
}


class Player:
    """One script in a namespace of its own; `finished` is set when the last step is decided.

    is_void: it cannot be told what the controller saw at some step, so the record says nothing.
    """

    def __init__(self, client: Client, script: Script, namespace: str) -> None:
        self.script = script
        self.namespace = namespace
        self.finished = threading.Event()
        self.record: list[dict[str, Any]] = []
        self.hpa: Object = {}
        self._client = client
        self._target = f"/apis/{GROUP}/v1/namespaces/{namespace}/targets/target"
        self.is_void = False
        self._pods: dict[str, str] = {}
        self._asked = script.start
        self._status = 0
        self._status_before = 0
        self._seen = 0
        self._touched_s = 0.0
        self._by_hand_s = 0.0
        self._lock = threading.Lock()
        self._moved = threading.Event()
        self._moved_s = 0.0
        self._turn = 0
        self._began_s = 0.0
        self._answered_s = 0.0

    def prepare(self) -> None:
        """All but the autoscaler."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        self._client.apply(namespace)
        self._client.apply(
            {
                "apiVersion": f"{GROUP}/v1",
                "kind": "Target",
                "metadata": {"name": "target", "namespace": self.namespace},
                "spec": {"replicas": self.script.start},
            }
        )
        self._show(self.script.steps[0], self.script.start)

    def begin(self) -> None:
        """The autoscaler, which starts at once. What the API server fills in is kept."""
        script = self.script
        spec: Object = {
            "scaleTargetRef": {"apiVersion": f"{GROUP}/v1", "kind": "Target", "name": "target"},
            "minReplicas": script.minimum,
            "maxReplicas": script.maximum,
            "metrics": list(script.metrics) or [pods()],
        }
        if script.behavior is not None:
            spec["behavior"] = script.behavior
        wanted = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "target", "namespace": self.namespace},
            "spec": spec,
        }
        # Its first question may come before the API server's answer to us.
        with self._lock:
            made = self._client.create(wanted)["spec"]
            self.hpa = {key: value for key, value in made.items() if key != "scaleTargetRef"}

    def end(self) -> None:
        """No more questions."""
        path = f"/apis/autoscaling/v2/namespaces/{self.namespace}/horizontalpodautoscalers/target"
        self._client.delete(path)

    def ask(self, metric: str) -> Answer:
        """What the backend tells; the first metric's question waits for its time."""
        with self._lock:
            if self._turn >= len(self.script.steps):
                return None
            step, index = self.script.steps[self._turn], METRICS.index(metric)
            if index == 0:
                self._wait()
            told = (step.told, *step.others)
            answers = [self._told(each, index) for index, each in enumerate(told)]
            if index == 0:
                self._note(self._answered_s, answers)
            if index == len(answers) - 1:
                self._turn += 1
                threading.Thread(target=self._follow, args=(step,), daemon=True).start()
            return answers[index]

    def _wait(self) -> None:
        """Until all have seen the step and its time has come.

        A change of its status makes the controller look again at once, before the world has moved
        on: then it has read the target as it was. Where that cannot be told the record is void.
        """
        asked_s = time.monotonic()
        self._moved.wait()
        self._seen = self._status
        if asked_s < self._touched_s - SCALE_READ_S:
            self._seen = self._status_before
        elif asked_s < self._touched_s + SCALE_READ_S:
            self.is_void = True
        if asked_s < self._by_hand_s + SCALE_READ_S:
            self.is_void = True
        wait_s = max(self._moved_s + SETTLE_S, self._answered_s + STEP_S) - time.monotonic()
        time.sleep(max(0.0, wait_s))
        self._answered_s = time.monotonic()
        self._began_s = self._began_s or self._answered_s
        self._moved.clear()

    def _follow(self, step: Step) -> None:
        """Waits for the decision, plays the hand of somebody else, and moves the world on."""
        time.sleep(DECIDED_AFTER_S)
        replicas = self._replicas()
        self.record[-1]["decided"] = replicas
        if step.then is not None:
            self._by_hand_s = time.monotonic()
            self._client.merge(self._target, {"spec": {"replicas": step.then}})
            replicas = step.then if self._is_allowed(step.then) else self._clamped(step.then)
        if self._turn == len(self.script.steps):
            self.finished.set()
        else:
            self._show(self.script.steps[self._turn], replicas)

    def _is_allowed(self, replicas: int) -> bool:
        return self.script.minimum <= replicas <= self.script.maximum

    def _clamped(self, given: int) -> int:
        """A step at which the controller asks for no metric at all."""
        self._asked, self._seen = given, self._status
        deadline_s = time.monotonic() + CLAMPED_WITHIN_S
        while (now := self._replicas()) == given and time.monotonic() < deadline_s:
            time.sleep(0.02)
        self._note(time.monotonic(), [None] * max(1, len(self.script.metrics)))
        self.record[-1]["decided"] = now
        return now

    def _note(self, at_s: float, metrics: list[Answer]) -> None:
        self.record.append(
            {
                "at_s": round(at_s - self._began_s, 3),
                "replicas": self._asked,
                "status_replicas": self._seen,
                "pods": dict(self._pods),
                "metrics": metrics,
            }
        )

    def _replicas(self) -> int:
        return int(self._client.get(self._target)["spec"]["replicas"])

    # --- the world ---

    def _show(self, step: Step, replicas: int) -> None:
        wanted = _states(step, replicas if step.pods is None else step.pods)
        self._asked = replicas
        self._status_before = self._status
        self._status = len(wanted) if step.status is None else step.status
        self._touched_s = time.monotonic()
        status = {"replicas": self._status, "selector": "app=target"}
        self._client.merge(f"{self._target}/status", {"status": status})
        for name in [name for name, state in self._pods.items() if wanted.get(name) != state]:
            self._change(name, self._pods.pop(name), wanted.get(name))
            if name in wanted:
                self._pods[name] = wanted[name]
        for name in wanted.keys() - self._pods.keys():
            self._make(name, wanted[name])
            self._pods[name] = wanted[name]
        self._pods = dict(sorted(self._pods.items()))
        self._moved_s = time.monotonic()
        self._moved.set()

    def _change(self, name: str, before: str, after: str | None) -> None:
        live = {"ready", "unready", "pending", "missing"}
        if before in live and after in live:
            self._mark(name, after)
        else:
            self._client.delete(self._pod(name), grace_s=0)
            if after is not None:
                self._make(name, after)

    def _make(self, name: str, state: str) -> None:
        self._client.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": self.namespace,
                    "labels": {"app": "target"},
                },
                # Only a pod on a node takes its time to be deleted.
                "spec": {"nodeName": "none", "containers": [{"name": "none", "image": "none"}]},
            }
        )
        self._mark(name, state)
        if state == "leaving":
            self._client.delete(self._pod(name), grace_s=600)

    def _mark(self, name: str, state: str) -> None:
        phases = {"pending": "Pending", "failed": "Failed", "succeeded": "Succeeded"}
        ready = "True" if state in ("ready", "missing", "leaving") else "False"
        status = {
            "phase": phases.get(state, "Running"),
            "conditions": [{"type": "Ready", "status": ready}],
        }
        self._client.merge(f"{self._pod(name)}/status", {"status": status})

    def _pod(self, name: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{name}"

    def _told(self, told: Told, index: int) -> Answer:
        """Quantities for the wire; of pods, every one but the missing has a value."""
        if told is None:
            return None
        if isinstance(told, Mapping):
            return {name: _quantity(value) for name, value in told.items()}
        type_ = self.hpa["metrics"][index]["type"]
        if type_ == "Object":
            assert isinstance(told, (int, str)), "an object has one value"
            return _quantity(told)
        if type_ == "External":
            return [_quantity(each) for each in ([told] if isinstance(told, (int, str)) else told)]
        names = [name for name, state in self._pods.items() if state != "missing"]
        values = [told] * len(names) if isinstance(told, (int, str)) else told
        return {name: _quantity(value) for name, value in zip(names, values, strict=False)}


def _states(step: Step, count: int) -> dict[str, str]:
    """Names and states; the odd ones are the last."""
    odd = [
        *["unready"] * step.unready,
        *["missing"] * step.missing,
        *["pending"] * step.pending,
        *["succeeded"] * step.succeeded,
        *["failed"] * step.failed,
        *["leaving"] * step.leaving,
    ]
    assert len(odd) <= count, f"{step} has fewer pods than {len(odd)}"
    states = ["ready"] * (count - len(odd)) + odd
    return {f"p{index:02}": state for index, state in enumerate(states)}


def _quantity(value: Value) -> str:
    return value if isinstance(value, str) else f"{value}m"
