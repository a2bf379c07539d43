"""Says how likely a card payment is fraud: a logistic regression over six features.

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
        self.mean = np.array(learned["mean"], np.float32)
        self.scale = np.array(learned["scale"], np.float32)
        self.weights = np.array(learned["weights"], np.float32)
        self.bias = np.float32(learned["bias"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """All requests of a batch in one product."""
        inputs = [pb_utils.get_input_tensor_by_name(r, "FEATURES").as_numpy() for r in requests]
        score = (np.concatenate(inputs) - self.mean) / self.scale @ self.weights + self.bias
        probability = 1 / (1 + np.exp(-score[:, None]))
        ends = np.cumsum([len(each) for each in inputs])[:-1]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("PROBABILITY", part.astype(np.float32))])
            for part in np.split(probability, ends)
        ]
