"""The TLS contexts: what each new connection gets, on streams without HTTP."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from daemon.fleet.certificates.contexts import CertificateError, Identity, Serving
from tests.controlplane.authority import Authority, Pair
from tests.daemon.fleet.metricsapi.serving_port import believing


@dataclass
class Given:
    """A Source that shows what it was told to, or fails."""

    shown: Identity | None = None

    async def identity(self) -> Identity:
        if self.shown is None:
            raise CertificateError("nothing to show")
        return self.shown

    def ca_bundle(self) -> bytes | None:
        return b"bundle"


def identity(pair: Pair) -> Identity:
    pem = pair.certificate.read_bytes() + pair.key.read_bytes()
    return Identity(pem, datetime(2030, 1, 1, tzinfo=UTC))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path, "ca")


@pytest.fixture
async def serving(authority: Authority) -> Serving:
    made = Serving(Given(identity(authority.issue("server", hosts=["server"]))))
    await made.refresh()
    return made


def intermediate(authority: Authority, folder: Path) -> Authority:
    """An authority that the other one has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "intermediate")]))
        .issuer_name(authority.own.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority.key, hashes.SHA256())
    )
    made = Authority(folder, "intermediate", key, certificate)
    made.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    return made


@asynccontextmanager
async def greeted(
    serving: Serving, authority: Authority, shown: Pair | None, newest: ssl.TLSVersion
) -> AsyncIterator[tuple[str, ssl.SSLObject]]:
    """Connects, and reads whom the server takes us for."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = serving.peer_certificate(writer.transport)
        name = found["subject"][-1][0][1] if found else "nobody"
        writer.write(f"{name}\n".encode())
        await writer.drain()
        await reader.read()
        writer.close()

    context = believing(authority.certificate.read_bytes(), shown)
    context.maximum_version = newest
    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=serving.ssl_context) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="server"
        )
        line = await reader.readline()
        try:
            yield line.decode().strip(), writer.get_extra_info("ssl_object")
        finally:
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0)


async def name_for(serving: Serving, authority: Authority, shown: Pair | None) -> str:
    newest = ssl.TLSVersion.TLSv1_3
    async with greeted(serving, authority, shown, newest) as (name, _):
        return name


async def test_a_caller_without_a_certificate_is_nobody(
    serving: Serving, authority: Authority
) -> None:
    serving.trust(authority.certificate.read_text())
    assert await name_for(serving, authority, None) == "nobody"


async def test_a_caller_is_known_by_any_of_several_authorities(
    serving: Serving, authority: Authority, tmp_path: Path
) -> None:
    other = Authority.create(tmp_path / "other", "other")
    serving.trust(authority.certificate.read_text() + other.certificate.read_text())
    assert await name_for(serving, authority, authority.issue("ann")) == "ann"
    assert await name_for(serving, authority, other.issue("bob")) == "bob"


async def test_an_authority_need_not_be_a_root(
    serving: Serving, authority: Authority, tmp_path: Path
) -> None:
    middle = intermediate(authority, tmp_path)
    serving.trust(middle.certificate.read_text())
    assert await name_for(serving, authority, middle.issue("ann")) == "ann"
    # Whoever else signed it ends the handshake, and no word is said.
    assert await name_for(serving, authority, authority.issue("bob")) == ""


async def test_a_caller_may_show_a_chain(
    serving: Serving, authority: Authority, tmp_path: Path
) -> None:
    middle = intermediate(authority, tmp_path)
    shown = middle.issue("ann")
    with shown.certificate.open("ab") as file:
        file.write(middle.certificate.read_bytes())
    serving.trust(authority.certificate.read_text())
    assert await name_for(serving, authority, shown) == "ann"


async def test_authorities_that_come_before_the_certificate_are_kept(
    authority: Authority,
) -> None:
    source = Given()
    serving = Serving(source)
    serving.trust(authority.certificate.read_text())
    with pytest.raises(CertificateError):
        await serving.refresh()
    source.shown = identity(authority.issue("server", hosts=["server"]))
    assert await serving.refresh()
    assert await name_for(serving, authority, authority.issue("ann")) == "ann"


async def test_no_session_can_be_resumed(serving: Serving, authority: Authority) -> None:
    serving.trust(authority.certificate.read_text())
    newest = ssl.TLSVersion.TLSv1_3
    async with greeted(serving, authority, authority.issue("ann"), newest) as (name, tls):
        assert name == "ann"
        assert tls.version() == "TLSv1.3"
        assert tls.session is None or not tls.session.has_ticket


async def test_older_tls_is_refused(serving: Serving, authority: Authority) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        async with greeted(serving, authority, None, ssl.TLSVersion.TLSv1_2):
            pass


async def test_a_certificate_that_does_not_work_is_refused(authority: Authority) -> None:
    one, other = (authority.issue(name, hosts=["server"]) for name in ("one", "other"))
    mixed = Identity(one.certificate.read_bytes() + other.key.read_bytes(), datetime.now(UTC))
    with pytest.raises(CertificateError, match="the certificate and its key do not work"):
        await Serving(Given(mixed)).refresh()


async def test_what_was_shown_stays_when_the_source_fails(authority: Authority) -> None:
    source = Given(identity(authority.issue("server", hosts=["server"])))
    serving = Serving(source)
    assert await serving.refresh()
    assert not await serving.refresh()
    source.shown = None
    assert not await serving.refresh()
    assert await name_for(serving, authority, None) == "nobody"
    assert serving.ca_bundle() == b"bundle"
