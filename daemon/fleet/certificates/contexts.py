"""The TLS side of our port: the certificate we show, and the authorities we ask callers for.

Owns the contexts. Each new connection gets the one that is in force; connections that are open
keep theirs, so neither a new certificate nor a new authority drops anybody. Where certificates
come from is the source's; whom a certificate speaks for is decided elsewhere.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from daemon.fleet.trouble import Trouble

log = logging.getLogger("remora.fleet")


class CertificateError(RuntimeError):
    """A certificate that cannot be used or had: where it was looked for, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What we show: the certificate's chain and its key in PEM, and how long it holds."""

    pem: bytes
    not_after: datetime


class Source(Protocol):
    """Where our certificate comes from."""

    async def identity(self) -> Identity:
        """The one to show now. Raises CertificateError."""

    def ca_bundle(self) -> bytes | None:
        """What the API server should trust, in PEM; None where that is not ours to say."""


class Serving:
    """`ssl_context` is given to the listener once, and stays right."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._identity: Identity | None = None
        self._authorities_pem = ""
        self._current = _Context()
        self._trouble = Trouble("cannot have a newer certificate")
        self.ssl_context = _Context()
        self.ssl_context.sni_callback = self._hand_over

    async def refresh(self) -> bool:
        """Asks the source again; True when another certificate is shown from now on.

        Raises CertificateError only while there is none yet: later the last good one holds.
        """
        try:
            identity = await self._source.identity()
            is_new = identity != self._identity
            if is_new:
                self._current = _context(identity, self._authorities_pem)
        except CertificateError as error:
            if self._identity is None:
                raise
            self._trouble.began(error)
            return False
        self._trouble.ended()
        if is_new:
            self._identity = identity
            log.info("showing a certificate that holds until %s", identity.not_after)
        return is_new

    def trust(self, authorities_pem: str) -> None:
        """From now on callers' certificates must come from these authorities."""
        if authorities_pem != self._authorities_pem and self._identity is not None:
            self._current = _context(self._identity, authorities_pem)
        self._authorities_pem = authorities_pem

    def ca_bundle(self) -> bytes | None:
        return self._source.ca_bundle()

    def peer_certificate(self, transport: asyncio.BaseTransport | None) -> Mapping[str, Any] | None:
        """The caller's certificate, as `ssl` describes it, if an authority in force signed it.

        The handshake has verified it against those that were in force then. Of a connection that
        is older than the present ones, the signature is verified again, so that an authority
        that was taken away lets nobody in through a connection that was kept open. Who was let in
        by a chain has to connect anew then, since a connection remembers only its first link.
        """
        if transport is None:
            return None
        found: Mapping[str, Any] | None = transport.get_extra_info("peercert")
        if not found:
            return None
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        context = tls.context
        assert isinstance(context, _Context)
        if context.authorities_pem == self._authorities_pem:
            return found
        der = tls.getpeercert(binary_form=True)
        return found if der and _is_signed(der, self._authorities_pem) else None

    def _hand_over(self, tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called with every hello of a client, whether it names a server or not."""
        tls.context = self._current


class _Context(ssl.SSLContext):
    """One that asks for a client's certificate and does without."""

    authorities_pem: str

    def __new__(cls) -> "_Context":
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        # In 1.3 nobody is resumed without tickets: every connection is verified by a handshake.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        # An authority of the cluster may itself be signed by one that we are not told of.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = ssl.CERT_OPTIONAL
        context.authorities_pem = ""
        return context


def _context(identity: Identity, authorities_pem: str) -> _Context:
    context = _Context()
    # The ssl module reads files only, and a key of ours should lie on no disk.
    file = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with open(file, "wb", closefd=False) as memory:
            memory.write(identity.pem)
        context.load_cert_chain(f"/proc/self/fd/{file}", password=_no_password)
    except ssl.SSLError as error:
        raise CertificateError(f"the certificate and its key do not work: {error}") from None
    finally:
        os.close(file)
    if authorities_pem:
        context.load_verify_locations(cadata=authorities_pem)
    context.authorities_pem = authorities_pem
    return context


def _no_password() -> str:
    """Without it the ssl module would ask the terminal for that of an encrypted key."""
    return ""


def _is_signed(der: bytes, authorities_pem: str) -> bool:
    if not authorities_pem:
        return False
    certificate = x509.load_der_x509_certificate(der)
    authorities = x509.load_pem_x509_certificates(authorities_pem.encode())
    return any(_is_issued_by(certificate, authority) for authority in authorities)


def _is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
