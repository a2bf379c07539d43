"""Triton's repository API, over gRPC only.

Owns the calls, and what their answers and errors mean. gRPC, because a load over HTTP
holds up one of Triton's few HTTP threads for its whole time, health checks included.

Errors:

    TritonError
    ├── Unreachable        nobody answered
    ├── DeadlineExceeded   no answer in time; what was asked may go on inside Triton
    └── LoadRefused        Triton answered no, with the class of error
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from policies.snapshot import ErrorClass, ModelState

_CHANNEL = [
    # A hundred thousand models would still fit.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A restarted Triton is found again within a second, not within gRPC's usual two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Despite its name, how long one attempt may take. A Triton that loads on throttled cores
    # answers late, and attempts given up too early would never reach it.
    ("grpc.min_reconnect_backoff_ms", 2000),
]

_JUNK = ("lost+found",)
_LONGEST_MESSAGE = 300
_MEMORY = re.compile(
    r"out ?of ?memory|cudamalloc|memoryallocation|bad_?alloc|memory ?error|oom when"
    r"|(failed|unable|cannot|could not) (to )?allocate|alloc_failed|memory limit"
)


class TritonError(RuntimeError):
    """Something went wrong between us and Triton."""


class Unreachable(TritonError):
    """Nobody answered."""


class DeadlineExceeded(TritonError):
    """No answer in time. That cancels nothing: a load goes on inside Triton."""


class LoadRefused(TritonError):
    """Triton answered no."""

    def __init__(self, error_class: ErrorClass, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message


@dataclass(frozen=True, slots=True)
class Served:
    """One model as Triton lists it, all versions together.

    known: Triton remembers having been asked for it; not so after a restart.
    reason: why it is not available, where Triton says; "" for a plain unload.
    memory_usage: (memory type, device number) to bytes; None where Triton does not track it.
    in_repository: False for one that serves although its folder is gone.
    """

    name: str
    state: ModelState
    known: bool = True
    reason: str = ""
    memory_usage: Mapping[tuple[str, int], int] | None = None
    in_repository: bool = True


@dataclass(slots=True)
class Triton:
    """A client of one Triton server; ``url`` is ``host:port``."""

    url: str
    _client: Any = field(init=False)

    def __post_init__(self) -> None:
        self._client = InferenceServerClient(self.url, channel_args=_CHANNEL)

    async def close(self) -> None:
        await self._client.close()

    async def observe(self, timeout_s: float) -> dict[str, Served]:
        """Every model of the repository, and those that serve although their folder is gone.

        Raises Unreachable or DeadlineExceeded.
        """
        index = await self._ask(self._client.get_model_repository_index(client_timeout=timeout_s))
        statistics = await self._ask(
            self._client.get_inference_statistics(client_timeout=timeout_s)
        )
        usage = _memory_usage(statistics.model_stats)
        rows: dict[str, list[Any]] = {}
        for row in index.models:
            if not row.name.startswith(".") and row.name not in _JUNK:
                rows.setdefault(row.name, []).append(row)
        served = {name: _served(name, versions, usage.get(name)) for name, versions in rows.items()}
        for row in statistics.model_stats:
            if row.name not in served:
                served[row.name] = Served(
                    row.name,
                    ModelState.READY,
                    memory_usage=usage.get(row.name),
                    in_repository=False,
                )
        return served

    async def load(self, name: str, timeout_s: float) -> None:
        """Loads ``name`` and returns when it is READY; raises TritonError."""
        await self._ask(self._client.load_model(name, client_timeout=timeout_s))

    async def unload(self, name: str, timeout_s: float) -> None:
        """Asks Triton to let ``name`` go; returns long before its memory is free."""
        await self._ask(self._client.unload_model(name, client_timeout=timeout_s))

    async def probe(self, name: str, timeout_s: float) -> bool:
        """Whether ``name``, READY by the index, cannot serve: its process has died.

        Sends one synthetic request, since neither the index nor readiness shows it. Any
        other answer, a refusal of the request included, comes from a model that lives.
        """
        answer = await self._ask(self._client.get_model_config(name, client_timeout=timeout_s))
        inputs = _synthetic_inputs(answer.config)
        if inputs is None:
            return False
        try:
            await self._client.infer(name, inputs, client_timeout=timeout_s)
        except InferenceServerException as error:
            return "is not healthy" in str(error.message())
        return False

    async def _ask(self, call: Any) -> Any:
        try:
            return await call
        except InferenceServerException as error:
            raise _translated(error) from None


def classify(message: str) -> ErrorClass:
    """What kind of trouble a refused load had, by Triton's words."""
    # The model's own name may contain any of these words.
    text = re.sub(r"^(load failed for model|failed to load) '[^']*'", r"\1", message.lower())
    if _MEMORY.search(text):
        return ErrorClass.MEMORY
    if "failed to poll" in text or "model not found" in text or "config" in text.split(":")[0]:
        return ErrorClass.CONFIG
    if "unavailable state" in text or "initializ" in text or "traceback" in text:
        return ErrorClass.INITIALISATION
    return ErrorClass.UNKNOWN


