"""A certificate that we sign ourselves, with authorities that all replicas share in a Secret.

Owns the Secret: it is created by whoever is first, and changed only as it was read, so that two
replicas that do so at once agree on what one of them wrote. What is signed and when is
`certificates.authority`'s.
"""

import base64
import binascii
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from daemon.fleet.certificates import authority
from daemon.fleet.certificates.authority import Authority
from daemon.fleet.certificates.contexts import CertificateError, Identity
from daemon.fleet.cluster import Cluster, ClusterError
from daemon.fleet.trouble import Trouble

log = logging.getLogger("remora.fleet")

_CERTIFICATES = "ca.crt"
_KEYS = "ca.key"
_NOT_FOUND = 404
_CONFLICT = 409
# A replica that lost so many races in a row is not racing.
_ATTEMPTS = 5


def _now() -> datetime:
    return datetime.now(UTC)


class SelfSigned:
    """A Source. While the API server is away, what was read last is signed with."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        secret: str,
        names: Sequence[str],
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._shared = _SharedSecret(cluster, namespace, secret)
        self._names = names
        self._now = now
        self._trouble = Trouble("cannot read our authorities")
        self._authorities: tuple[Authority, ...] = ()
        self._issued: tuple[Authority, datetime, Identity] | None = None

    async def identity(self) -> Identity:
        now = self._now()
        try:
            self._authorities = await self._shared.authorities(now)
        except CertificateError as error:
            if not any(now < each.until for each in self._authorities):
                raise
            self._trouble.began(error)
        else:
            self._trouble.ended()
        return self._signed(authority.signer(self._authorities, now), now)

    def ca_bundle(self) -> bytes | None:
        return authority.bundle(self._authorities) or None

    def _signed(self, signer: Authority, now: datetime) -> Identity:
        if self._issued is not None:
            by, since, identity = self._issued
            is_ours = by.certificate == signer.certificate
            if is_ours and not authority.is_due(since, identity.not_after, now):
                return identity
        identity = authority.issue(signer, self._names, now)
        self._issued = signer, now, identity
        return identity


class _SharedSecret:
    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._folder = f"/api/v1/namespaces/{namespace}/secrets"

    async def authorities(self, now: datetime) -> tuple[Authority, ...]:
        """Those in the Secret, after adding the one that is due. Raises CertificateError."""
        try:
            for _ in range(_ATTEMPTS):
                found = await self._read()
                kept = self._parsed(found)
                wanted = authority.renewed(kept, now)
                if wanted is None:
                    return kept
                if await self._write(found, wanted):
                    log.info("Secret %s: %d authorities", self._where, len(wanted))
                    return wanted
        except ClusterError as error:
            raise CertificateError(f"Secret {self._where}: {error}") from None
        raise CertificateError(f"Secret {self._where}: others change it all the time")

    @property
    def _where(self) -> str:
        return f"{self._namespace}/{self._name}"

    async def _read(self) -> Mapping[str, Any] | None:
        try:
            return await self._cluster.call("GET", f"{self._folder}/{self._name}")
        except ClusterError as error:
            if error.status == _NOT_FOUND:
                return None
            raise

    async def _write(
        self, found: Mapping[str, Any] | None, authorities: Sequence[Authority]
    ) -> bool:
        """False when another replica was faster: then its word is to be read."""
        data = {
            _CERTIFICATES: _encoded(authority.bundle(authorities)),
            _KEYS: _encoded(authority.keys(authorities)),
        }
        try:
            if found is None:
                await self._cluster.call("POST", self._folder, body=self._new(data))
            else:
                # The resource version that was read goes with it, and another one is a conflict.
                body = {**found, "data": {**(found.get("data") or {}), **data}}
                await self._cluster.call("PUT", f"{self._folder}/{self._name}", body=body)
        except ClusterError as error:
            if error.status in (_NOT_FOUND, _CONFLICT):
                return False
            raise
        return True

    def _new(self, data: Mapping[str, str]) -> Mapping[str, Any]:
        labels = {"app.kubernetes.io/managed-by": "remora-fleet"}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {"name": self._name, "namespace": self._namespace, "labels": labels},
            "data": data,
        }

    def _parsed(self, found: Mapping[str, Any] | None) -> tuple[Authority, ...]:
        data = (found or {}).get("data") or {}
        try:
            written = [base64.b64decode(data.get(key, "")) for key in (_CERTIFICATES, _KEYS)]
            return authority.read(*written)
        except (ValueError, TypeError, binascii.Error) as error:
            raise CertificateError(
                f"Secret {self._where}: {_CERTIFICATES}, {_KEYS}: {error}; allowed: what was "
                "written there by us, or no such Secret"
            ) from None


def _encoded(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
