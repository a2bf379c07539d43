"""ModelStreamInfer: one stream of the client's, its requests each for a model of its own.

Owns one client's stream and the stream to Triton behind it. Requests go on in the order
they came, so one that waits for its model holds up those after it, as in a queue. A miss
comes back inside the stream; the request it belongs to is held and sent again. Triton
answers in order too, and so do we for each model; only requests for other models, which
were under way already, may overtake one that is sent again.

While nothing is unanswered, the stream to Triton may end (Triton restarted) and is opened
anew with the next request. What was unanswered then has died with Triton. We end it
ourselves as soon as a model that it has carried is wanted no more: Triton does not let go
of a model, however long its unload has been asked for, while a stream is open that has
ever asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from grpc import aio
from tritonclient.grpc import service_pb2

from daemon.frontdoor.attempts import came_by_gateway
from daemon.frontdoor.gate import Call, Gate
from daemon.frontdoor.naming import Malformed, parsed
from daemon.frontdoor.passage import NOT_CONNECTED, says_absent
from daemon.frontdoor.refusals import RETRY, Outcome, Refusal
from daemon.frontdoor.sequences import Sequences
from daemon.frontdoor.visits import Protocol, Visit, Visits

# aio.ServicerContext; its published types lack half of what it has.
Context = Any
Trailing = tuple[tuple[str, str], ...]
_EOF: Any = aio.EOF  # type: ignore[attr-defined]

# So many bytes of requests are kept until they are answered, to be sent again on a miss.
KEPT_BYTES = 8 * 1024 * 1024
# How often a stream looks whether it keeps a model that is wanted no more.
WATCH_EVERY_S = 1.0
# How the answer that ends a request is marked, in the message's own bytes: a map's entry
# whose value is true. Reading tensors to find it would cost more than the whole way here.
_FINAL = b"triton_final_response\x12\x02\x08\x01"
_HEAD_BYTES = 4096
# The error is the message's first field, and is there only when it says something.
_ERROR_TAG = b"\x0a"
_ERRORS_AS_STATUS = ("triton_grpc_error", "true")
_WANTS_END = "triton_enable_empty_final_response"


def _asks_for_end() -> bytes:
    """Behind any request, makes Triton say when it is answered, also where no tensor does.

    Many a model ends its answer with a message of its own, which Triton else keeps to itself.
    """
    request = service_pb2.ModelInferRequest()
    request.parameters[_WANTS_END].bool_param = True
    return bytes(request.SerializeToString())


_ASKING_FOR_END = _asks_for_end()


@dataclass(slots=True, eq=False)
class _Asked:
    """One request of the client's, until it is answered to the end.

    message: its bytes, while it may have to be sent; None when it will not be sent again.
    wants_end: the client asked for ends without tensors; else they are for us alone.
    inside: counts it as inside its model until it is closed.
    upstream: the stream to Triton that it went into.
    """

    call: Call
    id: str
    message: bytes | None
    wants_end: bool
    visit: Visit
    inside: ExitStack = field(default_factory=ExitStack)
    upstream: Any = None


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
    _begun: bool = False
    _upstream: Any = None
    _answering: asyncio.Task[None] | None = None
    _carried: dict[str, float] = field(default_factory=dict)
    _dead: asyncio.Future[tuple[grpc.StatusCode, str, Trailing]] = field(init=False)
    _unanswered: list[_Asked] = field(default_factory=list)
    _kept_bytes: int = 0
    _resending: set[asyncio.Task[None]] = field(default_factory=set)
    _leased: set[str] = field(default_factory=set)
    _to_client: asyncio.Lock = field(default_factory=asyncio.Lock)
    _to_triton: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._dead = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Until the client has said all and heard all, or Triton has died over it."""
        serving, watching = asyncio.create_task(self._serve()), asyncio.create_task(self._watch())
        try:
            ends: set[asyncio.Future[Any]] = {serving, self._dead}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._dead.done():
                await self.context.abort(*self._dead.result())
            await serving
        finally:
            await self._end(serving, watching)

    async def _serve(self) -> None:
        while (message := await self.context.read()) is not _EOF:
            await self._take(message)
        # An answer may still be a miss, which is sent again in a stream of its own.
        while self._resending or self._upstream is not None:
            await asyncio.gather(*self._resending)
            await self._hang_up()

    async def _watch(self) -> None:
        """Hangs up in time, so that models can leave when their leases end, or sooner."""
        while True:
            await asyncio.sleep(min(WATCH_EVERY_S, self.lease_s / 4))
            old_s = self.gate.now_s() - self.lease_s / 2
            if any(
                used_s < old_s or not self.gate.is_open(model)
                for model, used_s in self._carried.items()
            ):
                await self._hang_up()

    async def _hang_up(self) -> None:
        """Ends the stream to Triton, after its last answer; the next request opens another.

        It waits for that, or else answers of the new one could overtake those of the old.
        """
        async with self._to_triton:
            if self._upstream is not None and self._answering is not None:
                await self._upstream.done_writing()
                await self._answering

    async def _end(self, *tasks: asyncio.Task[None]) -> None:
        all_tasks = [*tasks, *self._resending, *([self._answering] if self._answering else [])]
        for task in all_tasks:
            task.cancel()
        await asyncio.gather(*all_tasks, return_exceptions=True)
        if self._upstream is not None:
            self._upstream.cancel()
        for asked in list(self._unanswered):
            self._finish(asked, Outcome.CLIENT_GONE)
        for model in self._leased:
            self.gate.end_lease(model, self)

    async def _take(self, message: bytes) -> None:
        if self._resending:
            await asyncio.wait(self._resending)
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
        call = Call(
            visit.model,
            visit.version,
            len(message),
            began_s,
            deadline_s,
            movable=self._is_movable(len(message)),
        )
        self.sequences.saw_grpc(request)
        wants_end = _WANTS_END in request.parameters and request.parameters[_WANTS_END].bool_param
        if not wants_end:
            message += _ASKING_FOR_END
        await self._send(_Asked(call, request.id, message, wants_end, visit))

    async def _send(self, asked: _Asked) -> None:
        """Sends one request as soon as its model can take it, or tells why it cannot."""
        waited = False
        while True:
            try:
                waited |= await self._admit(asked)
            except Refusal as refusal:
                asked.visit.outcome = refusal.outcome
                self.visits.count(asked.visit)
                if refusal.outcome is Outcome.CLOSING and not self._begun:
                    # Envoy brings the stream to our successor.
                    self._die(refusal.grpc_status, refusal.text, ((RETRY, "1"),))
                elif refusal.outcome is Outcome.SENT_ELSEWHERE:
                    self._die(refusal.grpc_status, refusal.text, tuple(refusal.headers.items()))
                else:
                    await self._tell(refusal, asked.id)
                return
            async with self._to_triton:
                # Whoever had to queue here may come too late.
                if self.gate.is_open(asked.call.model):
                    await self._write(asked, waited=waited)
                    return

    def _is_movable(self, size_bytes: int) -> bool:
        """Whether the gateway can bring the whole stream to another pod: it has heard nothing."""
        if self._begun or size_bytes > KEPT_BYTES:
            return False
        return came_by_gateway(dict(self.context.invocation_metadata() or ()))

    async def _admit(self, asked: _Asked) -> bool:
        began_s = self.gate.now_s()
        waited = await self.gate.admit(asked.call)
        if waited:
            asked.visit.waited_s += self.gate.now_s() - began_s
            asked.call = replace(asked.call, counted=True)
        return waited

    async def _write(self, asked: _Asked, *, waited: bool) -> None:
        async with self._to_client:
            if not self._begun:
                # Envoy asks again for a stream that broke before it heard anything of it. From
                # here on Triton may execute, and it must not.
                self._begun = True
                await self.context.send_initial_metadata(())
        if self._upstream is None:
            self._upstream = self.dial()
            self._answering = asyncio.create_task(self._answer(self._upstream))
            self._carried.clear()
        message = asked.message
        self._enter(asked, waited=waited)
        try:
            await asked.upstream.write(message)
        except (aio.AioRpcError, asyncio.InvalidStateError):
            # That the stream has ended is told by its reader, with the reason.
            return

    def _enter(self, asked: _Asked, *, waited: bool) -> None:
        self._lease(asked.call.model)
        asked.upstream = self._upstream
        asked.inside.enter_context(self.gate.inside(asked.call, waited=waited))
        size_bytes = len(asked.message or b"")
        if self._kept_bytes + size_bytes <= KEPT_BYTES:
            self._kept_bytes += size_bytes
        else:
            asked.message = None
        self._unanswered.append(asked)

    def _leave(self, asked: _Asked) -> None:
        self._unanswered.remove(asked)
        self._kept_bytes -= len(asked.message or b"")
        asked.inside.close()

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
            self._carried.clear()
        self._ended(upstream, code, details or "")

    def _ended(self, upstream: Any, code: grpc.StatusCode, details: str) -> None:
        """What becomes of the requests that the ended stream had not answered."""
        lost = [asked for asked in self._unanswered if asked.upstream is upstream]
        for asked in lost:
            if code is grpc.StatusCode.OK:
                # Not every answer that is the last says so.
                self._finish(asked, Outcome.SERVED)
            elif NOT_CONNECTED in details and asked.message is not None:
                self._resend(asked)
            elif self._may_resend(asked, details):
                # Triton was asked to tell of errors by the status.
                self._resend(asked)
            else:
                self._finish(asked, Outcome.TRITON_FAILED)
                self._die(code, details)

    def _die(self, code: grpc.StatusCode, details: str, trailing: Trailing = ()) -> None:
        if not self._dead.done():
            self._dead.set_result((code, details, trailing))

    async def _pass_on(self, answer: bytes) -> None:
        head = answer[:_HEAD_BYTES]
        if head[:1] == _ERROR_TAG:
            error = service_pb2.ModelStreamInferResponse.FromString(answer)
            asked = self._failed(error)
            if asked is not None and self._may_resend(asked, error.error_message):
                self._resend(asked)
                return
            ends = True
        else:
            asked = self._of(answer) if len(self._unanswered) != 1 else self._unanswered[0]
            ends = _FINAL in head
        if asked is not None:
            self._lease(asked.call.model)
            if ends:
                self._finish(asked, Outcome.SERVED)
                if not asked.wants_end and _is_bare(answer):
                    return
        async with self._to_client:
            await self.context.write(answer)

    def _of(self, answer: bytes) -> _Asked | None:
        """Which request ``answer`` is for: by its id, else the oldest of its model."""
        response = service_pb2.ModelStreamInferResponse.FromString(answer).infer_response
        found = self._with_id(response.id)
        return next((asked for asked in found if asked.call.model == response.model_name), None)

    def _failed(self, error: service_pb2.ModelStreamInferResponse) -> _Asked | None:
        """Whose error it is; where ids do not tell, the model's name in the words may."""
        found = self._with_id(error.infer_response.id)
        named = (asked for asked in found if f"'{asked.call.model}'" in error.error_message)
        return next(named, found[0] if found else None)

    def _with_id(self, request_id: str) -> list[_Asked]:
        return [asked for asked in self._unanswered if asked.id == request_id]

    def _may_resend(self, asked: _Asked, text: str) -> bool:
        return asked.message is not None and says_absent(asked.call.model, text)

    def _resend(self, asked: _Asked) -> None:
        """Holds a request that came too late for its model, beside those that go on."""
        self._leave(asked)
        asked.call = replace(asked.call, movable=False)
        self.gate.distrust(asked.call.model, replayed=asked.call.counted)
        task = asyncio.create_task(self._send(asked))
        self._resending.add(task)
        task.add_done_callback(self._resending.discard)

    def _finish(self, asked: _Asked, outcome: Outcome) -> None:
        self._leave(asked)
        asked.visit.outcome = outcome
        self.visits.count(asked.visit)

    def _lease(self, model: str) -> None:
        self._leased.add(model)
        self._carried[model] = self.gate.now_s()
        self.gate.lease(model, self, self.lease_s)

    async def _tell(self, refusal: Refusal, request_id: str) -> None:
        """Refuses one request the way Triton does: in the stream, which goes on."""
        if _ERRORS_AS_STATUS in (self.context.invocation_metadata() or ()):
            self._die(refusal.grpc_status, refusal.text, tuple(refusal.headers.items()))
            return
        response = service_pb2.ModelStreamInferResponse(error_message=refusal.text)
        response.infer_response.id = request_id
        async with self._to_client:
            self._begun = True
            await self.context.write(response.SerializeToString())


def _is_bare(answer: bytes) -> bool:
    """Whether a message says nothing but that its request is answered."""
    if len(answer) > _HEAD_BYTES:
        return False
    told = service_pb2.ModelStreamInferResponse.FromString(answer)
    response = told.infer_response
    return not (told.error_message or response.outputs or response.raw_output_contents)
