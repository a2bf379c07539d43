"""Certificates from files: read whole, or refused by file."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from daemon.fleet.certificates.contexts import CertificateError
from daemon.fleet.certificates.files import GivenFiles
from tests.controlplane.authority import Authority, Pair


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Authority.create(tmp_path, "ca").issue("server", hosts=["server"])


def encrypted(pem: bytes) -> bytes:
    key = load_pem_private_key(pem, None)
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    return key.private_bytes(*form)


async def test_a_pair_is_read_as_it_is_written(pair: Pair) -> None:
    source = GivenFiles(pair.certificate, pair.key)
    identity = await source.identity()
    assert identity.pem == pair.certificate.read_bytes() + pair.key.read_bytes()
    assert identity == await source.identity()
    assert source.ca_bundle() is None


async def test_a_chain_without_a_last_line_end_is_read_too(pair: Pair) -> None:
    written = pair.certificate.read_bytes()
    pair.certificate.write_bytes(written.rstrip())
    identity = await GivenFiles(pair.certificate, pair.key).identity()
    assert identity.pem == written + pair.key.read_bytes()


async def test_a_missing_file_is_named(pair: Pair) -> None:
    pair.key.unlink()
    with pytest.raises(CertificateError, match=r"ca-server\.key: No such file"):
        await GivenFiles(pair.certificate, pair.key).identity()


async def test_a_key_of_another_certificate_is_refused(pair: Pair, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", "ca").issue("server", hosts=["server"])
    with pytest.raises(CertificateError, match=r"ca-server\.key: not the key of .*ca-server\.crt"):
        await GivenFiles(pair.certificate, other.key).identity()


async def test_a_key_with_a_password_is_refused(pair: Pair) -> None:
    pair.key.write_bytes(encrypted(pair.key.read_bytes()))
    with pytest.raises(CertificateError, match=r"ca-server\.key: no private key .*password"):
        await GivenFiles(pair.certificate, pair.key).identity()


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nx"])
async def test_what_is_no_certificate_is_refused(pair: Pair, text: str) -> None:
    pair.certificate.write_text(text)
    with pytest.raises(CertificateError, match=r"ca-server\.crt: no certificate in PEM"):
        await GivenFiles(pair.certificate, pair.key).identity()
