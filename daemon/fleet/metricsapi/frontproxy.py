"""What the cluster says of its front proxy: the ConfigMap that every extension server reads.

Owns its name, its keys, and that the last good reading stays in force. It is read again every
few seconds: a watch held open for a thing that changes once a year would have to be looked
after, and an API server that restarts with a new authority is known of as soon.
"""

import json
import logging
import re
from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from daemon.fleet.cluster import Cluster, ClusterError
from daemon.fleet.metricsapi.authentication import Trust
from daemon.fleet.trouble import Trouble

log = logging.getLogger("remora.fleet")

_NAME = "kube-system/extension-apiserver-authentication"
_PATH = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
_AUTHORITIES = "requestheader-client-ca-file"
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class TrustError(ValueError):
    """A ConfigMap that does not describe a front proxy: which key, what it says, what may."""

    def __init__(self, key: str, value: str, allowed: str) -> None:
        super().__init__(f"ConfigMap {_NAME}: {key}: {value!r}; allowed: {allowed}")


class FrontProxy:
    """The trust in force; None until it has been read once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._trouble = Trouble("cannot read who may ask")
        self.trust: Trust | None = None

    async def refresh(self) -> bool:
        """Reads it again; True when the trust has changed. Never raises: the last one holds."""
        try:
            found = await self._cluster.call("GET", _PATH)
            trust = trust_in(found.get("data") or {})
        except (ClusterError, TrustError) as error:
            self._trouble.began(error)
            return False
        self._trouble.ended()
        if trust == self.trust:
            return False
        self.trust = trust
        log.info("the front proxy is known: %s", ", ".join(sorted(trust.names)) or "any name")
        return True


def trust_in(data: Mapping[str, str]) -> Trust:
    """Raises TrustError."""
    authorities = data.get(_AUTHORITIES, "")
    try:
        certificates = x509.load_pem_x509_certificates(authorities.encode())
    except ValueError:
        told = authorities.strip()[:40]
        raise TrustError(_AUTHORITIES, told, "certificates in PEM, one at least") from None
    return Trust(
        # Written anew, for what stands around and between certificates means nothing.
        authorities_pem="".join(each.public_bytes(Encoding.PEM).decode() for each in certificates),
        names=frozenset(_list(data, "requestheader-allowed-names")),
        name_headers=_headers(data, "requestheader-username-headers"),
        uid_headers=_headers(data, "requestheader-uid-headers"),
        group_headers=_headers(data, "requestheader-group-headers"),
        extra_prefixes=_headers(data, "requestheader-extra-headers-prefix"),
    )


def _headers(data: Mapping[str, str], key: str) -> tuple[str, ...]:
    """An empty prefix would take every header for one of the front proxy's."""
    names = tuple(name.strip() for name in _list(data, key))
    for name in names:
        if not _HEADER.fullmatch(name):
            raise TrustError(key, name, "names of headers")
    return names


def _list(data: Mapping[str, str], key: str) -> tuple[str, ...]:
    written = data.get(key) or "[]"
    try:
        read = json.loads(written)
    except ValueError:
        read = None
    if not isinstance(read, list) or not all(isinstance(each, str) for each in read):
        raise TrustError(key, written[:40], 'a list as ["X-Remote-User"]')
    return tuple(read)
