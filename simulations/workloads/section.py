"""How a scenario's keys become frozen values: units in the values, unknown keys fail."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


def _yaml_key(field_name: str) -> str:
    """Units live in the values of a YAML file and in the names of the code."""
    return field_name.removesuffix("_s").removesuffix("_bytes").removesuffix("_")


class Section(BaseModel):
    """A mapping of a scenario."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=_yaml_key,
        populate_by_name=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


Seed = Annotated[int, Field(ge=0, lt=2**63)]
