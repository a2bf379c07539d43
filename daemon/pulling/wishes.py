"""The registry file: which models to bring, from where, and how many versions to keep.

Owns its keys and their errors. Refuses to know what a source holds.
"""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, field_validator

from policies.policy import Section
from policies.problems import Problem, problems
from policies.source import PolicyError, read_mapping

_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_MODEL_ALLOWED = "letters, digits, '_', '-' and '.', up to 200, not beginning with '.' or '-'"
_REGISTERED = re.compile(r"models:/[^/@:]+(@[^/@:]+|/[^/@:]+)")
_FROM_ALLOWED = (
    "models:/NAME@ALIAS, models:/NAME/VERSION, models:/NAME/STAGE, s3://BUCKET/FOLDER, or the"
    " absolute path of a folder"
)

_ALL_ALLOWED = "a list of one model or more, each once"


def _model(name: str) -> str:
    if not _MODEL.fullmatch(name):
        raise ValueError(_MODEL_ALLOWED)
    return name


def _from(written: str) -> str:
    bucket = written.startswith("s3://") and written.removeprefix("s3://").strip("/")
    if not (_REGISTERED.fullmatch(written) or bucket or written.startswith("/")):
        raise ValueError(_FROM_ALLOWED)
    return written


class Wish(Section):
    """One model that the repository shall hold."""

    model: Annotated[
        str, AfterValidator(_model), Field(json_schema_extra={"x-allowed": _MODEL_ALLOWED})
    ]
    """Its name in Triton, which is its folder's."""

    from_: Annotated[
        str, AfterValidator(_from), Field(json_schema_extra={"x-allowed": _FROM_ALLOWED})
    ]
    """Where it comes from: a version in an MLflow registry, or a folder as Triton has it."""

    keep: Annotated[int, Field(ge=1, le=100)] = 2
    """How many versions stay, the newest; the others are removed where they were brought."""

    config: Path | None = None
    """A config.pbtxt instead of its source's own, beside the registry file unless absolute."""


class Wishes(Section):
    """The whole file."""

    registry: Annotated[
        tuple[Wish, ...], Field(min_length=1, json_schema_extra={"x-allowed": _ALL_ALLOWED})
    ]
    """The models, one entry each."""

    @field_validator("registry")
    @classmethod
    def _each_once(cls, wishes: tuple[Wish, ...]) -> tuple[Wish, ...]:
        if len({wish.model for wish in wishes}) < len(wishes):
            raise ValueError(_ALL_ALLOWED)
        return wishes


def read_wishes(file: Path) -> tuple[Wish, ...]:
    """Raises PolicyError with every problem at once."""
    written, lines = read_mapping(_text(file), str(file))
    try:
        wishes = Wishes.model_validate(written).registry
    except ValidationError as error:
        schema: dict[str, Any] = Wishes.model_json_schema(by_alias=True)
        raise PolicyError(tuple(problems(error, schema, str(file), lines))) from None
    found = tuple(_with_config(wish, file) for wish in wishes)
    missing = [
        Problem(
            str(file),
            lines.get(("registry", str(at), "config")),
            f"registry.{at}.config",
            repr(str(wish.config)),
            "a file that can be read",
        )
        for at, wish in enumerate(found)
        if wish.config is not None and not wish.config.is_file()
    ]
    if missing:
        raise PolicyError(tuple(missing))
    return found


def _with_config(wish: Wish, file: Path) -> Wish:
    config = None if wish.config is None else file.parent / wish.config
    return wish.model_copy(update={"config": config})


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError:
        what = "not UTF-8 text"
    except OSError as error:
        what = str(error.strerror)
    raise PolicyError((Problem(str(file), None, "(file)", what, "a readable YAML file"),))
