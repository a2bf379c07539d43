"""Says whether a sentence is positive or negative: a naive Bayes model over its words.

Triton's Python backend runs it. What was learned stands in weights.json beside it: a weight for
each word, and from version 2 on for each pair of neighbours, so that "not good" is not "good".
"""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

WORD = re.compile(r"[a-z']+")


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        learned = json.loads(Path(__file__).with_name("weights.json").read_text())
        self.weights = learned["weights"]
        self.pairs = learned["pairs"]

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        odds = np.array([[self._odds(text.decode("utf-8", "replace"))] for [text] in texts])
        scores = (1 / (1 + np.exp(-odds))).astype(np.float32)
        labels = np.where(scores >= 0.5, b"positive", b"negative").astype(np.object_)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("LABEL", labels), pb_utils.Tensor("SCORE", scores)]
        )

    def _odds(self, text: str) -> float:
        """The logarithm of the odds that it is positive; 0 for words never seen."""
        words = WORD.findall(text.lower())
        pairs = pairwise(words) if self.pairs else ()
        seen = [*words, *(" ".join(pair) for pair in pairs)]
        return float(sum(self.weights.get(each, 0.0) for each in seen))
