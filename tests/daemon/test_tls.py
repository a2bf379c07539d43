"""Our HTTP port over TLS, with real connections: who gets in, and that certificates may change."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from daemon import tls as tls_module
from daemon.api import Guard
from daemon.fleet.certificates.contexts import CertificateError
from daemon.tls import PortTls
from tests.controlplane.authority import Authority, Pair


class Port:
    """A port with TLS whose `/v1/state` is guarded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create(folder / "ours", "ours")
        self.clients = Authority.create(folder / "clients", "clients")
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self.show(self.authority)
        self.tls = PortTls(self.certificate, self.key, self.clients.certificate)
        self.address = ""

    def show(self, authority: Authority) -> None:
        pair = authority.issue("port", hosts=["127.0.0.1"])
        shutil.copy(pair.certificate, self.certificate)
        shutil.copy(pair.key, self.key)

    async def get(
        self,
        path: str,
        pair: Pair | None = None,
        authority: Authority | None = None,
        **headers: str,
    ) -> int:
        trusted = (authority or self.authority).certificate
        context = ssl.create_default_context(cafile=str(trusted))
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.address + path, ssl=context, headers=headers) as answer,
        ):
            return answer.status


@pytest.fixture
async def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Port]:
    monkeypatch.setattr(tls_module, "LOOK_EVERY_S", 0.05)
    port = Port(tmp_path)

    async def ok(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    guard = Guard("secret", port.tls.knows, reads=True)
    app = web.Application(middlewares=[guard.readers])
    app.router.add_get("/v1/state", ok)
    app.router.add_get("/metrics", ok)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=await port.tls.open())
    await site.start()
    port.address = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield port
    await runner.cleanup()
    await port.tls.close()


async def test_a_client_of_a_trusted_authority_reads_what_is_guarded(port: Port) -> None:
    assert await port.get("/v1/state", port.clients.issue("fleet")) == 200


async def test_the_token_does_as_well_and_nothing_else_does(port: Port) -> None:
    assert await port.get("/v1/state", Authorization="Bearer secret") == 200
    assert await port.get("/v1/state", Authorization="Bearer wrong") == 401
    assert await port.get("/v1/state", Authorization="Bearer gehéim") == 401
    assert await port.get("/v1/state") == 401


async def test_a_client_of_another_authority_is_not_even_connected(port: Port) -> None:
    with pytest.raises(aiohttp.ClientError):
        await port.get("/v1/state", port.authority.issue("somebody"))


async def test_metrics_are_open_to_whoever_scrapes(port: Port) -> None:
    assert await port.get("/metrics") == 200


async def test_a_certificate_that_changes_is_shown_without_a_restart(port: Port) -> None:
    other = Authority.create(port.folder / "next", "next")
    port.show(other)
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0.05)
            try:
                assert await port.get("/metrics", authority=other) == 200
                return
            except aiohttp.ClientConnectorCertificateError:
                continue


async def test_files_that_are_no_certificate_are_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_text("nothing")
    (tmp_path / "tls.key").write_text("nothing")
    with pytest.raises(CertificateError, match=r"tls\.crt: no certificate in PEM"):
        await PortTls(tmp_path / "tls.crt", tmp_path / "tls.key").open()
