"""Open sequences: models that keep state between requests must not leave between them.

Owns the leases of sequences that pass through us. Those that Envoy sends straight to
Triton are estimated by the observer, from how long the model has been quiet.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tritonclient.grpc import service_pb2

from daemon.frontdoor.gate import Gate

_HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(slots=True)
class Sequences:
    gate: Gate

    def saw_http(self, model: str, headers: Mapping[str, str], body: bytes) -> None:
        """A request goes in whose parameters are in the JSON that its body begins with."""
        if model not in self.gate.sequence_idle_s:
            return
        length = headers.get(_HEADER_LENGTH, "")
        try:
            head = body[: int(length)] if length.isascii() and length.isdigit() else body
            parameters = json.loads(head).get("parameters", {})
            self._saw(model, parameters.get("sequence_id"), bool(parameters.get("sequence_end")))
        except (ValueError, AttributeError, RecursionError):
            # Triton will say what is wrong with it.
            return

    def saw_grpc(self, request: service_pb2.ModelInferRequest) -> None:
        model = request.model_name
        if model not in self.gate.sequence_idle_s or "sequence_id" not in request.parameters:
            return
        identity = request.parameters["sequence_id"]
        ends = "sequence_end" in request.parameters
        ends = ends and request.parameters["sequence_end"].bool_param
        self._saw(model, identity.int64_param or identity.string_param, ends)

    def _saw(self, model: str, identity: object, ends: bool) -> None:
        if not isinstance(identity, int | str) or not identity:
            return
        if ends:
            self.gate.end_lease(model, identity)
        else:
            self.gate.lease(model, identity, self.gate.sequence_idle_s[model])
