"""The APIServices that lead the API server to us: whose they are, and whom it trusts there.

Owns the rule that a group which others serve is left to them. Creating and deleting APIServices
is for whoever installs us.
"""

import base64
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from daemon.fleet.cluster import MERGE_PATCH, Cluster, ClusterError

log = logging.getLogger("remora.fleet")

_PATH = "/apis/apiregistration.k8s.io/v1/apiservices"
_CONFLICT = 409


class TakenByOthers(RuntimeError):
    """A group that another backend serves: there can be only one."""

    def __init__(self, claims: Iterable["Claim"]) -> None:
        told = ", ".join(f"{claim.name} by {claim.by}" for claim in claims)
        super().__init__(f"served already: {told}; remove these APIServices, or leave ours out")


@dataclass(frozen=True, slots=True)
class Service:
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Claim:
    """One APIService. ``service`` is None where the API server itself answers."""

    name: str
    service: Service | None
    ca_bundle: bytes
    resource_version: str

    @property
    def by(self) -> str:
        return f"Service {self.service}" if self.service else "the API server itself"


async def claims(cluster: Cluster, groups: Iterable[str]) -> tuple[Claim, ...]:
    """Who serves these groups, by name of the APIService. Raises ClusterError."""
    found = await cluster.call("GET", _PATH)
    wanted = frozenset(groups)
    items = (each for each in found.get("items") or () if each["spec"].get("group") in wanted)
    return tuple(sorted(map(_claim, items), key=lambda claim: claim.name))


async def check_claims(
    cluster: Cluster, service: Service, groups: Iterable[str]
) -> tuple[Claim, ...]:
    """Our own claims. Raises TakenByOthers, which says whose they are, and ClusterError."""
    found = await claims(cluster, groups)
    if foreign := [claim for claim in found if claim.service != service]:
        raise TakenByOthers(foreign)
    return found


async def publish_ca_bundle(
    cluster: Cluster, service: Service, groups: Iterable[str], bundle: bytes
) -> tuple[str, ...]:
    """Makes the API server trust ``bundle`` behind our APIServices; names those it changed.

    For the one replica that writes. Raises TakenByOthers and ClusterError.
    """
    ours = await check_claims(cluster, service, groups)
    changed = [claim for claim in ours if claim.ca_bundle != bundle]
    return tuple([claim.name for claim in changed if await _publish(cluster, claim, bundle)])


async def _publish(cluster: Cluster, claim: Claim, bundle: bytes) -> bool:
    # With the version that was looked at: should it be given to another now, it is a conflict.
    body = {
        "metadata": {"resourceVersion": claim.resource_version},
        "spec": {"caBundle": base64.b64encode(bundle).decode()},
    }
    path = f"{_PATH}/{claim.name}"
    try:
        await cluster.call("PATCH", path, body=body, content_type=MERGE_PATCH)
    except ClusterError as error:
        if error.status == _CONFLICT:
            # The API server itself writes there, its status; the next round finds it settled.
            return False
        raise
    log.info("APIService %s: a new caBundle", claim.name)
    return True


def _claim(item: Mapping[str, Any]) -> Claim:
    spec, metadata = item["spec"], item["metadata"]
    service = spec.get("service")
    return Claim(
        name=metadata["name"],
        service=Service(service["namespace"], service["name"]) if service else None,
        ca_bundle=base64.b64decode(spec.get("caBundle") or ""),
        resource_version=metadata["resourceVersion"],
    )
