"""ModelStreamInfer: one stream of the client's, its requests each for a model of its own.

Owns one client's stream and the stream to Triton behind it. Requests go on in the order
they came, so one that waits for its model holds up those after it, as in a queue. A miss
comes back inside the stream; the request it belongs to is held and sent again.

While nothing is unanswered, the stream to Triton may end (Triton restarted) and is opened
anew with the next request. What was unanswered then has died with Triton.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc import aio
from tritonclient.grpc import service_pb2

from daemon.frontdoor.gate import Call, Gate
from daemon.frontdoor.naming import Malformed, parsed
from daemon.frontdoor.passage import NOT_CONNECTED, says_absent
from daemon.frontdoor.refusals import Outcome, Refusal
from daemon.frontdoor.sequences import Sequences
from daemon.frontdoor.visits import Protocol, Visit, Visits

# aio.ServicerContext; its published types lack half of what it has.
Context = Any
_EOF: Any = aio.EOF  # type: ignore[attr-defined]

# Requests up to this, and as many, are kept until they are answered, to be sent again on a miss.
KEPT_BYTES = 1024 * 1024
MOST_KEPT = 64
# How the answer that ends a request is marked, in the message's own bytes: a map's entry
# whose value is true. Reading tensors to find it would cost more than the whole way here.
_FINAL = b"triton_final_response\x12\x02\x08\x01"
_HEAD_BYTES = 4096
# The error is the message's first field, and is there only when it says something.
_ERROR_TAG = b"\x0a"
_ERRORS_AS_STATUS = ("triton_grpc_error", "true")


@dataclass(slots=True, eq=False)
class _Sent:
    """A request that Triton has and has not answered to the end.

    message: its bytes while it may have to be sent again; None when it may not.
    inside: counts it as inside its model until it is closed.
    upstream: the stream to Triton that it went into.
    """

    call: Call
    id: str
    message: bytes | None
    visit: Visit
    inside: ExitStack
    upstream: Any


@dataclass(slots=True, eq=False)
class Stream:
    """One client's stream.

    dial: opens a stream to Triton. lease_s: how long its models stay after its last message.
    """

    gate: Gate
    visits: Visits
    sequences: Sequences
    context: Context
    dial: Callable[[], Any]
    lease_s: float
    _upstream: Any = None
    _answering: asyncio.Task[None] | None = None
    _dead: asyncio.Future[tuple[grpc.StatusCode, str]] = field(init=False)
    _unanswered: list[_Sent] = field(default_factory=list)
    _resending: set[asyncio.Task[None]] = field(default_factory=set)
    _leased: set[str] = field(default_factory=set)
    _to_client: asyncio.Lock = field(default_factory=asyncio.Lock)
    _to_triton: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._dead = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Until the client has said all and heard all, or Triton has died over it."""
        serving = asyncio.create_task(self._serve())
        try:
            ends: set[asyncio.Future[Any]] = {serving, self._dead}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._dead.done():
                await self.context.abort(*self._dead.result())
            await serving
        finally:
            await self._end(serving)

    async def _serve(self) -> None:
        await self._read_client()
        # An answer may still be a miss, which is sent again in a stream of its own.
        while self._resending or self._upstream is not None:
            await asyncio.gather(*self._resending)
            if self._upstream is None or self._answering is None:
                continue
            upstream, answering = self._upstream, self._answering
            self._upstream = None
            await upstream.done_writing()
            await answering

    async def _end(self, serving: asyncio.Task[None]) -> None:
        tasks = [serving, *self._resending, *([self._answering] if self._answering else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._upstream is not None:
            self._upstream.cancel()
        for sent in list(self._unanswered):
            self._finish(sent, Outcome.CLIENT_GONE)
        for model in self._leased:
            self.gate.end_lease(model, self)

    async def _read_client(self) -> None:
        while (message := await self.context.read()) is not _EOF:
            await self._take(message)

    async def _take(self, message: bytes) -> None:
        began_s = self.gate.now_s()
        visit = Visit(Protocol.STREAM, "", "", began_s)
        try:
            request = parsed(message)
        except Malformed as error:
            visit.outcome = Outcome.MALFORMED
            self.visits.count(visit)
            await self._tell(Refusal(Outcome.MALFORMED, str(error)), "")
            return
        visit.model, visit.version = request.model_name, request.model_version
        left_s = self.context.time_remaining()
        deadline_s = None if left_s is None else began_s + left_s
        call = Call(visit.model, visit.version, len(message), began_s, deadline_s)
        self.sequences.saw_grpc(request)
        await self._send(call, request.id, message, visit)

    async def _send(self, call: Call, request_id: str, message: bytes, visit: Visit) -> None:
        """Sends one request as soon as its model can take it, or tells why it cannot."""
        try:
            waited = await self.gate.admit(call)
        except Refusal as refusal:
            visit.outcome = refusal.outcome
            self.visits.count(visit)
            await self._tell(refusal, request_id)
            return
        if waited:
            visit.waited_s += self.gate.now_s() - call.began_s
        self._lease(call.model)
        async with self._to_triton:
            if self._upstream is None:
                self._upstream = self.dial()
                self._answering = asyncio.create_task(self._answer(self._upstream))
            upstream = self._upstream
            self._enter(call, request_id, message, visit, waited=waited)
            try:
                await upstream.write(message)
            except (aio.AioRpcError, asyncio.InvalidStateError):
                # That the stream has ended is told by its reader, with the reason.
                return

    def _enter(
        self, call: Call, request_id: str, message: bytes, visit: Visit, *, waited: bool
    ) -> None:
        inside = ExitStack()
        inside.enter_context(self.gate.inside(call, waited=waited))
        keep = len(message) <= KEPT_BYTES and len(self._unanswered) < MOST_KEPT
        kept = message if keep else None
        self._unanswered.append(_Sent(call, request_id, kept, visit, inside, self._upstream))

    async def _answer(self, upstream: Any) -> None:
        """Passes Triton's answers on until its stream ends."""
        try:
            while (answer := await upstream.read()) is not _EOF:
                await self._pass_on(answer)
            code, details = await upstream.code(), await upstream.details()
        except aio.AioRpcError as error:
            code, details = error.code(), error.details()
        if self._upstream is upstream:
            self._upstream = None
        self._ended(upstream, code, details or "")

    def _ended(self, upstream: Any, code: grpc.StatusCode, details: str) -> None:
        """What becomes of the requests that the ended stream had not answered."""
        lost = [sent for sent in self._unanswered if sent.upstream is upstream]
        if code is grpc.StatusCode.OK:
            # Not every answer that is the last says so.
            for sent in lost:
                self._finish(sent, Outcome.SERVED)
            return
        for sent in lost:
            if NOT_CONNECTED in details and sent.message is not None:
                self._resend(sent)
            else:
                self._finish(sent, Outcome.TRITON_FAILED)
                if not self._dead.done():
                    self._dead.set_result((code, details))

    async def _pass_on(self, answer: bytes) -> None:
        head = answer[:_HEAD_BYTES]
        if head[:1] == _ERROR_TAG:
            error = service_pb2.ModelStreamInferResponse.FromString(answer)
            sent = self._failed(error)
            if sent is not None and self._may_resend(sent, error.error_message):
                self._resend(sent)
                return
            ends = True
        else:
            sent = self._asked(answer) if len(self._unanswered) != 1 else self._unanswered[0]
            ends = _FINAL in head
        if sent is not None:
            self._lease(sent.call.model)
            if ends:
                self._finish(sent, Outcome.SERVED)
        async with self._to_client:
            await self.context.write(answer)

    def _asked(self, answer: bytes) -> _Sent | None:
        """Which request ``answer`` is for: by its id, else the oldest of its model."""
        response = service_pb2.ModelStreamInferResponse.FromString(answer).infer_response
        return self._oldest(response.id, response.model_name)

    def _failed(self, error: service_pb2.ModelStreamInferResponse) -> _Sent | None:
        found = self._oldest(error.infer_response.id, "")
        return found or next(
            (s for s in self._unanswered if f"'{s.call.model}'" in error.error_message), None
        )

    def _oldest(self, request_id: str, model: str) -> _Sent | None:
        for sent in self._unanswered:
            if sent.id == request_id and (not model or sent.call.model == model):
                return sent
        return None

    def _may_resend(self, sent: _Sent, text: str) -> bool:
        return sent.message is not None and says_absent(sent.call.model, text)

    def _resend(self, sent: _Sent) -> None:
        """Holds a request that came too late for its model, beside those that go on."""
        self._unanswered.remove(sent)
        sent.inside.close()
        self.gate.distrust(sent.call.model)
        assert sent.message is not None
        sending = self._send(sent.call, sent.id, sent.message, sent.visit)
        task = asyncio.create_task(sending)
        self._resending.add(task)
        task.add_done_callback(self._resending.discard)

    def _finish(self, sent: _Sent, outcome: Outcome) -> None:
        self._unanswered.remove(sent)
        sent.inside.close()
        sent.visit.outcome = outcome
        self.visits.count(sent.visit)

    def _lease(self, model: str) -> None:
        self._leased.add(model)
        self.gate.lease(model, self, self.lease_s)

    async def _tell(self, refusal: Refusal, request_id: str) -> None:
        """Refuses one request the way Triton does: in the stream, which goes on."""
        if _ERRORS_AS_STATUS in (self.context.invocation_metadata() or ()):
            trailing = tuple(refusal.headers.items())
            await self.context.abort(refusal.grpc_status, refusal.text, trailing)
        response = service_pb2.ModelStreamInferResponse(error_message=refusal.text)
        response.infer_response.id = request_id
        async with self._to_client:
            await self.context.write(response.SerializeToString())
