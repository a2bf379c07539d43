"""The command `remora fleet`: its options, and what it says when it cannot start."""

import asyncio
import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from daemon.fleet.settings import FleetSettings, FleetSettingsError, variable
from daemon.settings import flag


def with_settings(settings: type, named: Callable[[str], str]) -> Callable[[Any], Any]:
    """Gives a command one option for each setting, so that none is written down twice.

    named: the environment's variable for the name of a setting.
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
                        _options(each), envvar=named(each.name), help=each.metadata["help"]
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


@with_settings(FleetSettings, variable)
def fleet(**values: Any) -> None:
    """Run the fleet service: the sidecars' signals for the HPA and for KEDA."""
    from daemon.fleet.run import StartError, serve
    from policies.source import PolicyError

    try:
        settings = FleetSettings(**values)
        asyncio.run(serve(settings))
    except (FleetSettingsError, PolicyError, StartError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
