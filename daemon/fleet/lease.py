"""One writer among the replicas, by a Lease of the cluster.

Owns who writes, and for how long one may believe it. Times are measured by our own monotonic
clock from what we observed, never by comparing another machine's clock with ours: a Lease has
expired when we have watched it stand still for its duration.

We stop believing before others begin to: the Lease is given up on when it could not be renewed
for two thirds of its duration, counted from before the last request that renewed it was sent.
So two replicas never write at once, unless one's clock runs half as fast again as the other's.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from daemon.fleet.cluster import Cluster, ClusterError
from daemon.fleet.trouble import Trouble, log

_GROUP = "coordination.k8s.io/v1"
_RENEWED_WITHIN = 2 / 3
_TRIED_EVERY = 2 / 15


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the Lease said when it last changed, and when we saw that."""

    spec: Mapping[str, Any]
    at_s: float


class Lease:
    """`run` keeps trying to hold it; `is_held` is asked before each write."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        duration_s: float,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._base = f"/apis/{_GROUP}/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._duration_s = duration_s
        self._now_s = now_s
        self._held_until_s = -float("inf")
        self._seen: _Seen | None = None
        self._random = random.Random(identity)
        self._trouble = Trouble("cannot renew or read the Lease")
        self._said = False

    def is_held(self) -> bool:
        return self._now_s() < self._held_until_s

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            await self.attempt()
            await asyncio.sleep(self._duration_s * _TRIED_EVERY * self._random.uniform(1, 1.2))

    async def attempt(self) -> None:
        """Takes the Lease if it is free, renews it if it is ours."""
        try:
            await self._try()
        except ClusterError as error:
            # Somebody else was faster; that is what the version is for.
            if error.status != 409:
                self._trouble.began(error)
        else:
            self._trouble.ended()
        if self._said != self.is_held():
            self._said = self.is_held()
            log.info("we are the writer" if self._said else "we are not the writer any more")

    async def release(self) -> None:
        """Gives it up, so that another need not wait until it expires."""
        if not self.is_held():
            return
        self._held_until_s = -float("inf")
        try:
            found = await self._call("GET", self._name)
            if found["spec"].get("holderIdentity") == self._identity:
                spec = {**found["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                await self._call("PUT", self._name, {**found, "spec": spec})
        except ClusterError as error:
            log.warning("cannot release the Lease, it will expire: %s", error)

    async def _try(self) -> None:
        began_s = self._now_s()
        try:
            found = await self._call("GET", self._name)
        except ClusterError as error:
            if error.status != 404:
                raise
            await self._create(began_s)
            return
        spec = found.get("spec") or {}
        if self._seen is None or self._seen.spec != spec:
            self._seen = _Seen(spec, self._now_s())
        is_ours = spec.get("holderIdentity") == self._identity
        if is_ours or self._is_free(self._seen):
            spec = self._spec(spec, is_ours)
            await self._call("PUT", self._name, {**found, "spec": spec})
            self._took(began_s)

    async def _create(self, began_s: float) -> None:
        body = {
            "apiVersion": _GROUP,
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": self._spec({}, False),
        }
        await self._call("POST", "", body)
        self._took(began_s)

    def _is_free(self, seen: _Seen) -> bool:
        if not seen.spec.get("holderIdentity"):
            return True
        lasts_s = seen.spec.get("leaseDurationSeconds") or self._duration_s
        return self._now_s() - seen.at_s >= lasts_s

    def _took(self, began_s: float) -> None:
        self._held_until_s = began_s + self._duration_s * _RENEWED_WITHIN

    def _spec(self, before: Mapping[str, Any], is_ours: bool) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        transitions = before.get("leaseTransitions") or 0
        return {
            **before,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration_s)),
            "acquireTime": before.get("acquireTime", now) if is_ours else now,
            "renewTime": now,
            "leaseTransitions": transitions if is_ours or not before else transitions + 1,
        }

    async def _call(
        self, method: str, name: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        path = f"{self._base}/{name}" if name else self._base
        # A call that hangs must not outlast what we believe.
        timeout_s = self._duration_s * _RENEWED_WITHIN / 2
        return await self._cluster.call(method, path, body=body, timeout_s=timeout_s)
