"""The front door's HTTP side: raw bytes in, raw bytes out.

Owns the translation between HTTP and a passage. A body is read only when its model can
take it, so a request that waits costs its socket and no more.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from daemon.frontdoor.attempts import BETWEEN_US, attempt
from daemon.frontdoor.gate import Call, Gate
from daemon.frontdoor.naming import Named, is_denied, named_by_path
from daemon.frontdoor.passage import NotSent, Passage, says_absent
from daemon.frontdoor.refusals import OUR_LOADS, RETRY, Outcome, Refusal
from daemon.frontdoor.sequences import Sequences
from daemon.frontdoor.visits import Protocol, Visit, Visits
from daemon.triton import Triton

# A body up to this is kept while it is on its way, so that it can be sent a second time.
KEPT_BODY_BYTES = 1024 * 1024
# An answer up to this is read whole, which is quicker than passing it on in pieces.
WHOLE_ANSWER_BYTES = 1024 * 1024
# What an unread body can take of our memory: the buffers of its socket fill, and no more comes.
UNREAD_BYTES = 384 * 1024
# How long a client may take to send what is kept of its body.
BODY_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 2.0
_NOT_PASSED_ON = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        *BETWEEN_US,
    )
)
_MISS_STATUSES = (400, 404, 503)


Body = bytes | AsyncIterable[bytes] | None
"""Whole where it is kept, else as it comes; None without one."""

log = logging.getLogger("remora.door.http")


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether it tells of our own trouble; what a client wrote wrong, the client is told."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


log.addFilter(_is_ours)


@dataclass(slots=True)
class _Answer:
    """Triton's answer; ``body`` is None while it is still coming."""

    response: aiohttp.ClientResponse
    body: bytes | None
    is_miss: bool = False


