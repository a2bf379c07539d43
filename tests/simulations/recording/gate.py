"""A door before a real server, which may fail, ask for a token, be slow, and counts who comes."""

import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass
class Gate:
    """failures: statuses still to be given before anything passes. asked: paths that came."""

    address: str
    url: str = ""
    failures: list[int] = field(default_factory=list)
    token: str | None = None
    delay_s: float = 0.0
    asked: list[str] = field(default_factory=list)


@contextmanager
def gate(address: str, context: ssl.SSLContext | None = None) -> Iterator[Gate]:
    """In front of ``address``; with TLS where a context is given."""
    door = Gate(address)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            door.asked.append(self.path)
            time.sleep(door.delay_s)
            # Whoever asked may have been killed meanwhile.
            with suppress(ConnectionError):
                self._give(*self._answer())

        def _answer(self) -> tuple[int, bytes]:
            if door.token is not None and self.headers["Authorization"] != f"Bearer {door.token}":
                return 401, b"who are you?"
            if door.failures:
                return door.failures.pop(0), b"<html>upstream is away</html>"
            with closing(HTTPConnection(door.address, timeout=30)) as connection:
                connection.request("GET", self.path)
                answer = connection.getresponse()
                return answer.status, answer.read()

        def _give(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if context is None else "https"
    door.url = f"{scheme}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield door
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A chain for this machine's address, and its key; skips the test where nothing makes one."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-days", "1", "-subj", "/CN=gate", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        command = [*words, "-keyout", str(key), "-out", str(chain)]
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl makes the certificate, and it is not here")
    return chain, key