def _translated(error: InferenceServerException) -> TritonError:
    status, message = str(error.status() or ""), _short(str(error.message() or error))
    if "DEADLINE_EXCEEDED" in status:
        return DeadlineExceeded(message)
    if "UNAVAILABLE" in status or "CANCELLED" in status:
        return Unreachable(message)
    return LoadRefused(classify(message), message)


def _short(message: str) -> str:
    """The words that tell, on one line: Triton's own, and the first line of what it quotes."""
    return " ".join(message.split("\n\nAt:")[0].split())[:_LONGEST_MESSAGE]


def _served(name: str, versions: list[Any], usage: Mapping[tuple[str, int], int] | None) -> Served:
    states = {row.state for row in versions}
    state = next(
        (
            s
            for s in (ModelState.READY, ModelState.LOADING, ModelState.UNLOADING)
            if s.value.upper() in states
        ),
        ModelState.UNLOADED,
    )
    reasons = [row.reason for row in versions if row.reason and row.reason != "unloaded"]
    return Served(name, state, any(states), _short("; ".join(reasons)), usage)


def _memory_usage(statistics: Any) -> dict[str, dict[tuple[str, int], int]]:
    usage: dict[str, dict[tuple[str, int], int]] = {}
    for row in statistics:
        for part in row.memory_usage:
            by_place = usage.setdefault(row.name, {})
            place = (part.type, int(part.id))
            by_place[place] = by_place.get(place, 0) + int(part.byte_size)
    return usage


def _synthetic_inputs(config: Any) -> list[InferInput] | None:
    """The smallest valid request of a model; None where one cannot be made up.

    Sequences want to be opened and closed, decoupled models and ensembles answer through
    others: for those silence is better than a guess.
    """
    if config.HasField("sequence_batching") or config.HasField("ensemble_scheduling"):
        return None
    if config.model_transaction_policy.decoupled:
        return None
    batch = [1] if config.max_batch_size > 0 else []
    inputs = []
    for each in config.input:
        if each.optional:
            continue
        datatype = _DATATYPES.get(each.data_type)
        if datatype is None:
            return None
        shape = batch + [dim if dim > 0 else 1 for dim in each.dims]
        values = (
            np.full(shape, b"", object)
            if datatype == "BYTES"
            else np.zeros(shape, triton_to_np_dtype(datatype))
        )
        tensor = InferInput(each.name, shape, datatype)
        tensor.set_data_from_numpy(values)
        inputs.append(tensor)
    return inputs


# The numbers of model_config.proto's DataType.
_DATATYPES = {
    1: "BOOL", 2: "UINT8", 3: "UINT16", 4: "UINT32", 5: "UINT64", 6: "INT8", 7: "INT16",
    8: "INT32", 9: "INT64", 10: "FP16", 11: "FP32", 12: "FP64", 13: "BYTES",
}  # fmt: skip
