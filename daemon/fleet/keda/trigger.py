"""What a ScaledObject asks of us, read from its trigger's metadata.

Owns the keys, their defaults and what is allowed. Knows nothing of gRPC or of pods.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

# KEDA sends its own along with ours.
_KEDA_KEYS = frozenset(
    {
        "scalerAddress",
        "enableTLS",
        "unsafeSsl",
        "caCert",
        "tlsCertFile",
        "tlsClientCert",
        "tlsClientKey",
    }
)
_KEYS = frozenset(
    {
        "deployment",
        "model",
        "target",
        "activationLoad",
        "activationQuery",
        "activationThreshold",
        "serverAddress",
    }
)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

TARGET = 0.7
ACTIVATION_LOAD = 0.01


class TriggerError(ValueError):
    """Metadata that cannot be used: key, value, and what is allowed."""

    def __init__(self, key: str, value: str, allowed: str) -> None:
        super().__init__(f"trigger metadata {key}: {value!r}; allowed: {allowed}")


@dataclass(frozen=True, slots=True)
class Trigger:
    """
    namespace, deployment: whose pods; by default the Deployment has the ScaledObject's name.
    model: count only this model's load; empty for all.
    target: the load that one pod should have.
    activation_load: sum of loads above which the Deployment is active.
    query, server: PromQL that tells a gateway's demand, and whom to ask; empty for none.
    activation_threshold: what the query must exceed.
    """

    namespace: str
    deployment: str
    model: str
    target: float
    activation_load: float
    query: str
    server: str
    activation_threshold: float


def trigger(
    name: str, namespace: str, metadata: Mapping[str, str], servers: Collection[str]
) -> Trigger:
    """servers: those that may be asked. Raises TriggerError."""
    for key in sorted(metadata.keys() - _KEYS - _KEDA_KEYS):
        raise TriggerError(key, metadata[key], f"only the keys {', '.join(sorted(_KEYS))}")
    query, server = metadata.get("activationQuery", ""), metadata.get("serverAddress", "")
    if bool(query) != bool(server):
        missing = "serverAddress" if query else "activationQuery"
        raise TriggerError(missing, "", "both activationQuery and serverAddress, or neither")
    server = server.rstrip("/")
    if server and server not in servers:
        # Otherwise whoever may write a ScaledObject could send us anywhere in the cluster.
        raise TriggerError("serverAddress", server, ", ".join(servers) or "none: see --prometheus")
    return Trigger(
        namespace=_named("namespace", namespace),
        deployment=_named("deployment", metadata.get("deployment") or name),
        model=metadata.get("model", ""),
        # A thousandth is the least that the wire can tell.
        target=_number(metadata, "target", TARGET, 0.001, 1000),
        activation_load=_number(metadata, "activationLoad", ACTIVATION_LOAD, 0, 1000),
        query=query,
        server=server,
        activation_threshold=_number(metadata, "activationThreshold", 0, -1e15, 1e15),
    )


def _named(key: str, value: str) -> str:
    """It becomes part of a path to the API server, so it is one of its names and no more."""
    if not _NAME.fullmatch(value):
        raise TriggerError(key, value, "a name as Kubernetes has them")
    return value


def _number(
    metadata: Mapping[str, str], key: str, default: float, least: float, most: float
) -> float:
    written = metadata.get(key)
    if written is None:
        return default
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise TriggerError(key, written, f"a number from {least:g} to {most:g}")
    return value
