"""A scenario's ``pod`` as it is written: the fields of a `PodSpec`, with units in their values.

Owns the translation. What a field means, and its default, stands in `simulations.pod.spec` and
nowhere else: keys and forms are drawn from there.
"""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from types import GenericAlias
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Optional,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import AwareDatetime, Field, create_model

from policies.policy import Section
from policies.quantities import Bytes, Seconds
from simulations.pod.spec import PodSpec

Kind = TypeVar("Kind")

_SHARE = Annotated[float, Field(ge=0, le=1)]
_COUNT = Annotated[int, Field(ge=1, le=1_000_000)]


def _section(kind: type) -> type[Section]:
    hints = get_type_hints(kind)
    fields: dict[str, Any] = {}
    for each in dataclasses.fields(kind):
        required = each.default is dataclasses.MISSING is each.default_factory
        form = _form(each.name, hints[each.name])
        fields[each.name] = (form, ... if required else None)
    return create_model(kind.__name__, __base__=Section, **fields)


def _form(name: str, hint: Any) -> Any:
    """How a value of this name and type is written."""
    if name == "epoch_s":
        return AwareDatetime
    if name.endswith("_bytes"):
        return Bytes
    if name.endswith("_s"):
        return Optional[Seconds] if type(None) in get_args(hint) else Seconds  # noqa: UP045
    if get_origin(hint) is tuple:
        return GenericAlias(tuple, (_form(name, get_args(hint)[0]), ...))
    if dataclasses.is_dataclass(hint):
        return _section(hint)  # type: ignore[arg-type]
    return {float: _SHARE, int: _COUNT}.get(hint, hint)


if TYPE_CHECKING:
    # A class that is made at run time is no type to a checker.
    PodSection = Section
else:
    PodSection = _section(PodSpec)


def pod_spec(said: Section) -> PodSpec:
    return _made(PodSpec, said)


def _made(kind: type[Kind], said: Section) -> Kind:
    """Only what was said is passed on, so that the defaults stay those of ``kind``."""
    hints: Mapping[str, Any] = get_type_hints(kind)
    return kind(
        **{name: _value(getattr(said, name), hints[name]) for name in said.model_fields_set}
    )


def _value(said: Any, hint: Any) -> Any:
    if isinstance(said, datetime):
        return said.timestamp()
    if isinstance(said, Section):
        return _made(hint, said)
    if isinstance(said, tuple):
        return tuple(_value(each, get_args(hint)[0]) for each in said)
    return said
