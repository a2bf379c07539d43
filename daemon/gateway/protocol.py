"""Where Triton's gRPC requests name their model, told in Envoy's terms.

Owns which methods count, and the little of Triton's protocol that Envoy has to know to read the
name. Refuses to know what Envoy does with it.
"""

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from tritonclient.grpc import service_pb2

SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_NAMES = ("model_name", "name")
# A shared-memory region has a name too, but not a model's. Loading and unloading is Remora's.
_PREFIXES = ("Model", "TraceSetting")
_ANSWER = "Answer"


def naming_field(method: MethodDescriptor) -> FieldDescriptor | None:
    """The field of the request that names the model; None for a method that is about none."""
    if not method.name.startswith(_PREFIXES):
        return None
    fields = method.input_type.fields_by_name
    return next((fields[name] for name in _NAMES if name in fields), None)


def naming_fields() -> dict[str, str]:
    """By the full name of each method that names a model: what the field is called."""
    found = ((method, naming_field(method)) for method in SERVICE.methods)
    return {method.full_name: field.name for method, field in found if field is not None}


def descriptor_set() -> bytes:
    """Triton's protocol as far as it names models: a FileDescriptorSet, serialised.

    Of each request only the name is in it. What else a message holds is skipped as unknown, and
    the descriptor is a hundredth of the whole; no answer is ever read.
    """
    file = FileDescriptorProto(
        name=service_pb2.DESCRIPTOR.name, package=service_pb2.DESCRIPTOR.package, syntax="proto3"
    )
    file.message_type.add(name=_ANSWER)
    service = file.service.add(name=SERVICE.name)
    described: set[str] = set()
    for method in SERVICE.methods:
        field = naming_field(method)
        if field is None:
            continue
        request = method.input_type
        if request.name not in described:
            described.add(request.name)
            _describe(file, request.name, field)
        service.method.add(
            name=method.name,
            input_type=f".{request.full_name}",
            output_type=f".{file.package}.{_ANSWER}",
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
        )
    return FileDescriptorSet(file=[file]).SerializeToString(deterministic=True)


def _describe(file: FileDescriptorProto, message: str, field: FieldDescriptor) -> None:
    file.message_type.add(name=message).field.add(
        name=field.name,
        number=field.number,
        type=FieldDescriptorProto.TYPE_STRING,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )
