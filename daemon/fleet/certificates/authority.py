"""Our own certificate authorities, for clusters where nobody gives us a certificate.

Owns what is signed, for how long, and when an authority is followed by the next. Pure but for
keys and serial numbers: the time comes in, and nothing is read or written.

Several replicas sign with the same authorities, each a certificate of its own. The API server
learns of an authority later than they do, so the invariant is: nobody signs with an authority
that has not been in the bundle for a day, as long as an older one still holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from daemon.fleet.certificates.contexts import Identity

AUTHORITY_LIFE = timedelta(days=365)
CERTIFICATE_LIFE = timedelta(days=30)
# How long an authority is published before anything is signed with it.
OVERLAP = timedelta(days=1)
# Clocks of API servers may be behind ours.
_SKEW = timedelta(hours=1)
# Nobody looks at it where there are alternative names, and a Service's may be too long for it.
_COMMON_NAME = "remora-fleet"
_KEY_END = b"-----END PRIVATE KEY-----\n"

_Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Authority:
    certificate: x509.Certificate
    key: _Key

    @property
    def since(self) -> datetime:
        return self.certificate.not_valid_before_utc + _SKEW

    @property
    def until(self) -> datetime:
        return self.certificate.not_valid_after_utc


def renewed(authorities: Sequence[Authority], now: datetime) -> tuple[Authority, ...] | None:
    """Those to keep, the oldest first, with a new one where it is due; None to leave them."""
    valid = tuple(sorted((each for each in authorities if now < each.until), key=_age))
    if not valid or is_due(valid[-1].since, valid[-1].until, now):
        return (*valid, _authority(now))
    return valid if len(valid) < len(authorities) else None


def signer(authorities: Sequence[Authority], now: datetime) -> Authority:
    """The newest that the API server has had the time to learn of, else the oldest."""
    ordered = sorted((each for each in authorities if now < each.until), key=_age)
    known = [each for each in ordered if each.since + OVERLAP <= now]
    return known[-1] if known else ordered[0]


def is_due(since: datetime, until: datetime, now: datetime) -> bool:
    """Whether a successor is needed: two thirds of the life are over."""
    return now >= since + (until - since) * 2 / 3


def issue(authority: Authority, names: Sequence[str], now: datetime) -> Identity:
    """A serving certificate for ``names``."""
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + CERTIFICATE_LIFE, authority.until)
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = (
        _builder(_COMMON_NAME, authority.certificate.subject, key, now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_authority=False), critical=True)
        .add_extension(purpose, critical=False)
        .add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
        .add_extension(_identifier_of(authority.key), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return Identity(certificate.public_bytes(Encoding.PEM) + _pem(key), until)


def names_of(service: str, namespace: str) -> tuple[str, ...]:
    """What a Service is called inside its cluster; the API server asks for the first."""
    full = f"{service}.{namespace}.svc"
    return full, f"{full}.cluster.local", f"{service}.{namespace}", service


def bundle(authorities: Sequence[Authority]) -> bytes:
    return b"".join(each.certificate.public_bytes(Encoding.PEM) for each in authorities)


def keys(authorities: Sequence[Authority]) -> bytes:
    """In the order of the bundle."""
    return b"".join(_pem(each.key) for each in authorities)


def read(certificates_pem: bytes, keys_pem: bytes) -> tuple[Authority, ...]:
    """What `bundle` and `keys` wrote. Raises ValueError that says what is wrong."""
    if not certificates_pem.strip() and not keys_pem.strip():
        return ()
    certificates = x509.load_pem_x509_certificates(certificates_pem)
    written = [part + _KEY_END for part in keys_pem.split(_KEY_END) if part.strip()]
    if len(written) != len(certificates):
        raise ValueError(f"{len(certificates)} certificates, but {len(written)} keys")
    return tuple(map(_read, certificates, written))


def _read(certificate: x509.Certificate, key_pem: bytes) -> Authority:
    key = load_pem_private_key(key_pem, None)
    if not isinstance(key, _Key) or key.public_key() != certificate.public_key():
        raise ValueError("a key that is not its certificate's")
    return Authority(certificate, key)


def _authority(now: datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities of one name would be taken for each other when a chain is looked for.
    name = f"{_COMMON_NAME}-{now:%Y%m%dT%H%M%S}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(name, subject, key, now, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_identifier_of(key), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def _builder(
    name: str, issuer: x509.Name, key: _Key, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(until)
    )


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _identifier_of(key: _Key) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _pem(key: _Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _age(authority: Authority) -> datetime:
    return authority.since
