"""The service's parts put side by side: what runs, who waits for what, and what it is ready for.

Knows nothing of settings' files, ports that are plain, or signals of the process.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from daemon.fleet.cluster import Cluster
from daemon.fleet.collecting import Collecting
from daemon.fleet.deployments import Deployments
from daemon.fleet.events import Events
from daemon.fleet.labelling import Labelling
from daemon.fleet.lease import Lease
from daemon.fleet.metricsapi.serving import ListenError, Listening, listen
from daemon.fleet.pods import Watching
from daemon.fleet.removal import Removal
from daemon.fleet.samples import Samples
from daemon.fleet.settings import FleetSettings
from daemon.fleet.steadying import Steadying
from daemon.fleet.telemetry import Telemetry
from daemon.fleet.trouble import Trouble

Runs = dict[str, Callable[[], Awaitable[None]]]
"""Parts by name, each of which runs until it is cancelled."""

_PUBLISH_EVERY_S = 10.0
_LISTEN_AGAIN_S = 2.0
# Rounds end within their interval; one that is this late hangs.
_DEAD_AFTER_S = 60.0
# In intervals of questions, how long a model is resident before it gets its label; and how long a
# pod that is unknown keeps its labels, in times of what it takes to become unknown.
_SETTLED_INTERVALS = 2
_FORGOTTEN_SPANS = 4


@dataclass(slots=True)
class Fleet:
    """The parts, and what they are ready for."""

    settings: FleetSettings
    cluster: Cluster
    samples: Samples
    telemetry: Telemetry
    watching: Watching
    collecting: Collecting
    steadying: Steadying
    deployments: Deployments
    lease: Lease
    api: Listening | None = None
    is_stopping: bool = False
    linger_s: float = 0.0
    _api_trouble: Trouble = field(default_factory=lambda: Trouble("cannot serve the metrics APIs"))

    def is_collected(self) -> bool:
        """Whether every sidecar was asked since the pods were listed."""
        return self.watching.listed.is_set() and self.collecting.rounds > 0

    def why_unready(self) -> str | None:
        if self.is_stopping:
            return "stopping"
        if not self.watching.listed.is_set():
            return "the pods are not listed yet"
        if not self.collecting.rounds:
            return "the sidecars were not asked yet"
        if self.settings.api_port and self.api is None:
            return "the metrics APIs are not served yet"
        return None

    def why_dead(self) -> str | None:
        if not self.watching.listed.is_set():
            return None
        late_s = time.monotonic() - self.collecting.round_ended_s
        allowed_s = max(_DEAD_AFTER_S, 6 * self.settings.collect_interval_s)
        return f"no round has ended for {late_s:.0f} s" if late_s > allowed_s else None

    async def linger(self) -> None:
        """Goes on serving while the cluster learns that we end, for callers come until then."""
        await asyncio.sleep(self.linger_s)

    def serving_parts(self) -> Runs:
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "pods": self.watching.run,
            "collecting": self._collect,
        }
        if self.settings.api_port:
            parts["api"] = self._serve_api
        return parts

    def writing_parts(self) -> Runs:
        shared = (self.cluster, self.samples, self.lease, self.telemetry)
        parts: Runs = {"lease": self.lease.run}
        if self.settings.api_port:
            parts["publishing"] = self._publish
        if self.settings.deletion_cost:
            parts["removal"] = Removal(*shared, self.settings.removal_interval_s).run
        parts["labelling"] = Labelling(
            *shared,
            interval_s=self.settings.collect_interval_s,
            most=self.settings.resident_labels,
            settle_s=_SETTLED_INTERVALS * self.settings.collect_interval_s,
            forget_s=_FORGOTTEN_SPANS * self.settings.stale_s,
        ).run
        if self.settings.events:
            seldom_s = self.settings.event_interval_s
            parts["events"] = Events(*shared, self.deployments, seldom_s).run
        return parts

    async def _collect(self) -> None:
        await self.watching.listed.wait()
        await self.collecting.run()

    async def _serve_api(self) -> None:
        """Opens the port as soon as it can be; the API server may not be there yet."""
        try:
            self.api = await listen(self.samples, self.cluster, self.settings, self.is_collected)
        except ListenError as error:
            self._api_trouble.began(error)
            await asyncio.sleep(_LISTEN_AGAIN_S)
            return
        self._api_trouble.ended()
        try:
            await self.api.run()
        finally:
            await self.api.close()
            self.api = None

    async def _publish(self) -> None:
        while True:
            await asyncio.sleep(_PUBLISH_EVERY_S)
            if self.api is not None and self.lease.is_held():
                await self.api.publish()
