"""Which pods there are: listed once, then watched.

Owns what we read of a pod and how the watch is kept up: resumed where it ended, listed anew
when the server has forgotten that place, backed off from when it fails. Refuses to know what
the pods are good for.
"""

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from contextlib import aclosing
from sys import intern
from typing import Any

from daemon.fleet.cluster import Cluster, ClusterError
from daemon.fleet.samples import Pod, Samples
from daemon.fleet.telemetry import Telemetry
from daemon.fleet.trouble import Trouble

log = logging.getLogger("remora.fleet")

PORT = 9400
PORT_NAME = "remora"
PORT_ANNOTATION = "remora.dev/port"
COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
_HASH_LABEL = "pod-template-hash"

# Pods as JSON are some 10 kB each: a whole list of a thousand would be our largest object by far.
_PAGE = 100
# A connection may die without either side hearing of it. A watch that ends this often costs one
# request, and bounds how long we may be deaf.
_WATCH_S = 90
_BRIEF_S = 5.0
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_LIST_AFTER_FAILURES = 3
_GONE = 410


class Watching:
    """Keeps `samples` abreast of the pods that a label selector finds."""

    def __init__(
        self,
        cluster: Cluster,
        samples: Samples,
        telemetry: Telemetry,
        selector: str,
        namespace: str = "",
        first_pause_s: float = _FIRST_PAUSE_S,
        seed: int | None = None,
    ) -> None:
        """namespace: empty for all of them. first_pause_s: after a failure; it doubles."""
        self._cluster = cluster
        self._samples = samples
        self._telemetry = telemetry
        self._selector = selector
        self._path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        self._first_pause_s = first_pause_s
        self._random = random.Random(seed)
        self._version: str | None = None
        self._failures = 0
        self._trouble = Trouble("cannot watch pods")
        self.listed = asyncio.Event()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            began_s = time.monotonic()
            has_failed = False
            try:
                if self._version is None:
                    await self._list()
                await self._watch(self._version or "")
            except ClusterError as error:
                has_failed = True
                self._failed(error)
            self._count(has_failed, time.monotonic() - began_s)
            if self._failures:
                await asyncio.sleep(self._pause_s())

    def _count(self, has_failed: bool, lasted_s: float) -> None:
        """Failures in a row. A watch that was cut off after it had stood for long is none more."""
        # A server that ends every watch at once is not to be asked in a tight loop either.
        if lasted_s < _BRIEF_S:
            self._failures += 1
        else:
            self._failures = 1 if has_failed else 0

    async def _list(self) -> None:
        """Everything, page by page; it takes effect as a whole."""
        query = {"labelSelector": self._selector, "limit": str(_PAGE)}
        pods: list[Pod] = []
        while True:
            page = await self._cluster.call("GET", self._path, query=query)
            pods.extend(pod_from(each) for each in page.get("items") or ())
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                break
            query["continue"] = metadata["continue"]
        self._samples.replace_pods(pods)
        self._version = metadata.get("resourceVersion") or ""
        self._telemetry.listings.inc()
        if not self.listed.is_set():
            log.info("%d pods have the labels %s", len(pods), self._selector)
        self.listed.set()
        self._trouble.ended()

    async def _watch(self, version: str) -> None:
        seconds = int(_WATCH_S * self._random.uniform(0.8, 1.2))
        query = {
            "labelSelector": self._selector,
            "resourceVersion": version,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        lines = self._cluster.lines(self._path, query=query, silence_s=seconds + 15)
        async with aclosing(lines):
            async for event in lines:
                self._take(event)

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, thing = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            raise ClusterError(str(thing.get("message")), thing.get("code"))
        metadata = thing.get("metadata") or {}
        if kind == "DELETED":
            self._samples.drop_pod((metadata["namespace"], metadata["name"]))
        elif kind in ("ADDED", "MODIFIED"):
            self._samples.put_pod(pod_from(thing))
        self._version = metadata.get("resourceVersion") or self._version
        self._trouble.ended()

    def _failed(self, error: ClusterError) -> None:
        """A place that the server has forgotten is no failure: everything is listed anew."""
        if error.status == _GONE and self._version is not None:
            self._version = None
            return
        if self._failures >= _LIST_AFTER_FAILURES:
            # Perhaps it is what stands at this place that cannot be read.
            self._version = None
        self._trouble.began(error)
        self._telemetry.watch_failures.inc()

    def _pause_s(self) -> float:
        whole_s = min(self._first_pause_s * 2.0 ** (self._failures - 1), _LONGEST_PAUSE_S)
        return whole_s * self._random.uniform(0.5, 1.0)


def pod_from(thing: Mapping[str, Any]) -> Pod:
    """A pod from the API server's JSON."""
    metadata, status = thing["metadata"], thing.get("status") or {}
    annotations = metadata.get("annotations") or {}
    labels = metadata.get("labels") or {}
    return Pod(
        namespace=intern(metadata["namespace"]),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        # Most pods have the same labels, and a thousand copies of them add up.
        labels={intern(key): intern(value) for key, value in labels.items()},
        ip=status.get("podIP") or None,
        port=_port(annotations.get(PORT_ANNOTATION), thing.get("spec") or {}),
        deployment=_deployment(metadata, labels),
        is_leaving=metadata.get("deletionTimestamp") is not None,
        phase=intern(status.get("phase") or "Pending"),
        deletion_cost=_whole(annotations.get(COST_ANNOTATION)),
    )


def _port(annotated: str | None, spec: Mapping[str, Any]) -> int:
    """The annotation's, else that of the port named so, else the default."""
    written = _whole(annotated)
    if written is not None and 1 <= written <= 65535:
        return written
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind) or ():
            for port in container.get("ports") or ():
                if port.get("name") == PORT_NAME:
                    return int(port["containerPort"])
    return PORT


def _deployment(metadata: Mapping[str, Any], labels: Mapping[str, str]) -> str | None:
    """A Deployment names its ReplicaSets after itself and the hash that is a label of the pods."""
    ending = "-" + labels.get(_HASH_LABEL, "")
    for owner in metadata.get("ownerReferences") or ():
        name = owner.get("name", "")
        if owner.get("controller") and owner.get("kind") == "ReplicaSet":
            is_named_so = ending != "-" and name.endswith(ending)
            return intern(name.removesuffix(ending)) if is_named_so else None
    return None


def _whole(written: str | None) -> int | None:
    try:
        return int(written) if written is not None else None
    except ValueError:
        return None
