"""A server may do as it likes: each way it fails has a name, and none takes long or much."""

import gzip
import json
import socket
import ssl
import threading
from pathlib import Path

import pytest

from daemon.foresight import server as asking
from daemon.foresight.server import LARGEST_BYTES, Address, AskError, Server, TooLarge
from tests.daemon.foresight.played import played, whole
from tests.simulations.recording.gate import certificate, gate
from tests.simulations.recording.prometheus import Prometheus, Tools


def said(answering: object, address: type[Address] = Address) -> str:
    """What is said of a server that answers so."""
    with played(answering) as url, pytest.raises(AskError) as error:  # type: ignore[arg-type]
        Server(address(url)).now("up")
    return str(error.value)


def good(*series: object) -> bytes:
    return json.dumps({"status": "success", "data": {"result": list(series)}}).encode()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "what answers there is not a Prometheus"),
        (b"<html>hello</html>", "what answers there is not a Prometheus"),
        (b"{}", "what answers there is not a Prometheus"),
        (b'{"data": 3}', "what answers there is not a Prometheus"),
        (b'{"data": {"result": {}}}', "the query gives no series"),
        (b"[" * 100_000, "what answers there is not a Prometheus"),
        (b"\xff\xfe\x00", "what answers there is not a Prometheus"),
        (gzip.compress(good()), "what answers there is not a Prometheus"),
    ],
)
def test_an_answer_that_makes_no_sense_is_told(body: bytes, text: str) -> None:
    assert said(whole(body)) == text


def test_a_refusal_is_told_in_the_servers_words() -> None:
    body = b'{"status":"error","error":"parse error:\\n unexpected end"}'
    told = said(whole(body, "400 Bad Request"))
    assert told == "400 Bad Request: parse error: unexpected end"
    assert said(whole(b"x" * 10_000, "503 Away")) == f"503 Away: {'x' * 200}"


def test_nobody_is_followed_elsewhere() -> None:
    location = "Location: http://127.0.0.1:1/api/v1/query"
    assert said(whole(b"there", "302 Found", location)) == "302 Found: there"


def test_an_answer_that_is_too_large_is_not_read_to_its_end() -> None:
    with played(whole(b" " * (LARGEST_BYTES + 1))) as url, pytest.raises(TooLarge):
        Server(Address(url)).now("up")
    less = b'{"error": "exceeded maximum resolution of 11,000 points per timeseries"}'
    with played(whole(less, "400 Bad Request")) as url, pytest.raises(TooLarge):
        Server(Address(url)).now("up")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "TIMEOUT_S", 0.3)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_hangs_or_drips_is_given_up() -> None:
    done = threading.Event()

    def hang(_: socket.socket) -> None:
        done.wait(5)

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not done.wait(0.05):
            connection.sendall(b" ")

    assert said(hang) == "no answer within 0.3 s"
    assert said(drip) == "no whole answer within 0.3 s"
    done.set()


def test_a_connection_that_ends_early_or_is_refused_is_told() -> None:
    def torn(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

    assert said(torn).startswith(("no answer", "what answers"))
    assert said(lambda connection: connection.close()).startswith("no answer")
    with pytest.raises(AskError, match=r"^no answer: .*refused"):
        Server(Address("http://127.0.0.1:1")).now("up")


@pytest.mark.parametrize(
    ("line", "header"),
    [("user:pass:word\n", "Basic dXNlcjpwYXNzOndvcmQ="), ("to.ken\n", "Bearer to.ken")],
)
def test_credentials_are_read_each_time(tmp_path: Path, line: str, header: str) -> None:
    asked: list[str] = []

    def answer(connection: socket.socket) -> None:
        whole(good())(connection)

    file = tmp_path / "credentials"
    with played(answer) as url:
        server = Server(Address(url, credentials=file))
        server._session.hooks["response"].append(
            lambda response, **_: asked.append(response.request.headers["Authorization"])
        )
        with pytest.raises(AskError, match="credentials: "):
            server.now("up")
        file.write_text(line)
        assert server.now("up") == []
        file.write_text("other")
        server.now("up")
        file.write_text("a\nb")
        with pytest.raises(AskError, match="is not one line"):
            server.now("up")
    assert asked == [header, "Bearer other"]


def test_a_server_behind_a_private_authority_needs_its_certificate(
    tools: Tools, tmp_path: Path
) -> None:
    chain, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    with Prometheus(tools, tmp_path) as prometheus:
        prometheus.wait_live()
        with gate(prometheus.address, context) as door:
            with pytest.raises(AskError, match="TLS failed"):
                Server(Address(door.url)).now("up")
            Server(Address(door.url, ca=chain)).now("up")
            with pytest.raises(AskError):
                Server(Address(door.url, ca=tmp_path / "absent")).now("up")


def test_a_real_server_says_what_is_wrong_with_a_query(tools: Tools, tmp_path: Path) -> None:
    with Prometheus(tools, tmp_path) as prometheus:
        prometheus.wait_live()
        server = Server(Address(prometheus.url))
        assert list(server.now("up")) == []
        with pytest.raises(AskError, match="parse error"):
            server.now("sum by (")
        with pytest.raises(TooLarge, match="maximum resolution"):
            server.stepped("up", 0, 1_000_000, 60)
        (series,) = server.stepped("vector(2)", 600, 720, 60)
        assert [float(value) for _, value in series["values"]] == [2.0] * 3
