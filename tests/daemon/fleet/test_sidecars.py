"""One question to one sidecar: real ports, and answers that nobody should believe."""

import asyncio
import gc
import gzip
import json
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from daemon.fleet.credentials import Credentials, CredentialsError, Files
from daemon.fleet.samples import ModelSignal, Pod, Signals
from daemon.fleet.sidecars import LARGEST_ANSWER_BYTES, Outcome, Sidecars, Unanswered, read
from daemon.signals import signals
from daemon.telemetry import Latest
from policies.pressure import Pressure
from tests.controlplane.authority import Authority
from tests.daemon.fleet.sidecar import FakeSidecar, model, said
from tests.policies.world import gpu_world, guest, policy_of

PLAIN = Files()


def pod(port: int, ip: str = "127.0.0.1") -> Pod:
    return Pod("default", "a", "uid", {}, ip, port, "triton", False, "Running")


@asynccontextmanager
async def sidecars(files: Files = PLAIN, timeout_s: float = 1.0) -> AsyncIterator[Sidecars]:
    asking = Sidecars(Credentials(files), timeout_s, 5.0)
    try:
        yield asking
    finally:
        await asking.close()


async def outcome_of(sidecar: FakeSidecar, files: Files = PLAIN) -> Outcome:
    async with sidecar, sidecars(files) as asking:
        with pytest.raises(Unanswered) as caught:
            await asking.ask(pod(sidecar.port))
    return caught.value.outcome


async def test_an_answer_is_read_whole() -> None:
    models = {"resnet": model(0.25), "bert": model(0.0, resident=False, absence_s=1.5)}
    async with FakeSidecar(said(0.42, models=models)) as sidecar, sidecars() as asking:
        signals = await asking.ask(pod(sidecar.port))
    assert (signals.load, signals.device, signals.advice) == (0.42, None, "enough")
    assert signals.models == {
        "resnet": ModelSignal(True, 0.25, 3.0),
        "bert": ModelSignal(False, 0.0, 1.5),
    }


async def test_a_connection_is_kept_from_one_question_to_the_next() -> None:
    async with FakeSidecar() as sidecar, sidecars() as asking:
        for _ in range(3):
            await asking.ask(pod(sidecar.port))
    assert len(sidecar.connections) == 1


async def test_keys_of_a_later_version_are_passed_over() -> None:
    assert read(json.dumps(said(hint="new")).encode()).load == 0.4


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"load": -0.1},
        {"load": "0.4"},
        {"load": 1e300},
        {"load": True},
        {"at_s": None},
        {"pinned_bytes": 1.5},
        {"pinned_bytes": 2**80},
        {"models": []},
        {"models": {"resnet": {"resident": True, "load": 0.1}}},
        {"models": {"resnet": model(-1.0)}},
        {"reachable": "yes"},
    ],
)
def test_what_is_not_signals_is_not_believed(change: dict[str, object]) -> None:
    with pytest.raises(Unanswered) as caught:
        read(json.dumps({**said(), **change}).encode())
    assert caught.value.outcome is Outcome.MALFORMED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b"\xff\xfe",
        json.dumps(said()).replace("0.4", "NaN").encode(),
        json.dumps(said()).replace("0.4", "1" + "0" * 5000).encode(),
    ],
    ids=["empty", "bare", "deep", "binary", "nan", "endless"],
)
def test_what_is_not_json_of_ours_is_not_believed(body: bytes) -> None:
    with pytest.raises(Unanswered) as caught:
        read(body)
    assert caught.value.outcome is Outcome.MALFORMED


async def test_a_slow_sidecar_is_given_up_on() -> None:
    assert await outcome_of(FakeSidecar(delay_s=5.0)) is Outcome.TIMEOUT


async def test_a_huge_answer_is_not_read_to_its_end() -> None:
    huge = b" " * (LARGEST_ANSWER_BYTES + 1)
    assert await outcome_of(FakeSidecar(huge)) is Outcome.TOO_LARGE


async def test_an_answer_that_would_inflate_is_not_inflated() -> None:
    body = gzip.compress(json.dumps(said()).encode())
    inflating = FakeSidecar(body, headers={"Content-Encoding": "gzip"})
    assert await outcome_of(inflating) is Outcome.MALFORMED


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_is_told_apart(status: int) -> None:
    assert await outcome_of(FakeSidecar(status=status)) is Outcome.REFUSED


async def test_a_redirect_is_not_followed() -> None:
    elsewhere = FakeSidecar(b"", status=302, headers={"Location": "http://127.0.0.1:1/"})
    assert await outcome_of(elsewhere) is Outcome.STATUS


async def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with sidecars() as asking:
            with pytest.raises(Unanswered) as caught:
                await asking.ask(pod(free.getsockname()[1]))
    assert caught.value.outcome is Outcome.UNREACHABLE


async def test_something_that_speaks_no_http_is_unreachable() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, sidecars() as asking:
        with pytest.raises(Unanswered) as caught:
            await asking.ask(pod(server.sockets[0].getsockname()[1]))
    assert caught.value.outcome is Outcome.UNREACHABLE


