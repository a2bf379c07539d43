"""The writer's duty to tell a Deployment that its pinned models do not fit.

Owns the Event: one for each Deployment, counted up instead of written anew, and seldom. Its name
says what it is about, so a writer that takes over goes on with the one that is there.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from daemon.fleet.cluster import MERGE_PATCH, Cluster, ClusterError
from daemon.fleet.deployments import Deployments
from daemon.fleet.lease import Lease
from daemon.fleet.samples import Owner, Pod, Samples, Signals
from daemon.fleet.telemetry import Telemetry
from daemon.fleet.trouble import Trouble

REASON = "PinsDoNotFit"

_LOOK_EVERY_S = 15.0
_COMPONENT = "remora-fleet"
_MIB = 1024 * 1024


@dataclass(slots=True)
class Events:
    cluster: Cluster
    samples: Samples
    lease: Lease
    telemetry: Telemetry
    deployments: Deployments
    interval_s: float
    _told_s: dict[Owner, float] = field(default_factory=dict)
    _trouble: Trouble = field(default_factory=lambda: Trouble("cannot write an event"))

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            await asyncio.sleep(min(_LOOK_EVERY_S, self.interval_s))
            if self.lease.is_held():
                await self.step()

    async def step(self) -> None:
        now_s = time.monotonic()
        self._told_s = {
            owner: at_s for owner, at_s in self._told_s.items() if now_s - at_s < self.interval_s
        }
        for owner, pods in self.samples.deployments().items():
            found = (self.samples.signals(pod.key) for pod in pods)
            full = [signals for signals in found if signals and not signals.pins_fit]
            if full and owner not in self._told_s and self.lease.is_held():
                self._told_s[owner] = now_s
                await self._tell(owner, message(full, pods))

    async def _tell(self, owner: Owner, words: str) -> None:
        try:
            deployment = await self.deployments.get(owner)
            if deployment is None:
                return
            await self._write(owner, deployment.uid, words)
        except ClusterError as error:
            self.telemetry.events.labels("failed").inc()
            self._trouble.began(error)
        else:
            self.telemetry.events.labels("written").inc()
            self._trouble.ended()

    async def _write(self, owner: Owner, uid: str, words: str) -> None:
        namespace, name = owner
        base = f"/api/v1/namespaces/{namespace}/events"
        event = f"{name}.{uid}.pins-do-not-fit"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            found = await self.cluster.call("GET", f"{base}/{event}")
        except ClusterError as error:
            if error.status != 404:
                raise
            # None yet, or the API server has dropped it by its age.
            await self.cluster.call("POST", base, body=_event(event, owner, uid, words, now))
            return
        again = {"message": words, "lastTimestamp": now, "count": (found.get("count") or 1) + 1}
        await self.cluster.call("PATCH", f"{base}/{event}", body=again, content_type=MERGE_PATCH)


def message(full: Sequence[Signals], pods: Sequence[Pod]) -> str:
    """What `kubectl describe` shows: how much is wanted and there is, where it is tightest."""
    words = f"Pinned models do not fit the memory budget in {len(full)} of {len(pods)} pods"
    worst = max(full, key=lambda signals: signals.pinned_bytes - (signals.budget_bytes or 0))
    # With several devices, one may be too small while all together are not.
    if worst.budget_bytes is None or worst.pinned_bytes <= worst.budget_bytes:
        return words
    pinned_mib, budget_mib = -(-worst.pinned_bytes // _MIB), worst.budget_bytes // _MIB
    return f"{words}: they need {pinned_mib} MiB of {budget_mib} MiB"


def _event(event: str, owner: Owner, uid: str, words: str, now: str) -> dict[str, Any]:
    namespace, name = owner
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": event, "namespace": namespace},
        "involvedObject": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "namespace": namespace,
            "name": name,
            "uid": uid,
        },
        "reason": REASON,
        "type": "Warning",
        "message": words,
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
