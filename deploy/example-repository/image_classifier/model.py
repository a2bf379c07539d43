"""Says what a picture of 32 by 32 pixels shows: a convolution, a maximum, and a linear layer.

Triton's Python backend runs it. What was learned stands in weights.json beside it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        learned = json.loads(Path(__file__).with_name("weights.json").read_text())
        self.kernels = np.array(learned["kernels"], np.float32)
        self.weights = np.array(learned["weights"], np.float32)
        self.bias = np.array(learned["bias"], np.float32)

    def execute(self, requests: list[Any]) -> list[Any]:
        """All requests of a batch in one convolution."""
        inputs = [pb_utils.get_input_tensor_by_name(r, "IMAGE").as_numpy() for r in requests]
        scores = _softmax(features(np.concatenate(inputs), self.kernels) @ self.weights + self.bias)
        ends = np.cumsum([len(each) for each in inputs])[:-1]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("SCORES", part.astype(np.float32))])
            for part in np.split(scores, ends)
        ]


def features(images: Any, kernels: Any) -> Any:
    """Of each kernel, how strongly it is met at all and where most, for images N, 3, 32, 32."""
    windows = np.lib.stride_tricks.sliding_window_view(images, kernels.shape[2:], axis=(2, 3))
    met = np.maximum(np.einsum("nchwij,kcij->nkhw", windows, kernels, optimize=True), 0)
    return np.concatenate([met.mean(axis=(2, 3)), met.max(axis=(2, 3))], axis=1)


def _softmax(scores: Any) -> Any:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
