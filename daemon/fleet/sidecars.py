"""One question to one sidecar: what it says, or why it is not believed.

Owns the wire and its bounds. A sidecar shares its pod with what others put there, so nothing it
says is trusted further than its shape and size are checked.
"""

from asyncio.sslproto import SSLProtocol
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal

import aiohttp
from pydantic import ConfigDict, TypeAdapter, ValidationError
from yarl import URL

from daemon.fleet.credentials import Credentials
from daemon.fleet.samples import Pod, Signals

PATH = "/v1/signals"

# A hundred models take some 8 kB.
LARGEST_ANSWER_BYTES = 512 * 1024

_TLS_BUFFER_BYTES = 16 * 1024


class Outcome(StrEnum):
    """What became of a question."""

    KNOWN = "known"
    TRITON_UNREACHABLE = "triton-unreachable"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    STATUS = "status"
    TOO_LARGE = "too-large"
    MALFORMED = "malformed"


class Unanswered(RuntimeError):
    """The sidecar gave no answer that can be used."""

    def __init__(self, outcome: Outcome, what: str) -> None:
        super().__init__(what)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class _Answer(Signals):
    """Signals as they come over the wire; keys that a later version adds are passed over."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True)
    version: Literal[1]


_ANSWER = TypeAdapter(_Answer)


class Sidecars:
    """Questions on connections that are kept; close it."""

    def __init__(self, credentials: Credentials, timeout_s: float, interval_s: float) -> None:
        """interval_s: how often each is asked; a connection is kept from one time to the next."""
        self.credentials = credentials
        if credentials.context is not None:
            # asyncio holds a buffer of 256 KiB for each connection over TLS, which is 250 MiB for
            # a thousand sidecars. It has no other way to say so; an answer takes one read or two.
            SSLProtocol.max_size = _TLS_BUFFER_BYTES
        # How many are asked at once is bounded by who asks.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3 * interval_s)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            # A small answer that inflates is a large one.
            auto_decompress=False,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def ask(self, pod: Pod) -> Signals:
        """Raises Unanswered."""
        assert pod.ip is not None
        try:
            body = await self._get(pod.ip, pod.port)
        except TimeoutError:
            raise Unanswered(Outcome.TIMEOUT, "no answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unanswered(Outcome.UNREACHABLE, str(error) or type(error).__name__) from None
        return read(body)

    async def close(self) -> None:
        await self._session.close()

    async def _get(self, ip: str, port: int) -> bytes:
        mine = self.credentials
        async with self._session.get(
            URL.build(scheme=mine.scheme, host=ip, port=port, path=PATH),
            headers=mine.headers,
            ssl=mine.context if mine.context is not None else True,
            server_hostname=mine.name,
            allow_redirects=False,
        ) as response:
            if response.status in (401, 403):
                raise Unanswered(Outcome.REFUSED, f"status {response.status}")
            if response.status != 200:
                raise Unanswered(Outcome.STATUS, f"status {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > LARGEST_ANSWER_BYTES:
                    raise Unanswered(Outcome.TOO_LARGE, f"more than {LARGEST_ANSWER_BYTES} bytes")
            return bytes(body)


def read(body: bytes) -> Signals:
    """Raises Unanswered for anything but signals in their version 1."""
    try:
        return _ANSWER.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Unanswered(Outcome.MALFORMED, f"{where}: {first['msg']}") from None
