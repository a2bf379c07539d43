"""The messages of KEDA's external scaler, as they lie on the wire.

Owns names and numbers only. Descriptors are built here, so that no generated code has to be
kept and no compiler is needed to install us.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "externalscaler"
SERVICE = f"{PACKAGE}.ExternalScaler"

_Field = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "string": _Field.TYPE_STRING,
    "bool": _Field.TYPE_BOOL,
    "int64": _Field.TYPE_INT64,
    "double": _Field.TYPE_DOUBLE,
}

# By message: name, type and number of each field. A star marks a repeated one.
_MESSAGES = {
    "ScaledObjectRef": (
        ("name", "string", 1),
        ("namespace", "string", 2),
        ("scalerMetadata", "map", 3),
    ),
    "IsActiveResponse": (("result", "bool", 1),),
    "MetricSpec": (
        ("metricName", "string", 1),
        ("targetSize", "int64", 2),
        ("targetSizeFloat", "double", 3),
    ),
    "GetMetricSpecResponse": (("metricSpecs", "*MetricSpec", 1),),
    "GetMetricsRequest": (
        ("scaledObjectRef", "ScaledObjectRef", 1),
        ("metricName", "string", 2),
    ),
    "MetricValue": (
        ("metricName", "string", 1),
        ("metricValue", "int64", 2),
        ("metricValueFloat", "double", 3),
    ),
    "GetMetricsResponse": (("metricValues", "*MetricValue", 1),),
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="remora/externalscaler.proto", package=PACKAGE, syntax="proto3"
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, kind, number in fields:
            if kind == "map":
                _add_map(described, name, number)
            else:
                _add(described, name, kind, number)
    return file


def _add(message: descriptor_pb2.DescriptorProto, name: str, kind: str, number: int) -> None:
    label = _Field.LABEL_REPEATED if kind.startswith("*") else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind in _KINDS:
        field.type = _KINDS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{kind.lstrip('*')}"


def _add_map(message: descriptor_pb2.DescriptorProto, name: str, number: int) -> None:
    """From string to string: on the wire it is a repeated message of key and value."""
    entry = message.nested_type.add(name=name[0].upper() + name[1:] + "Entry")
    entry.options.map_entry = True
    _add(entry, "key", "string", 1)
    _add(entry, "value", "string", 2)
    _add(message, name, f"*{message.name}.{entry.name}", number)


def _classes() -> dict[str, Any]:
    # A pool of its own: in the default one another library's KEDA messages would clash with ours.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    names = {name: pool.FindMessageTypeByName(f"{PACKAGE}.{name}") for name in _MESSAGES}
    return {name: message_factory.GetMessageClass(each) for name, each in names.items()}


MESSAGES = _classes()
"""Message classes by name."""
