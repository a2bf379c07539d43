"""The front door's gRPC side: whole messages in, whole messages out, as bytes.

Owns the translation between unary gRPC and a passage, and the gRPC server. Streams are
`streams`' matter.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
from grpc import aio

from daemon.frontdoor.attempts import BETWEEN_US, attempt
from daemon.frontdoor.gate import Call, Gate
from daemon.frontdoor.naming import (
    DENIED,
    GATED,
    PLAIN,
    STREAM,
    Malformed,
    named_by_message,
    parsed,
)
from daemon.frontdoor.passage import NOT_CONNECTED, NotSent, Passage, says_absent
from daemon.frontdoor.refusals import OUR_LOADS, RETRY, Outcome, Refusal
from daemon.frontdoor.sequences import Sequences
from daemon.frontdoor.streams import Context, Stream
from daemon.frontdoor.visits import Protocol, Visit, Visits
from daemon.triton import CHANNEL, Triton

Metadata = tuple[tuple[str, str | bytes], ...]

_MISS_CODES = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
_OUR_OWN = ("user-agent", "content-type", "te", "host", *BETWEEN_US)


@dataclass(slots=True)
class Answer:
    """A message, or the error that came in its place."""

    message: bytes
    error: aio.AioRpcError | None = None
    is_miss: bool = False


@dataclass(slots=True, eq=False)
class GrpcDoor(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Answers every method of Triton's service; ``triton_grpc`` is ``host:port``."""

    gate: Gate
    triton: Triton
    triton_grpc: str
    visits: Visits
    sequences: Sequences
    channel: Any = field(init=False)
    _calls: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.channel = aio.insecure_channel(self.triton_grpc, options=CHANNEL)

    async def close(self) -> None:
        await self.channel.close()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        method = details.method
        if method in GATED:
            return grpc.unary_unary_rpc_method_handler(self._gated(method))
        if method == STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        if method in PLAIN:
            return grpc.unary_unary_rpc_method_handler(self._plain(method))
        if method in DENIED:
            return grpc.unary_unary_rpc_method_handler(_deny)
        return None

    def _plain(self, method: str) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def answer(message: bytes, context: Context) -> bytes:
            try:
                return await _told(context, await self._send(method, message, context, ""))
            except NotSent as error:
                await _refuse(context, Refusal(Outcome.TRITON_FAILED, str(error), 1.0))

        return answer

    def _gated(self, method: str) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def answer(message: bytes, context: Context) -> bytes:
            now_s = self.gate.now_s()
            visit = Visit(Protocol.GRPC, "", "", now_s)
            with self.visits.counted(visit):
                try:
                    return await self._pass(method, message, context, visit)
                except Malformed as error:
                    visit.outcome = Outcome.MALFORMED
                    await _refuse(context, Refusal(Outcome.MALFORMED, str(error)))
                except Refusal as refusal:
                    visit.outcome = refusal.outcome
                    await _refuse(context, refusal)

        return answer

    async def _pass(self, method: str, message: bytes, context: Context, visit: Visit) -> bytes:
        # Named and forgotten: what waits is the message alone.
        visit.model, visit.version = named_by_message(message)
        tried = attempt(dict(context.invocation_metadata() or ()), visit.began_s)
        left_s = context.time_remaining()
        call = Call(
            visit.model,
            visit.version,
            body_bytes=len(message),
            began_s=tried.began_s,
            deadline_s=None if left_s is None else visit.began_s + left_s,
            counted=not tried.is_first,
            movable=tried.is_movable,
        )
        passage = Passage(self.gate, self.triton, call)
        try:
            if tried.can_be_replayed:
                await passage.through_envoy(tried.number)
                visit.outcome = Outcome.RELEASED
                await context.abort(grpc.StatusCode.UNAVAILABLE, "ready", ((RETRY, "1"),))

            async def send() -> Answer:
                if visit.model in self.gate.sequence_idle_s:
                    self.sequences.saw_grpc(parsed(message))
                return await self._send(method, message, context, visit.model)

            answer = await passage.through_us(send)
            visit.outcome = Outcome.SERVED
            visit.status = answer.error.code().value[0] if answer.error else 0
            return await _told(context, answer)
        finally:
            visit.waited_s = passage.waited_s

    async def _send(self, method: str, message: bytes, context: Context, model: str) -> Answer:
        """One attempt. Raises NotSent."""
        call = self._call(method)(
            message, timeout=context.time_remaining(), metadata=passed_metadata(context)
        )
        try:
            return Answer(await call)
        except aio.AioRpcError as error:
            text = error.details() or ""
            if NOT_CONNECTED in text:
                raise NotSent(text) from None
            is_miss = bool(model) and error.code() in _MISS_CODES and says_absent(model, text)
            return Answer(b"", error, is_miss)

    def _call(self, method: str) -> Any:
        found = self._calls.get(method)
        if found is None:
            # Without serialisers bytes go through as they are.
            found = self._calls[method] = self.channel.unary_unary(method)
        return found

    async def _stream(self, _: object, context: Context) -> None:
        def dial() -> Any:
            return self.channel.stream_stream(STREAM)(
                timeout=context.time_remaining(), metadata=passed_metadata(context)
            )

        stream = Stream(
            self.gate, self.visits, self.sequences, context, dial, self.gate.limits.lease_s
        )
        await stream.serve()


async def _told(context: Context, answer: Answer) -> bytes:
    if answer.error is not None:
        error = answer.error
        await context.abort(error.code(), error.details() or "", error.trailing_metadata() or ())
    return answer.message


async def _refuse(context: Context, refusal: Refusal) -> NoReturn:
    await context.abort(refusal.grpc_status, refusal.text, tuple(refusal.headers.items()))
    raise AssertionError("abort always raises")


async def _deny(message: bytes, context: Context) -> bytes:  # noqa: ARG001
    await _refuse(context, Refusal(Outcome.DENIED, OUR_LOADS))


def passed_metadata(context: Context) -> Metadata:
    """The client's metadata, without what belongs to its own connection, or to Envoy and us."""
    return tuple(
        (key, value)
        for key, value in context.invocation_metadata() or ()
        if key not in _OUR_OWN and not key.startswith(("grpc-", ":"))
    )
