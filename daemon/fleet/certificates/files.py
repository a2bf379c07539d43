"""A certificate from given files, as cert-manager and the kubelet write them.

The files are read again and compared, since a mounted Secret changes by a swapped link, and
both are small. A pair that does not fit together was read in the middle of a change: the one
in force stays, and the next reading finds the new one whole.
"""

import asyncio
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from daemon.fleet.certificates.contexts import CertificateError, Identity


class GivenFiles:
    """A Source. What the API server should trust is said by whoever wrote the files."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key

    async def identity(self) -> Identity:
        return await asyncio.to_thread(self._read)

    def ca_bundle(self) -> bytes | None:
        return None

    def _read(self) -> Identity:
        chain, key = _bytes(self._certificate), _bytes(self._key)
        try:
            leaf = x509.load_pem_x509_certificates(chain)[0]
        except ValueError:
            raise CertificateError(f"{self._certificate}: no certificate in PEM") from None
        try:
            public = load_pem_private_key(key, None).public_key()
        # An encrypted key is a TypeError, as a password was not given.
        except (ValueError, TypeError):
            raise CertificateError(f"{self._key}: no private key in PEM without password") from None
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if public.public_bytes(*form) != leaf.public_key().public_bytes(*form):
            raise CertificateError(f"{self._key}: not the key of {self._certificate}")
        return Identity(chain.rstrip() + b"\n" + key, leaf.not_valid_after_utc)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from None
