"""The model.py of every model that the test bed writes; Triton's stub runs a copy of it.

Owns how one instance spends memory and time, as the parameters of its config.pbtxt say. Imported by
nothing here, and importing nothing of ours: the copy runs in another Python.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

MATRIX_SIDE = 96


class TritonPythonModel:
    """Answers Y = (1 + version) * X, after the memory and time that a model of its size takes.

    A decoupled model answers that, then twice that, and so on. A sequence model answers for the sum
    of every X since the sequence began.
    """

    def initialize(self, args: dict[str, str]) -> None:
        configuration = json.loads(args["model_config"])
        parameters = configuration["parameters"]
        self.factor = np.float32(1 + int(args["model_version"]))
        self.compute_s = float(_value(parameters, "compute_ms")) / 1000
        self.callees = _value(parameters, "calls").split()
        self.responses = int(_value(parameters, "responses"))
        self.keeps_sums = "sequence_batching" in configuration
        self.sums: dict[int, Any] = {}
        self.matrix = np.eye(MATRIX_SIDE, dtype=np.float32)
        # The first product makes the library allocate; it has to, before memory is counted.
        self.matrix = self.matrix @ self.matrix
        self.weights = _read_weights(Path(__file__).with_name("weights.bin"))
        time.sleep(max(0.0, float(_value(parameters, "load_s")) - _age_s()))
        if _value(parameters, "fails") == "initialize":
            raise pb_utils.TritonModelException("told to fail at initialisation")

    def execute(self, requests: list[Any]) -> list[Any] | None:
        if self.responses:
            self._stream(requests)
            return None
        due_s = self._compute()
        responses = [self._answer(request) for request in requests]
        time.sleep(max(0.0, due_s - time.monotonic()))
        return responses

    def _stream(self, requests: list[Any]) -> None:
        """Every response takes the time of one execution; the last one ends the answer."""
        senders = [request.get_response_sender() for request in requests]
        values = [self.factor * _input(request, "X") for request in requests]
        for count in range(1, self.responses + 1):
            due_s = self._compute()
            time.sleep(max(0.0, due_s - time.monotonic()))
            flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if count == self.responses else 0
            for sender, value in zip(senders, values, strict=True):
                sender.send(_response(np.float32(count) * value), flags=flags)

    def _compute(self) -> float:
        """Does some arithmetic, and says when an execution that began before it is due to end."""
        due_s = time.monotonic() + self.compute_s
        self.matrix = self.matrix @ self.matrix
        return due_s

    def _answer(self, request: Any) -> Any:
        values = _input(request, "X")
        if self.keeps_sums:
            values = self._sum(request, values)
        values = self.factor * values
        for callee in self.callees:
            response = _call(callee, values)
            if response.has_error():
                return pb_utils.InferenceResponse(error=response.error())
            values = pb_utils.get_output_tensor_by_name(response, "Y").as_numpy()
        return _response(values)

    def _sum(self, request: Any, values: Any) -> Any:
        """What the sequence of this request has come to; an END forgets it."""
        sequence = request.correlation_id()
        if not _input(request, "START").any():
            values = values + self.sums[sequence]
        self.sums[sequence] = values
        if _input(request, "END").any():
            del self.sums[sequence]
        return values


def _input(request: Any, name: str) -> Any:
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()


def _response(values: Any) -> Any:
    return pb_utils.InferenceResponse([pb_utils.Tensor("Y", values)])


def _value(parameters: dict[str, dict[str, str]], key: str) -> str:
    return parameters[key]["string_value"]


def _call(model: str, values: Any) -> Any:
    request = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=["Y"],
        inputs=[pb_utils.Tensor("X", values)],
    )
    return request.exec()


def _read_weights(path: Path) -> Any:
    """Fills this process up to the size of the file; the interpreter already holds a part.

    Reading copies every byte, and that touches every page, although the file is one long hole.
    """
    left = max(0, path.stat().st_size - _private_bytes())
    return np.fromfile(path, dtype=np.uint8, count=left)


def _private_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")


def _age_s() -> float:
    """Seconds since this process began: a load starts with the start of its stub."""
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(stat[19]) / os.sysconf("SC_CLK_TCK")
