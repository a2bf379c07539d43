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


@dataclass(frozen=True)
class ModelSpec:
    """One model: input X and output Y, FP32 of shape [batch, 1], where Y = 2 * X.

    memory_mb: private memory of each instance, in MiB. An empty stub holds about 17 already.
    load_s: from the start of the stub until the model is ready.
    compute_ms: of one execution, whatever its batch.
    hint: whether config.pbtxt declares memory_mb, as an operator would who knows it.
    max_batch_size: 0 for a model that does not batch.
    fails: `initialize` fails a load after load_s; `config` cannot be parsed at all.
    calls: models that this one asks in turn from its Python code, which Triton's configuration
        does not show. Each doubles again.
    steps: makes it an ensemble of these models in a row; it has no memory or time of its own.
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

    def __post_init__(self) -> None:
        if self.steps and (self.calls or self.memory_mb or self.load_s or self.compute_ms):
            raise ValueError(f"{self.name}: an ensemble has no memory, time or calls of its own")


def write_repository(root: Path, specs: Iterable[ModelSpec]) -> None:
    """Writes every model's folder below `root`; a folder that exists is written over.

    Triton takes a newer file for a newer model: after a rewrite the next load is a full one.
    """
    for spec in specs:
        version = root / spec.name / "1"
        version.mkdir(parents=True, exist_ok=True)
        (root / spec.name / "config.pbtxt").write_text(_configuration(spec))
        if not spec.steps:
            _write_version(version, spec)


def demo_models() -> tuple[ModelSpec, ...]:
    """A dozen models of 50 to 400 MiB, 2,400 together; half declare their size."""
    return (
        ModelSpec("sentiment", 110, load_s=0.8, compute_ms=4, hint=True),
        ModelSpec("ner", 140, load_s=1.0, compute_ms=6),
        ModelSpec("toxicity", 110, load_s=0.8, compute_ms=4, hint=True),
        ModelSpec("image-classifier", 100, load_s=0.7, compute_ms=8, hint=True),
        ModelSpec("detector", 260, load_s=1.8, compute_ms=15),
        ModelSpec("ocr", 220, load_s=1.6, compute_ms=18, hint=True),
        ModelSpec("fraud", 50, load_s=0.5, compute_ms=2),
        ModelSpec("recommender", 320, load_s=2.2, compute_ms=5, hint=True),
        ModelSpec("speech", 380, load_s=2.8, compute_ms=20),
        ModelSpec("translation", 400, load_s=3.0, compute_ms=20, hint=True),
        ModelSpec("embeddings", 150, load_s=1.2, compute_ms=5),
        ModelSpec("reranker", 160, load_s=1.2, compute_ms=9),
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
    if spec.max_batch_size:
        lines.append("dynamic_batching { }")
    return "\n".join((*lines, ""))


def _parameters(spec: ModelSpec) -> dict[str, str]:
    behaviour = {
        "load_s": f"{spec.load_s:g}",
        "compute_ms": f"{spec.compute_ms:g}",
        "calls": " ".join(spec.calls),
        "fails": spec.fails,
    }
    return {**behaviour, "memory_mb": str(spec.memory_mb)} if spec.hint else behaviour


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
