"""What changes at the port while it is open, what is published, and what cannot be opened."""

import asyncio
import json
import logging
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from daemon.fleet.metricsapi.serving import ListenError, listen
from daemon.fleet.samples import Samples
from daemon.fleet.settings import FleetSettings
from tests.controlplane.authority import Authority
from tests.daemon.fleet.metricsapi.serving_apiserver import running
from tests.daemon.fleet.metricsapi.serving_pods import samples_of, signals
from tests.daemon.fleet.metricsapi.serving_port import LOADS, MASTER, NAME, PROXY, Port, open_port


@pytest.fixture
def samples() -> Samples:
    return samples_of({"a": signals(0.6)})


@pytest.fixture
async def port(samples: Samples, tmp_path: Path) -> AsyncIterator[Port]:
    async with open_port(samples, tmp_path) as opened:
        yield opened


async def test_before_the_front_proxy_is_known_nobody_gets_in(
    samples: Samples, tmp_path: Path
) -> None:
    async with open_port(samples, tmp_path) as port:
        known = port.api_server.objects.copy()
        port.api_server.objects.clear()
        settings = FleetSettings(own_namespace="ours", host="127.0.0.1", api_port=0)
        later = await listen(samples, port.listening.cluster, settings)
        try:
            early = Port(later, port.api_server, port.front_proxy, port.proxy)
            assert (await early.get_as(None)).is_refusal(401, "Unauthorized")
            assert (await early.get_as(None, "/readyz", {})).status == 503
            with pytest.raises(aiohttp.ClientError):
                await early.get_as(port.proxy)
            port.api_server.objects.update(known)
            await later.refresh()
            early = Port(later, port.api_server, port.front_proxy, port.proxy)
            assert (await early.get_as(port.proxy)).status == 200
            assert (await early.get_as(None, "/readyz", {})).status == 200
        finally:
            await later.close()


async def test_readiness_waits_for_the_values_too(samples: Samples, tmp_path: Path) -> None:
    front_proxy = Authority.create(tmp_path, "front-proxy-ca")
    async with running() as (api_server, cluster):
        api_server.describe_front_proxy(front_proxy.certificate.read_text())
        settings = FleetSettings(own_namespace="ours", host="127.0.0.1", api_port=0)
        listening = await listen(samples, cluster, settings, is_ready=lambda: False)
        try:
            port = Port(listening, api_server, front_proxy, front_proxy.issue(PROXY))
            assert (await port.get_as(None, "/readyz", {})).status == 503
            assert (await port.get_as(None, "/livez", {})).status == 200
        finally:
            await listening.close()


async def test_an_authority_that_was_taken_away_lets_nobody_in_any_more(
    port: Port, tmp_path: Path
) -> None:
    successor = Authority.create(tmp_path / "next", "front-proxy-ca-2")
    old, new = (each.certificate.read_text() for each in (port.front_proxy, successor))
    async with port.session(port.proxy) as before, port.session(successor.issue(PROXY)) as after:
        assert (await port.ask(before, LOADS)).status == 200
        with pytest.raises(aiohttp.ClientError):
            await port.ask(after, LOADS)

        # Both are trusted for a while: who is connected stays so.
        port.api_server.describe_front_proxy(old + new, PROXY)
        await port.listening.refresh()
        assert (await port.ask(before, LOADS)).status == 200
        assert (await port.ask(after, LOADS)).status == 200

        port.api_server.describe_front_proxy(new, PROXY)
        await port.listening.refresh()
        answer = await port.ask(before, LOADS)
        assert answer.is_refusal(401, "Unauthorized")
        assert answer.headers["Connection"] == "close"
        assert (await port.ask(after, LOADS)).status == 200
        with pytest.raises(aiohttp.ClientError):
            await port.ask(before, LOADS)


async def test_a_name_that_was_taken_away_lets_nobody_in_any_more(port: Port) -> None:
    async with port.session(port.proxy) as session:
        assert (await port.ask(session, LOADS)).status == 200
        port.api_server.describe_front_proxy(port.front_proxy.certificate.read_text(), "another")
        await port.listening.refresh()
        assert (await port.ask(session, LOADS)).is_refusal(401, "Unauthorized")


