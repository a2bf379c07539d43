"""What the API server says of one Deployment: that it exists, who it is, how many it wants.

Asked for rarely and remembered briefly; Deployments are not watched, for most that happens to
them is nothing to us.
"""

import time
from dataclasses import dataclass

from daemon.fleet.cluster import Cluster, ClusterError
from daemon.fleet.samples import Owner

_REMEMBERED_S = 5.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """replicas: how many its spec wants."""

    uid: str
    replicas: int


class Deployments:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[Owner, tuple[float, Deployment | None]] = {}

    async def get(self, owner: Owner) -> Deployment | None:
        """None where there is none of that name. Raises ClusterError."""
        now_s = time.monotonic()
        self._known = {
            each: (at_s, found)
            for each, (at_s, found) in self._known.items()
            if now_s - at_s < _REMEMBERED_S
        }
        if owner not in self._known:
            self._known[owner] = now_s, await self._ask(owner)
        return self._known[owner][1]

    async def _ask(self, owner: Owner) -> Deployment | None:
        namespace, name = owner
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        try:
            found = await self._cluster.call("GET", path)
        except ClusterError as error:
            if error.status == 404:
                return None
            raise
        # The API server fills in one replica where a manifest names none.
        return Deployment(found["metadata"]["uid"], found["spec"].get("replicas", 1))
