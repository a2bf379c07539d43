"""Triton's repository API, over gRPC only.

Owns the calls, and what their answers and errors mean. Refuses to decide, and to wait for
what a call only begins. gRPC, because a load over HTTP holds up one of Triton's few HTTP
threads for its whole time, health checks included.

Errors:

    TritonError            Triton answered no, or what follows
    ├── Unreachable        nobody answered
    ├── DeadlineExceeded   no answer in time; what was asked may go on inside Triton
    └── LoadRefused        Triton answered no to a load, with the class of error
"""

import asyncio
import math
import re
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToJson, Parse
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from policies.snapshot import ErrorClass, ModelState

CHANNEL = [
    # The index of a very large repository outgrows gRPC's usual 4 MiB.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A restarted Triton is found again within a second, not within gRPC's usual two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Despite its name, how long one attempt may take. A Triton that loads on throttled cores
    # answers late, and attempts given up too early would never reach it.
    ("grpc.min_reconnect_backoff_ms", 2000),
    # Triton is a neighbour: a proxy that the environment names is for the world outside.
    ("grpc.enable_http_proxy", 0),
]

# What Triton lists beside models: any folder, also those that file systems and git keep.
_JUNK = ("lost+found",)
_LONGEST_MESSAGE = 300
_CONFIG_TIMEOUT_S = 5.0
# A probe is built in our own memory, which is small.
_LARGEST_PROBE_BYTES = 16 * 2**20

# Triton says UNAVAILABLE also when it is there and was started in another control mode.
_WRONG_MODE = "explicit model load / unload is not allowed"
_DEAD_STUB = re.compile(r"(?:Stub process '(?P<stub>[^']*)' )?is not healthy")
_TRACEBACK = "Traceback (most recent call last):"

# The model's own name may hold any of the words below.
_NAMED = re.compile(r"^(load failed for model|failed to load) '[^']*'")
# In this order: memory runs out during initialisation, and a dead stub fails it.
_WORDS: tuple[tuple[ErrorClass, re.Pattern[str]], ...] = (
    (
        ErrorClass.MEMORY,
        re.compile(
            r"out.?of.?memory|cudamalloc|memoryallocation|bad_?alloc|memory ?error|oom when"
            r"|(?:failed|unable|cannot|could not) (?:to )?allocate|alloc_failed|memory limit"
            r"|resource.?exhausted"
        ),
    ),
    (ErrorClass.UNHEALTHY, re.compile(r"is not healthy")),
    (
        ErrorClass.CONFIG,
        re.compile(
            r"failed to poll|" + _WRONG_MODE + r"|(?:^|state: )invalid argument:"
            r"|at least one version must be available|not available or ambiguous"
        ),
    ),
    (
        ErrorClass.INITIALISATION,
        re.compile(r"^internal: |load failed|unavailable state|initiali[sz]|traceback"),
    ),
)


class TritonError(RuntimeError):
    """Triton answered no, or something went wrong between us and it."""


class Unreachable(TritonError):
    """Nobody answered."""


class DeadlineExceeded(TritonError):
    """No answer in time. That cancels nothing: a load goes on inside Triton."""