async def test_given_files_are_replaced_under_open_connections(
    samples: Samples, tmp_path: Path
) -> None:
    first, second = (Authority.create(tmp_path / name, name) for name in ("first", "second"))
    shown = first.issue(NAME, hosts=[NAME])
    given = {"certificate": shown.certificate, "key": shown.key}
    async with open_port(samples, tmp_path, **given) as port:
        both = first.certificate.read_bytes() + second.certificate.read_bytes()
        port = Port(port.listening, port.api_server, port.front_proxy, port.proxy, both)
        async with port.session(port.proxy) as session:
            assert (await port.ask(session, LOADS)).status == 200
            assert await shown_by(port) == "first"
            connections = open_connections(session)

            successor = second.issue(NAME, hosts=[NAME])
            # Read between the two: the pair does not fit, and nothing changes.
            shutil.copy(successor.certificate, shown.certificate)
            await port.listening.refresh()
            assert await shown_by(port) == "first"
            shutil.copy(successor.key, shown.key)
            await port.listening.refresh()
            assert await shown_by(port) == "second"

            assert (await port.ask(session, LOADS)).status == 200
            assert open_connections(session) == connections
        # The one who wrote the files publishes their authority.
        port.api_server.claim("v1beta2", "custom.metrics.k8s.io", "ours/remora-fleet", b"theirs")
        await port.listening.publish()
        assert port.api_server.writes == []


async def shown_by(port: Port) -> str:
    """Who signed the certificate that a new connection is shown."""
    host, number = port.listening.runner.addresses[0][:2]
    reader, writer = await asyncio.open_connection(
        host, number, ssl=port.context(None), server_hostname=NAME
    )
    issuer = dict(part[0] for part in writer.get_extra_info("peercert")["issuer"])
    writer.close()
    await writer.wait_closed()
    assert reader.at_eof() or issuer
    return str(issuer["commonName"])


def open_connections(session: aiohttp.ClientSession) -> set[int]:
    assert session.connector is not None
    pooled = session.connector._conns
    return {id(connection[0]) for held in pooled.values() for connection in held}


async def test_a_refresh_comes_again_and_again(port: Port, tmp_path: Path) -> None:
    turning = asyncio.create_task(port.listening.run(refresh_s=0.01))
    successor = Authority.create(tmp_path / "next", "front-proxy-ca")
    port.api_server.describe_front_proxy(successor.certificate.read_text(), PROXY)
    try:
        for _ in range(500):
            await asyncio.sleep(0.01)
            trust = port.listening.front_proxy.trust
            if trust and trust.authorities_pem == successor.certificate.read_text():
                break
        else:
            pytest.fail("it has not been read again")
    finally:
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)


# --- what is published, and what cannot be opened ---


async def test_the_writer_publishes_whom_to_trust(port: Port) -> None:
    name = "v1beta2.custom.metrics.k8s.io"
    port.api_server.claim("v1beta2", "custom.metrics.k8s.io", "ours/remora-fleet")
    await port.listening.publish()
    context = ssl.create_default_context(cadata=port.api_server.bundle(name).decode())
    context.load_cert_chain(port.proxy.certificate, port.proxy.key)
    async with aiohttp.ClientSession() as session:
        url = port.url + "/apis"
        async with session.get(url, ssl=context, server_hostname=NAME, headers=MASTER) as answer:
            assert answer.status == 200


async def test_anothers_apiservice_is_left_alone_and_told_of(
    port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    port.api_server.claim("v1beta1", "custom.metrics.k8s.io", "monitoring/prometheus-adapter")
    with caplog.at_level(logging.WARNING):
        await port.listening.publish()
        await port.listening.publish()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "v1beta1.custom.metrics.k8s.io by Service monitoring/prometheus-adapter" in told[0]
    assert [write for write in port.api_server.writes if "apiservices" in write] == []


async def test_it_is_told_of_beside_a_given_certificate_too(
    samples: Samples, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = Authority.create(tmp_path, "ca").issue(NAME, hosts=[NAME])
    given = {"certificate": shown.certificate, "key": shown.key}
    async with open_port(samples, tmp_path, **given) as port:
        port.api_server.claim("v1beta2", "custom.metrics.k8s.io", "monitoring/adapter")
        await port.listening.publish()
    assert "v1beta2.custom.metrics.k8s.io by Service monitoring/adapter" in caplog.text


async def test_a_port_in_use_is_told(port: Port, samples: Samples) -> None:
    number = port.listening.runner.addresses[0][1]
    settings = FleetSettings(own_namespace="ours", host="127.0.0.1", api_port=number)
    with pytest.raises(ListenError, match=rf"cannot listen on 127\.0\.0\.1:{number}: "):
        await listen(samples, port.listening.cluster, settings)


async def test_without_a_certificate_nothing_is_opened(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_text("nonsense")
    (tmp_path / "tls.key").write_text(json.dumps({}))
    async with running() as (_, cluster):
        settings = FleetSettings(
            own_namespace="ours",
            host="127.0.0.1",
            certificate=tmp_path / "tls.crt",
            key=tmp_path / "tls.key",
        )
        with pytest.raises(ListenError, match=r"tls\.crt: no certificate in PEM"):
            await listen(samples, cluster, settings)
