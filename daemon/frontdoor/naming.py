"""What a request names: its model and version, read from a path or from a message.

Owns the two notations. Refuses to decode paths: Triton takes names as they are written,
so another spelling is another model.
"""

import re
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

SERVICE = "/inference.GRPCInferenceService/"
STREAM = f"{SERVICE}ModelStreamInfer"
GATED = frozenset(SERVICE + name for name in ("ModelInfer", "ModelMetadata", "ModelConfig"))
"""Methods that only a model that is there can answer."""
DENIED = frozenset(SERVICE + name for name in ("RepositoryModelLoad", "RepositoryModelUnload"))
"""Methods that would work against the plan."""
PLAIN = frozenset(
    SERVICE + method.name
    for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
) - {STREAM, *GATED, *DENIED} | {"/grpc.health.v1.Health/Check"}
"""Methods that Triton answers whatever is loaded."""

_GATED_PATH = re.compile(
    r"/v2/models/(?P<model>[^/?#]+)(?:/versions/(?P<version>[^/?#]+))?"
    r"(?:/(?:infer|generate|generate_stream|config))?(?:\?.*)?"
)
_DENIED_PATH = re.compile(r"/v2/repository/models/[^/?#]+/(?:un)?load(?:\?.*)?")
# Not a model: its statistics are those of all.
_ALL_STATISTICS = "stats"


class Malformed(ValueError):
    """Bytes that are no message of Triton's."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a request asks for; ``version`` is "" for Triton's own choice."""

    model: str
    version: str = ""


def named_by_path(path: str) -> Named | None:
    """The model without which ``path`` cannot be answered; None for all other paths."""
    match = _GATED_PATH.fullmatch(path)
    if match is None or match["model"] == _ALL_STATISTICS:
        return None
    return Named(match["model"], match["version"] or "")


def is_denied(path: str) -> bool:
    return _DENIED_PATH.fullmatch(path) is not None


def named_by_message(message: bytes) -> tuple[str, str]:
    """Model and version of a gated method's request; "" for Triton's own choice of version.

    Raises Malformed.
    """
    request = parsed(message)
    return request.model_name, request.model_version


def parsed(message: bytes) -> service_pb2.ModelInferRequest:
    """A request message of any gated method: all of them number name and version alike.

    Raises Malformed. A megabyte of tensors takes a tenth of a millisecond, so nothing
    cleverer is needed.
    """
    try:
        return service_pb2.ModelInferRequest.FromString(message)
    except DecodeError:
        raise Malformed("the message cannot be parsed") from None