class LoadRefused(TritonError):
    """Triton answered no to a load."""

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
    busy_s: for how long executions have kept instances busy since it was loaded, all together.
    success_count, fail_count: requests since it was loaded; 0 while it is not.
    in_repository: False for one that serves although its folder is gone.
    versions: those that serve. more_come, more_leave: beside them, others are on their way in, or
        out; a new copy of a version that serves already shows in neither.
    """

    name: str
    state: ModelState
    known: bool = True
    reason: str = ""
    memory_usage: Mapping[tuple[str, int], int] | None = None
    busy_s: float = 0.0
    success_count: int = 0
    fail_count: int = 0
    in_repository: bool = True
    versions: tuple[str, ...] = ()
    more_come: bool = False
    more_leave: bool = False


@dataclass(slots=True)
class Triton:
    """A client of one Triton server; ``url`` is ``host:port``."""

    url: str
    _client: Any = field(init=False)

    def __post_init__(self) -> None:
        self._client = InferenceServerClient(self.url, channel_args=CHANNEL)

    async def close(self) -> None:
        await self._client.close()

    async def observe(self, timeout_s: float) -> dict[str, Served]:
        """Every model of the repository, and those that serve although their folder is gone.

        The index forgets the latter and the statistics do not, so it takes both.
        """
        index, statistics = await asyncio.gather(
            _ask(self._client.get_model_repository_index(client_timeout=timeout_s)),
            _ask(self._client.get_inference_statistics(client_timeout=timeout_s)),
        )
        listed = _by_name(
            row for row in index.models if not row.name.startswith(".") and row.name not in _JUNK
        )
        running = _by_name(statistics.model_stats)
        return {
            name: _served(name, listed.get(name), running.get(name, ()))
            for name in {**listed, **running}
        }

    async def load(self, name: str, timeout_s: float | None, config: str | None = None) -> None:
        """Loads ``name``, and returns when it is READY.

        Of one that is READY, a new copy is loaded beside the old one if files have changed; it
        takes the old one's place when it is READY, and the old one leaves when its requests have
        ended. When the new one fails, the old one stays.

        config: a whole configuration as JSON, in the place of the one on disk. It holds until
        a load that finds changed files, or until the model was unloaded.
        """
        try:
            await self._client.load_model(name, config=config, client_timeout=timeout_s)
        except InferenceServerException as error:
            status, message = _told(error)
            raise _silence(status, message) or LoadRefused(
                classify(status, message), shortened(message)
            ) from None

    async def unload(self, name: str, timeout_s: float) -> None:
        """Asks Triton to let ``name`` go; returns long before its memory is free."""
        await _ask(self._client.unload_model(name, client_timeout=timeout_s))

    async def config(self, name: str, timeout_s: float = _CONFIG_TIMEOUT_S) -> ModelConfig:
        """The configuration that a loaded ``name`` runs with, completed by Triton."""
        answer = await _ask(self._client.get_model_config(name, client_timeout=timeout_s))
        return answer.config

    async def is_ready(self, name: str, version: str, timeout_s: float) -> bool:
        """Whether ``name`` can serve; in any version where ``version`` is empty."""
        ready = self._client.is_model_ready(name, version, client_timeout=timeout_s)
        return bool(await _ask(ready))

    async def probe(self, name: str, timeout_s: float) -> bool:
        """Whether ``name``, READY by the index, cannot serve: its process has died.

        Neither the index nor readiness shows it, so one synthetic request is sent. Triton
        takes a second to find a process dead: a shorter timeout sees nothing. Any other
        answer, silence and a refusal of the request included, speaks for a model that
        lives. After a request has met a dead process, unloading that model may never end.
        """
        config = await self.config(name, timeout_s)
        inputs = synthetic_inputs(config)
        if inputs is None:
            return False
        try:
            await self._client.infer(name, inputs, client_timeout=timeout_s)
        except InferenceServerException as error:
            return tells_own_death(_told(error)[1], config)
        return False


def written(config: ModelConfig) -> str:
    """``config`` as JSON, as a load takes it."""
    return MessageToJson(config, preserving_proto_field_name=True, indent=None)


def restricted(config: str, versions: Iterable[int]) -> str:
    """The configuration in ``config`` with ``versions`` alone to be served."""
    found = Parse(config, ModelConfig(), ignore_unknown_fields=True)
    found.version_policy.specific.versions[:] = sorted(versions)
    return written(found)


def classify(status: str, message: str) -> ErrorClass:
    """What kind of trouble a refused load had, by its gRPC status and by Triton's words."""
    if (silence := _silence(status, message)) is not None:
        is_late = isinstance(silence, DeadlineExceeded)
        return ErrorClass.UNKNOWN if is_late else ErrorClass.UNAVAILABLE
    text = _NAMED.sub(r"\1", message.lower())
    for error_class, words in _WORDS:
        if words.search(text):
            return error_class
    return ErrorClass.UNKNOWN


def shortened(message: str) -> str:
    """The words that tell, on one line: Triton's own and the error they quote, no frames."""
    # The python backend puts its frames behind the error, Python itself before it.
    text = message.split("\n\nAt:\n")[0]
    before, found, frames = text.partition(_TRACEBACK)
    if found:
        errors = [line for line in frames.splitlines() if line.strip() and line[0] != " "]
        text = f"{before} {errors[-1] if errors else found}"
    return " ".join(text.split()).rstrip(" ;")[:_LONGEST_MESSAGE]


