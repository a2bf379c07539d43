"""Writes a model repository whose models take real memory, real time to load and to compute.

Owns what lies on the disk for Triton to read. Knows nothing of a running server, and nothing of
which model ought to be loaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MEMORY_UNIT_BYTES = 2**20
TEMPLATE = Path(__file__).with_name("model_template.py")
RESPONSES = 3
SEQUENCE_IDLE_S = 5


@dataclass(frozen=True)
class ModelSpec:
    """One model: input X and output Y, FP32 of shape [batch, 1], where Y = (1 + version) * X.

    memory_mb: private memory of each instance of each version, in MiB. An empty stub holds about 17
        already.
    load_s: from the start of the stub until the model is ready.
    compute_ms: of one execution, whatever its batch; of each response of a decoupled model.
    hint: whether config.pbtxt declares total_mb, as an operator would who knows it.
    max_batch_size: 0 for a model that does not batch.
    fails: `initialize` fails a load after load_s; `config` cannot be parsed at all.
    calls: models that this one asks in turn from its Python code, which Triton's configuration
        does not show. Each multiplies again.
    steps: makes it an ensemble of these models in a row; it has no memory or time of its own.
    versions: all of them are served; Triton answers with the newest where none is named.
    decoupled: answers a stream of RESPONSES responses, where Y = n * (1 + version) * X in the n-th.
    sequence: Y = (1 + version) * the sum of every X since the sequence's START, until its END or
        until SEQUENCE_IDLE_S have passed without a request of it.
    """

    name: str
    memory_mb: int
    load_s: float
    compute_ms: float
    hint: bool = False
    instances: int = 1
    max_batch_size: int = 8
    fails: Literal["", "initialize", "config"] = ""
    calls: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    versions: tuple[int, ...] = (1,)
    decoupled: bool = False
    sequence: bool = False

    def __post_init__(self) -> None:
        if self.steps and (self.calls or self.memory_mb or self.load_s or self.compute_ms):
            raise ValueError(f"{self.name}: an ensemble has no memory, time or calls of its own")
        if self.steps and (self.decoupled or self.sequence or self.versions != (1,)):
            raise ValueError(f"{self.name}: an ensemble is one version, and answers once")
        if self.decoupled and (self.sequence or self.calls):
            raise ValueError(f"{self.name}: a decoupled model keeps no sums and calls nobody")

    @property
    def total_mb(self) -> int:
        """What the whole model takes once it is loaded."""
        return self.memory_mb * self.instances * len(self.versions)

    def answers(self, value: float, version: int | None = None) -> list[float]:
        """What the model says to one X that belongs to no sequence; its newest version by default.

        Models that it calls, and the steps of an ensemble, are taken to have version 1 alone.
        """
        first = value * (1 + (version or max(self.versions))) * 2 ** len(self.calls)
        if self.steps:
            first = value * 2 ** len(self.steps)
        return [count * first for count in range(1, RESPONSES + 1)] if self.decoupled else [first]


def write_repository(root: Path, specs: Iterable[ModelSpec]) -> None:
    """Writes every model's folder below `root`; a folder that exists is written over.

    Triton takes a newer file for a newer model: after a rewrite the next load is a full one.
    """
    for spec in specs:
        for number in spec.versions:
            version = root / spec.name / str(number)
            version.mkdir(parents=True, exist_ok=True)
            if not spec.steps:
                _write_version(version, spec)
        (root / spec.name / "config.pbtxt").write_text(_configuration(spec))


def demo_models() -> tuple[ModelSpec, ...]:
    """A dozen models of 50 to 340 MiB, 2,400 together; half declare their size.

    Three have two versions, and one is decoupled.
    """
    return (
        ModelSpec("sentiment", 55, load_s=0.8, compute_ms=4, hint=True, versions=(1, 2)),
        ModelSpec("ner", 160, load_s=1.0, compute_ms=6),
        ModelSpec("toxicity", 130, load_s=0.8, compute_ms=4, hint=True),
        ModelSpec("image-classifier", 100, load_s=0.7, compute_ms=8, hint=True),
        ModelSpec("detector", 130, load_s=1.8, compute_ms=15, versions=(1, 2)),
        ModelSpec("ocr", 240, load_s=1.6, compute_ms=18, hint=True),
        ModelSpec("fraud", 50, load_s=0.5, compute_ms=2),
        ModelSpec("recommender", 160, load_s=2.2, compute_ms=5, hint=True, versions=(1, 2)),
        ModelSpec("speech", 320, load_s=2.8, compute_ms=20, decoupled=True),
        ModelSpec("translation", 340, load_s=3.0, compute_ms=20, hint=True),
        ModelSpec("embeddings", 180, load_s=1.2, compute_ms=5),
        ModelSpec("reranker", 190, load_s=1.2, compute_ms=9),
    )


def _write_version(version: Path, spec: ModelSpec) -> None:
    shutil.copyfile(TEMPLATE, version / "model.py")
    # A hole of the model's size: its length is an honest estimate and it takes no disk.
    with (version / "weights.bin").open("wb") as weights:
        weights.truncate(spec.memory_mb * MEMORY_UNIT_BYTES)


def _configuration(spec: ModelSpec) -> str:
    if spec.fails == "config":
        return f'name: "{spec.name}"\nbackend: {{ this is no configuration\n'
    body = _ensemble(spec) if spec.steps else _python_model(spec)
    # Triton adds the batch's dimension itself where a model batches. Where it does not, a free one
    # stands in its place, so that a client sends every model the same shape.
    dims = "1" if spec.max_batch_size else "-1, 1"
    return (
        f'name: "{spec.name}"\n'
        f"max_batch_size: {spec.max_batch_size}\n"
        f'input [ {{ name: "X" data_type: TYPE_FP32 dims: [ {dims} ] }} ]\n'
        f'output [ {{ name: "Y" data_type: TYPE_FP32 dims: [ {dims} ] }} ]\n'
    ) + body


def _python_model(spec: ModelSpec) -> str:
    lines = [
        'backend: "python"',
        f"instance_group [ {{ kind: KIND_CPU count: {spec.instances} }} ]",
        *(_parameter(key, value) for key, value in _parameters(spec).items()),
    ]
    if len(spec.versions) > 1:
        lines.append("version_policy { all { } }")
    if spec.decoupled:
        lines.append("model_transaction_policy { decoupled: true }")
    if spec.sequence:
        lines.append(_sequences())
    elif spec.max_batch_size:
        lines.append("dynamic_batching { }")
    return "\n".join((*lines, ""))


def _sequences() -> str:
    """Triton sends a sequence's requests to one instance, and tells it of both ends.

    Of the two strategies only `oldest` hands over no requests of idle sequences to be skipped.
    """
    return (
        f"sequence_batching {{\n  max_sequence_idle_microseconds: {SEQUENCE_IDLE_S * 1_000_000}\n"
        "  oldest { max_candidate_sequences: 64 }\n"
        '  control_input [ { name: "START" control [ '
        "{ kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] } ]\n"
        '  control_input [ { name: "END" control [ '
        "{ kind: CONTROL_SEQUENCE_END fp32_false_true: [ 0, 1 ] } ] } ]\n}"
    )


def _parameters(spec: ModelSpec) -> dict[str, str]:
    behaviour = {
        "load_s": f"{spec.load_s:g}",
        "compute_ms": f"{spec.compute_ms:g}",
        "calls": " ".join(spec.calls),
        "fails": spec.fails,
        "responses": str(RESPONSES if spec.decoupled else 0),
    }
    return {**behaviour, "memory_mb": str(spec.total_mb)} if spec.hint else behaviour


def _parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


def _ensemble(spec: ModelSpec) -> str:
    """Each step reads what the one before it wrote; the ends are the ensemble's own X and Y."""
    tensors = ["X", *(f"between_{at}" for at in range(1, len(spec.steps))), "Y"]
    steps = ",\n".join(
        f'  {{ model_name: "{model}" model_version: -1\n'
        f'    input_map {{ key: "X" value: "{source}" }}\n'
        f'    output_map {{ key: "Y" value: "{target}" }} }}'
        for model, source, target in zip(spec.steps, tensors, tensors[1:], strict=False)
    )
    return f'platform: "ensemble"\nensemble_scheduling {{ step [\n{steps}\n] }}\n'
