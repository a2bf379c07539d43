"""Asks a model of Triton by each protocol that Triton speaks: one request, one answer.

Owns the bytes of a request that carries one X, and the reading of its Y. Knows nothing of which
model is loaded; and of proxies only the header in which one may say how often it tried.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import aiohttp
import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

# http carries binary tensors, generate JSON, generate_stream server-sent events; stream is gRPC's
# ModelStreamInfer, with a stream for each request. Decoupled models answer only to the streams.
Protocol = Literal["http", "generate", "generate_stream", "grpc", "stream"]

ATTEMPTS_HEADER = "x-envoy-attempt-count"
JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
INFER_HEADER = json.dumps(
    {
        "inputs": [
            {
                "name": "X",
                "shape": [1, 1],
                "datatype": "FP32",
                "parameters": {"binary_data_size": 4},
            }
        ],
        "outputs": [{"name": "Y", "parameters": {"binary_data": True}}],
    }
).encode()
# A refusal's reason stands at its beginning; what follows may be a page of traceback.
MOST_ERROR_CHARS = 300

CHANNEL_OPTIONS = [
    # Without these a channel waits up to two minutes before it tries a restarted server again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # One question is one request, also where the library would send it again on its own.
    ("grpc.enable_retries", 0),
]


@dataclass(frozen=True, slots=True)
class Question:
    """One X for a model, for its newest version where none is named."""

    model: str
    value: float
    protocol: Protocol = "grpc"
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Every Y in order. attempts: how often a proxy tried; None where nobody said."""

    values: list[float]
    attempts: int | None


class Unanswered(Exception):
    """No answer came; the message says why. attempts: as in Answer."""

    def __init__(self, why: str, attempts: int | None = None) -> None:
        super().__init__(why)
        self.attempts = attempts


class Asker:
    """An open way to both ports of a Triton, or of whatever stands before it."""

    def __init__(self, *, http_url: str, grpc_url: str) -> None:
        """http_url, grpc_url: host:port each."""
        # A client's own limit of connections would hold requests back where nobody sees them.
        connections = aiohttp.TCPConnector(limit=0)
        self._http = aiohttp.ClientSession(f"http://{http_url}", connector=connections)
        self._channel = grpc.aio.insecure_channel(grpc_url, options=CHANNEL_OPTIONS)
        self._grpc = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._ways: dict[Protocol, Callable[[Question, float], Awaitable[Answer]]] = {
            "http": self._infer,
            "generate": self._generate,
            "generate_stream": self._generate_stream,
            "grpc": self._model_infer,
            "stream": self._model_stream_infer,
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.close()
        await self._channel.close(None)

    async def ask(self, question: Question, timeout_s: float) -> Answer:
        """Sends one request, once. Raises Unanswered."""
        try:
            return await self._ways[question.protocol](question, timeout_s)
        except TimeoutError:
            raise Unanswered(f"no answer within {timeout_s:.1f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unanswered(f"{type(error).__name__}: {error}") from None
        except grpc.aio.AioRpcError as error:
            said = f"{error.code().name}: {error.details()}"
            raise Unanswered(said[:MOST_ERROR_CHARS], _attempts(error.initial_metadata())) from None
        except (LookupError, ValueError, struct.error) as error:
            raise Unanswered(f"unreadable answer: {type(error).__name__}: {error}") from None

    async def _infer(self, question: Question, timeout_s: float) -> Answer:
        body = INFER_HEADER + struct.pack("<f", question.value)
        headers = {JSON_LENGTH_HEADER: str(len(INFER_HEADER))}
        answer, content = await self._post(question, "infer", timeout_s, data=body, headers=headers)
        tensor = content[int(answer.headers[JSON_LENGTH_HEADER]) :]
        return Answer(list(struct.unpack("<f", tensor)), _attempts(answer.headers.items()))

    async def _generate(self, question: Question, timeout_s: float) -> Answer:
        answer, content = await self._post(
            question, "generate", timeout_s, json={"X": question.value}
        )
        return Answer([float(json.loads(content)["Y"])], _attempts(answer.headers.items()))

    async def _generate_stream(self, question: Question, timeout_s: float) -> Answer:
        answer, content = await self._post(
            question, "generate_stream", timeout_s, json={"X": question.value}
        )
        attempts = _attempts(answer.headers.items())
        events = [
            json.loads(line.removeprefix(b"data:"))
            for line in content.splitlines()
            if line.startswith(b"data:")
        ]
        for event in events:
            if "error" in event:
                raise Unanswered(f"in the stream: {event['error']}"[:MOST_ERROR_CHARS], attempts)
        return Answer([float(event["Y"]) for event in events], attempts)

    async def _post(
        self, question: Question, verb: str, timeout_s: float, **request: Any
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """The response and its whole body. Raises Unanswered on any status but 200."""
        version = f"/versions/{question.version}" if question.version else ""
        path = f"/v2/models/{quote(question.model, safe='')}{version}/{verb}"
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with self._http.post(path, timeout=timeout, **request) as answer:
            content = await answer.read()
        if answer.status != 200:
            said = f"{answer.status}: {content.decode(errors='replace').strip()}"
            raise Unanswered(said[:MOST_ERROR_CHARS], _attempts(answer.headers.items()))
        return answer, content

    async def _model_infer(self, question: Question, timeout_s: float) -> Answer:
        call = self._grpc.ModelInfer(_infer_request(question), timeout=timeout_s)
        response = await call
        return Answer([_value(response)], _attempts(await call.initial_metadata()))

    async def _model_stream_infer(self, question: Question, timeout_s: float) -> Answer:
        async def only() -> AsyncIterator[Any]:
            yield _infer_request(question)

        call = self._grpc.ModelStreamInfer(only(), timeout=timeout_s)
        values = []
        try:
            async for response in call:
                if response.error_message:
                    raise Unanswered(f"in the stream: {response.error_message}"[:MOST_ERROR_CHARS])
                values.append(_value(response.infer_response))
        finally:
            call.cancel()
        # No proxy can try a stream again, so a count of attempts would say nothing of the model.
        return Answer(values, None)


def _infer_request(question: Question) -> Any:
    request = service_pb2.ModelInferRequest(
        model_name=question.model,
        model_version=str(question.version or ""),
        raw_input_contents=[struct.pack("<f", question.value)],
    )
    request.inputs.add(name="X", datatype="FP32", shape=[1, 1])
    return request


def _value(response: Any) -> float:
    [value] = struct.unpack("<f", response.raw_output_contents[0])
    return float(value)


def _attempts(headers: Iterable[tuple[str, str | bytes]]) -> int | None:
    """What the proxy counted; None without one."""
    counts = (value for key, value in headers if key.lower() == ATTEMPTS_HEADER)
    count = next(counts, None)
    return None if count is None else int(count)