async def test_the_token_is_shown_and_read_again_when_it_changes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    async with FakeSidecar() as sidecar, sidecars(Files(token=token)) as asking:
        await asking.ask(pod(sidecar.port))
        token.write_text("the second\n")
        asking.credentials.reload()
        await asking.ask(pod(sidecar.port))
        token.unlink()
        asking.credentials.reload()
        await asking.ask(pod(sidecar.port))
    shown = [headers["Authorization"] for headers in sidecar.requests]
    assert shown == ["Bearer first", "Bearer the second", "Bearer the second"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path, "sidecars")


def serving(authority: Authority, host: str, client_authority: Authority) -> ssl.SSLContext:
    context = authority.issue("sidecar", hosts=[host]).server_context()
    context.load_verify_locations(client_authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_a_sidecar_is_asked_with_a_client_certificate(authority: Authority) -> None:
    mine = authority.issue("fleet")
    files = Files(
        ca=authority.certificate,
        name="sidecar.remora",
        certificate=mine.certificate,
        key=mine.key,
    )
    sidecar = FakeSidecar(context=serving(authority, "sidecar.remora", authority))
    async with sidecar, sidecars(files) as asking:
        assert (await asking.ask(pod(sidecar.port))).load == 0.4
    assert sidecar.peers[0]["subject"][0][0] == ("commonName", "fleet")


def _tls_protocols() -> list[SSLProtocol]:
    return [each for each in gc.get_objects() if isinstance(each, SSLProtocol)]


async def test_a_thousand_connections_over_tls_hold_no_large_buffers(authority: Authority) -> None:
    sidecar = FakeSidecar(context=authority.issue("sidecar", hosts=["x"]).server_context())
    before = {id(each) for each in _tls_protocols()}
    async with sidecar, sidecars(Files(ca=authority.certificate)) as asking:
        await asking.ask(pod(sidecar.port))
        sizes = [len(each.get_buffer(-1)) for each in _tls_protocols() if id(each) not in before]
    # Ours, and that of the sidecar, which is in this process too.
    assert sizes == [16 * 1024] * 2


async def test_without_a_name_any_certificate_of_the_ca_will_do(authority: Authority) -> None:
    mine = authority.issue("fleet")
    files = Files(ca=authority.certificate, certificate=mine.certificate, key=mine.key)
    sidecar = FakeSidecar(context=serving(authority, "whoever", authority))
    async with sidecar, sidecars(files) as asking:
        assert (await asking.ask(pod(sidecar.port))).load == 0.4


async def test_a_sidecar_with_another_name_is_not_believed(authority: Authority) -> None:
    files = Files(ca=authority.certificate, name="sidecar.remora")
    context = authority.issue("sidecar", hosts=["other"]).server_context()
    assert await outcome_of(FakeSidecar(context=context), files) is Outcome.UNREACHABLE


async def test_a_sidecar_of_another_ca_is_not_believed(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority.create(tmp_path / "other", "other")
    files = Files(ca=authority.certificate)
    context = other.issue("sidecar", hosts=["x"]).server_context()
    assert await outcome_of(FakeSidecar(context=context), files) is Outcome.UNREACHABLE


async def test_a_renewed_certificate_is_shown_without_a_restart(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    mine = authority.issue("before")
    files = Files(ca=authority.certificate, certificate=mine.certificate, key=mine.key)
    sidecar = FakeSidecar(context=serving(authority, "x", authority))
    async with sidecar, sidecars(files) as asking:
        await asking.ask(pod(sidecar.port))
        after = authority.issue("after")
        mine.certificate.write_bytes(after.certificate.read_bytes())
        asking.credentials.reload()
        asking.credentials.reload()
        await asking.ask(pod(sidecar.port))
        mine.key.write_bytes(after.key.read_bytes())
        asking.credentials.reload()
        await asking.ask(pod(sidecar.port))
        context = asking.credentials.context
        asking.credentials.reload()
        assert asking.credentials.context is context, "connections are kept while nothing changes"
    shown = [peer["subject"][0][0][1] for peer in sidecar.peers]
    assert shown == ["before", "before", "after"], "a certificate without its key is not taken"
    said_once = [each for each in caplog.messages if "credentials again, trying on" in each]
    assert len(said_once) == 1


def test_credentials_that_cannot_be_read_at_first_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="absent"):
        Credentials(Files(token=tmp_path / "absent"))
    (tmp_path / "token").write_text("two\nlines")
    with pytest.raises(CredentialsError, match="one printable token"):
        Credentials(Files(token=tmp_path / "token"))
    (tmp_path / "ca").write_text("no PEM")
    with pytest.raises(CredentialsError, match="ca"):
        Credentials(Files(ca=tmp_path / "ca"))


def test_what_a_sidecar_really_says_is_read() -> None:
    world, policy = gpu_world(guest("resnet", 2.0), guest("bert", 3.0)), policy_of()
    world.ask("resnet")
    decided = world.tick(policy)
    latest = Latest(policy, world.snapshot(), decided)
    for pressure in (Pressure(), Pressure(load=0.25, by_model={"resnet": 0.25})):
        told = signals(latest, pressure)
        answer = read(json.dumps(told).encode())
        assert isinstance(answer, Signals)
        assert answer.load == pressure.load
        assert answer.models.keys() == told["models"].keys()
