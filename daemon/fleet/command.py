"""The command `remora fleet`, and what it says when it cannot start."""

import asyncio
from typing import Any

import typer

from daemon.fleet.settings import PREFIX, FleetSettings, FleetSettingsError
from daemon.options import with_settings


@with_settings(FleetSettings, PREFIX)
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