def synthetic_inputs(config: ModelConfig) -> list[InferInput] | None:
    """The smallest valid request of a model; None where one cannot be made up.

    Sequences want to be opened and closed; decoupled models answer in a stream; the inputs
    of a shape tensor mean something; an ensemble is as healthy as its members, which count
    their own failures. For those silence is better than a guess.
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
        shape = batch + [max(1, dim) for dim in each.dims]
        datatype = DataType.Name(each.data_type).removeprefix("TYPE_").replace("STRING", "BYTES")
        numpy_type = triton_to_np_dtype(datatype)
        if numpy_type is None or each.is_shape_tensor:
            return None
        if math.prod(shape) * np.dtype(numpy_type).itemsize > _LARGEST_PROBE_BYTES:
            return None
        values = np.full(shape, b"", object) if datatype == "BYTES" else np.zeros(shape, numpy_type)
        tensor = InferInput(each.name, shape, datatype)
        tensor.set_data_from_numpy(values)
        inputs.append(tensor)
    return inputs


def tells_own_death(message: str, config: ModelConfig) -> bool:
    """Whether ``message`` is that of a dead process of the model with this ``config``.

    A model that calls another hands on the other's message, which names the other's stub:
    the instance group's name and a number.
    """
    found = _DEAD_STUB.search(message)
    if found is None:
        return False
    stub = found["stub"]
    return stub is None or stub.rpartition("_")[0] in {each.name for each in config.instance_group}


async def _ask(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except InferenceServerException as error:
        status, message = _told(error)
        raise _silence(status, message) or TritonError(shortened(message)) from None


def _told(error: InferenceServerException) -> tuple[str, str]:
    return str(error.status() or ""), str(error.message() or error)


def _silence(status: str, message: str) -> TritonError | None:
    """The error of a call that Triton has not answered itself; None when it has."""
    if "DEADLINE_EXCEEDED" in status:
        return DeadlineExceeded(shortened(message))
    if ("UNAVAILABLE" in status or "CANCELLED" in status) and _WRONG_MODE not in message:
        return Unreachable(shortened(message))
    return None


def _by_name(rows: Iterable[Any]) -> dict[str, list[Any]]:
    """Rows of one model, one a version, under its name."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.name, []).append(row)
    return found


def _served(name: str, listed: Sequence[Any] | None, running: Sequence[Any]) -> Served:
    """One model from its rows of the index, None where it is not in there, and statistics."""
    states = {row.state for row in listed or ()}
    reasons = [row.reason for row in listed or () if row.reason not in ("", "unloaded")]
    return Served(
        name,
        ModelState.READY if listed is None else _state(states),
        known=listed is None or any(states),
        reason=shortened("; ".join(reasons)),
        memory_usage=_memory_usage(running),
        busy_s=sum(_busy_ns(row) for row in running) / 1e9,
        success_count=sum(int(row.inference_stats.success.count) for row in running),
        fail_count=sum(int(row.inference_stats.fail.count) for row in running),
        in_repository=listed is not None,
        versions=_versions(listed, running),
        more_come=ModelState.LOADING.value.upper() in states,
        more_leave=ModelState.UNLOADING.value.upper() in states,
    )


def _versions(listed: Sequence[Any] | None, running: Sequence[Any]) -> tuple[str, ...]:
    if listed is None:
        return tuple(row.version for row in running)
    return tuple(row.version for row in listed if row.state == ModelState.READY.value.upper())


def _state(states: set[str]) -> ModelState:
    """One version that serves is enough; without one, what moves is more than what rests."""
    for state in (ModelState.READY, ModelState.LOADING, ModelState.UNLOADING):
        if state.value.upper() in states:
            return state
    return ModelState.UNLOADED


def _busy_ns(running: Any) -> int:
    """Once for each execution, where durations by request count a batch as often as it is large."""
    return sum(
        int(each.compute_input.ns + each.compute_infer.ns + each.compute_output.ns)
        for each in running.batch_stats
    )


def _memory_usage(running: Sequence[Any]) -> dict[tuple[str, int], int] | None:
    usage: dict[tuple[str, int], int] = {}
    for row in running:
        for part in row.memory_usage:
            place = (part.type, int(part.id))
            usage[place] = usage.get(place, 0) + int(part.byte_size)
    return usage or None
