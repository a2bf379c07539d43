"""A stand-in for the activator: the least that Envoy's side of the contract needs of it.

It runs as a process of its own, so that a test can kill it. It holds everything while a file
called `hold` lies in its folder, then loads what is asked for and signals; a model that cannot be
loaded gets a final answer. While a file called `eager` lies there it signals at once, and wrongly.
What it was asked is written to `seen.jsonl`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from aiohttp import web
from tritonclient.grpc import service_pb2
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

POLL_S = 0.05
RETRY = "x-remora-retry"
FINAL = "x-envoy-ratelimited"


class Double:
    def __init__(self, folder: Path, triton_grpc: str) -> None:
        self.folder = folder
        self.triton = InferenceServerClient(triton_grpc)
        self.loads: dict[str, asyncio.Task[bool]] = {}

    def note(self, protocol: str, path: str, headers: dict[str, str]) -> None:
        asked = {"protocol": protocol, "path": path, "headers": headers}
        with (self.folder / "seen.jsonl").open("a") as seen:
            seen.write(json.dumps(asked) + "\n")

    async def is_served(self, model: str) -> bool:
        """Whether a request for `model` may be replayed; False when that is hopeless."""
        while not (self.folder / "eager").exists():
            if not (self.folder / "hold").exists():
                try:
                    if await self.triton.is_model_ready(model):
                        return True
                    if not await self.load(model):
                        return False
                except InferenceServerException:
                    # Triton is away, and comes back.
                    pass
            await asyncio.sleep(POLL_S)
        return True

    async def load(self, model: str) -> bool:
        """One load however many wait."""
        if model not in self.loads or self.loads[model].done():
            self.loads[model] = asyncio.create_task(self._load(model))
        return await asyncio.shield(self.loads[model])

    async def _load(self, model: str) -> bool:
        try:
            await self.triton.load_model(model)
        except InferenceServerException as error:
            if error.status() == "StatusCode.UNAVAILABLE":
                raise
            return False
        return True

    async def http(self, request: web.Request) -> web.Response:
        self.note("http", request.path, dict(request.headers))
        if await self.is_served(request.path.split("/")[3]):
            return web.Response(status=503, headers={RETRY: "1"})
        body = {"error": "refused by the double"}
        return web.json_response(body, status=404, headers={FINAL: "true", "retry-after": "7"})

    async def unary(self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        headers = {key: str(value) for key, value in context.invocation_metadata() or ()}
        self.note("grpc", "/unary", headers)
        # Field 1 is the model's name in all three requests that are retried.
        model = service_pb2.ModelMetadataRequest.FromString(body).name
        if await self.is_served(model):
            context.set_trailing_metadata(((RETRY, "1"),))
            await context.abort(grpc.StatusCode.UNAVAILABLE, "replay")
        context.set_trailing_metadata(((FINAL, "true"), ("retry-after", "7")))
        await context.abort(grpc.StatusCode.NOT_FOUND, "refused by the double")
        raise AssertionError("abort raises")

    async def stream(self, messages: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        headers = {key: str(value) for key, value in context.invocation_metadata() or ()}
        self.note("grpc", "/stream", headers)
        async for message in messages:
            yield message


def handlers(double: Double) -> grpc.GenericRpcHandler[Any, Any]:
    unary = grpc.unary_unary_rpc_method_handler(double.unary)
    return grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService",
        {
            "ModelInfer": unary,
            "ModelMetadata": unary,
            "ModelConfig": unary,
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(double.stream),
        },
    )


async def serve(folder: Path, http_port: int, grpc_port: int, triton_grpc: str) -> None:
    double = Double(folder, triton_grpc)
    # A body is left unread, so none is too large.
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", double.http)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", http_port).start()
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", -1),))
    server.add_generic_rpc_handlers((handlers(double),))
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