@dataclass(slots=True)
class HttpDoor:
    """Answers HTTP requests; ``triton_http`` is Triton's ``host:port``."""

    gate: Gate
    triton: Triton
    triton_http: str
    visits: Visits
    sequences: Sequences
    _session: aiohttp.ClientSession = field(init=False)

    def __post_init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            # Triton is a neighbour: a proxy that the environment names is for the world outside.
            trust_env=False,
        )

    def server(self) -> web.Server:
        return web.Server(
            self.handle,
            access_log=None,
            logger=log,
            auto_decompress=False,
            keepalive_timeout=75.0,
            # Who has gone waits no longer.
            handler_cancellation=True,
        )

    async def close(self) -> None:
        await self._session.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        answer = await self._handle(request)
        if self.gate.lets_go and not answer.prepared:
            answer.force_close()
        return answer

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.message.path
        # What follows a # would not be sent on, and a load would look like something else.
        if not path.startswith("/") or "#" in path:
            return _refused(Refusal(Outcome.MALFORMED, "the path must begin with / and have no #"))
        if request.method == "HEAD":
            # Triton answers one only to refuse it, with a body, which no client may read.
            return web.Response(status=405)
        if is_denied(path):
            return _refused(Refusal(Outcome.DENIED, OUR_LOADS))
        named = named_by_path(path)
        if named is None:
            return await self._plain(request, path)
        visit = Visit(Protocol.HTTP, named.model, named.version, self.gate.now_s())
        with self.visits.counted(visit):
            return await self._gated(request, path, named, visit)

    async def _plain(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Asks Triton whatever is loaded, and only once."""
        try:
            answer = await self._send(request, path, await _body(request), "")
        except NotSent as error:
            return _refused(Refusal(Outcome.TRITON_FAILED, str(error), 1.0))
        except Refusal as refusal:
            return _refused(refusal)
        return await _passed_on(request, answer)

    async def _gated(
        self, request: web.BaseRequest, path: str, named: Named, visit: Visit
    ) -> web.StreamResponse:
        tried = attempt(request.headers, visit.began_s)
        call = Call(
            named.model,
            named.version,
            body_bytes=min(request.content_length or 0, UNREAD_BYTES),
            began_s=tried.began_s,
            deadline_s=tried.deadline_s,
            counted=not tried.is_first,
            movable=tried.is_movable,
        )
        passage = Passage(self.gate, self.triton, call)
        try:
            if tried.can_be_replayed:
                await passage.through_envoy(tried.number)
                visit.outcome = Outcome.RELEASED
                return web.Response(status=503, headers={RETRY: "1"})
            kept = _Kept(request)

            async def send() -> _Answer:
                return await self._send(request, path, await kept.body(), named.model)

            answer = await passage.through_us(send)
            visit.outcome = Outcome.SERVED
            visit.status = answer.response.status
            # An answer that comes in pieces keeps its request inside until the last of them.
            with self.gate.inside(passage.call, waited=False):
                return await _passed_on(request, answer)
        except Refusal as refusal:
            visit.outcome = refusal.outcome
            return _refused(refusal)
        finally:
            visit.waited_s = passage.waited_s

    async def _send(
        self,
        request: web.BaseRequest,
        path: str,
        body: Body,
        model: str,
    ) -> _Answer:
        """One attempt. Raises NotSent, and Refusal when Triton died over it."""
        if model and isinstance(body, bytes):
            self.sequences.saw_http(model, request.headers, body)
        url = URL(f"http://{self.triton_http}{path}", encoded=True)
        try:
            response = await self._session.request(
                request.method,
                url,
                headers=_end_to_end(request.headers),
                data=body,
                allow_redirects=False,
            )
            return await _read(response, model)
        except aiohttp.ClientConnectorError as error:
            raise NotSent(f"Triton is unreachable: {error.strerror or error}") from None
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            said = f"Triton went away over this request: {type(error).__name__}"
            raise Refusal(Outcome.TRITON_FAILED, said, 1.0) from None


@dataclass(slots=True)
class _Kept:
    """A request's body, read when first asked for, and kept where it is small."""

    request: web.BaseRequest
    _asked: bool = False
    _body: Body = None

    async def body(self) -> Body:
        if not self._asked:
            self._asked = True
            self._body = await _body(self.request)
        elif self._body is not None and not isinstance(self._body, bytes):
            text = "the model left while a large body was on its way; send it again"
            raise Refusal(Outcome.TRITON_FAILED, text, 1.0)
        return self._body


async def _body(request: web.BaseRequest) -> Body:
    """The body whole where it is small, else as it comes; None without one."""
    if not request.body_exists:
        return None
    content = request.content
    try:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if (request.content_length or 0) > KEPT_BODY_BYTES:
            return content
        async with asyncio.timeout(BODY_TIMEOUT_S):
            begun = await _begin(content)
    except TimeoutError:
        raise Refusal(Outcome.MALFORMED, f"no body within {BODY_TIMEOUT_S:g} s") from None
    except (aiohttp.ClientError, web.HTTPException, OSError) as error:
        raise Refusal(Outcome.MALFORMED, f"the body ended early: {error}") from None
    return begun if content.at_eof() else _whole(begun, content)


async def _begin(content: aiohttp.StreamReader) -> bytes:
    """The body, or as much of one without a known length as is kept."""
    pieces, size = [], 0
    while size < KEPT_BODY_BYTES and not content.at_eof():
        piece = await content.readany()
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


async def _whole(begun: bytes, content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    yield begun
    async for piece in content.iter_any():
        yield piece


async def _read(response: aiohttp.ClientResponse, model: str) -> _Answer:
    may_miss = bool(model) and response.status in _MISS_STATUSES
    length = response.content_length
    if not may_miss and (length is None or length > WHOLE_ANSWER_BYTES):
        return _Answer(response, None)
    body = await response.read()
    is_miss = may_miss and says_absent(model, body.decode(errors="replace"))
    return _Answer(response, body, is_miss)


async def _passed_on(request: web.BaseRequest, answer: _Answer) -> web.StreamResponse:
    """Triton's answer as it came, piece by piece where it is long or has no known end."""
    response, headers = answer.response, _end_to_end(answer.response.headers)
    if answer.body is not None:
        headers.popall("Content-Length", None)
        return web.Response(
            status=response.status, reason=response.reason, headers=headers, body=answer.body
        )
    passed = web.StreamResponse(status=response.status, reason=response.reason, headers=headers)
    try:
        await passed.prepare(request)
        async for piece in response.content.iter_any():
            await passed.write(piece)
        await passed.write_eof()
    finally:
        # Also when the client has gone, or else Triton would go on for nobody.
        response.close()
    return passed


def _refused(refusal: Refusal) -> web.Response:
    return web.Response(
        status=refusal.http_status,
        headers=refusal.headers,
        text=json.dumps({"error": refusal.text}),
        content_type="application/json",
    )


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """All headers but those of this one connection, and those between Envoy and us."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if (low := name.lower()) not in _NOT_PASSED_ON and low not in named
    )
