"""Options of a command, one for each setting, so that none is written down twice."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from daemon.settings import flag, variable


def with_settings(settings: type, prefix: str) -> Callable[[Any], Any]:
    """Gives a command one option for each field of ``settings``.

    prefix: of their variables in the environment.
    """

    def given(command: Any) -> Any:
        parameters = [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=each.default,
                annotation=Annotated[
                    each.type,
                    typer.Option(
                        _options(each),
                        envvar=variable(each.name, prefix),
                        help=each.metadata["help"],
                    ),
                ],
            )
            for each in dataclasses.fields(settings)
        ]
        command.__signature__ = inspect.Signature(parameters)
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return given


def _options(setting: dataclasses.Field[Any]) -> str:
    """A setting's flag; one that is on or off has another to turn it off."""
    on = flag(setting.name)
    return f"{on}/--no-{on.removeprefix('--')}" if setting.type is bool else on
