"""The commands that imagine: simulate, compare, tune, scale, fleet-simulate, record and fidelity.

Owns their options. What they do is in `simulations`, which is imported when one of them runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

_Scenario = Annotated[Path, typer.Argument(help="The scenario file.")]
_Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes; as many as there are cores by default.")
]


def simulate(
    scenario: _Scenario,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    contrasts: Annotated[
        bool, typer.Option(help="Also what the other values of the knobs it names would do.")
    ] = False,
) -> None:
    """Run a scenario and say which of its expectations hold; exit 1 when one does not."""
    from simulations import commands

    with _told(*commands.ERRORS):
        raise typer.Exit(commands.simulate(scenario, as_json=as_json, contrasts=contrasts))


def compare(
    scenarios: Annotated[list[Path], typer.Argument(help="One scenario file or several.")],
    policies: Annotated[
        str, typer.Option(help="Rivals, presets and policy files, with commas; all by default.")
    ] = "",
    budgets: Annotated[
        str, typer.Option(help="Percentages of the size of all models, with commas.")
    ] = "10,25,50",
    half: Annotated[
        Literal["first", "second"] | None,
        typer.Option(help="Only this half of the traffic; all of it by default."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report with plots.")] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write all figures as JSON.")
    ] = None,
    markdown: Annotated[bool, typer.Option(help="Print one table in Markdown instead.")] = False,
    workers: _Workers = None,
) -> None:
    """Let policies compete on the same traffic, beside the bound that none can beat."""
    from simulations import commands

    with _told(*commands.ERRORS):
        status = commands.compare(
            scenarios,
            policies=policies,
            budgets=budgets,
            half=half,
            html=html,
            json_out=json_out,
            markdown=markdown,
            workers=workers,
        )
    raise typer.Exit(status)


def tune(
    scenario: _Scenario,
    out: Annotated[Path, typer.Option(help="Where the policy goes, a YAML file.")],
    on: Annotated[
        Literal["local", "dask"], typer.Option(help="This machine, or a Dask cluster.")
    ] = "local",
    scheduler: Annotated[
        str | None, typer.Option(help="Address of the Dask scheduler, as tcp://host:8786.")
    ] = None,
    space: Annotated[Path | None, typer.Option(help="YAML of what to search, and where.")] = None,
    candidates: Annotated[int, typer.Option(min=2, help="Policies to begin with.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    workers: _Workers = None,
) -> None:
    """Search policy values on the first half of a trace, and report on its second half."""
    from simulations import commands

    with _told(*commands.ERRORS):
        status = commands.tune(
            scenario,
            out,
            on=on,
            scheduler=scheduler,
            space=space,
            candidates=candidates,
            seed=seed,
            workers=workers,
        )
    raise typer.Exit(status)


def scale(
    scenarios: Annotated[
        list[Path] | None,
        typer.Argument(help="Scaling scenarios; all that come with this package by default."),
    ] = None,
    signals: Annotated[
        str, typer.Option(help="What the HPA is told, with commas, as busy or busy@0.8.")
    ] = "",
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write all figures as JSON.")
    ] = None,
    markdown: Annotated[bool, typer.Option(help="Print one table in Markdown instead.")] = False,
    workers: _Workers = None,
) -> None:
    """Let signals scale the same Deployment, beside one that knows the future; exit 1 when an
    expectation does not hold."""
    from simulations.scaling import command

    with _told(*command.ERRORS):
        status = command.scale(
            scenarios or [],
            signals=signals,
            json_out=json_out,
            markdown=markdown,
            workers=workers,
        )
    raise typer.Exit(status)


def fleet_simulate(
    scenarios: Annotated[
        list[Path] | None,
        typer.Argument(help="Fleet scenarios; all that come with this package by default."),
    ] = None,
    contestants: Annotated[
        str, typer.Option(help="Who competes, with commas, as remora,lru-random; all by default.")
    ] = "",
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write all figures as JSON.")
    ] = None,
    markdown: Annotated[bool, typer.Option(help="Print one table in Markdown instead.")] = False,
    workers: _Workers = None,
) -> None:
    """Play fleets of up to a thousand pods, with and without gossip, by model and at random; exit 1
    when an expectation does not hold."""
    from simulations.fleet import command

    with _told(*command.ERRORS):
        status = command.fleet_simulate(
            scenarios or [],
            compete=contestants,
            json_out=json_out,
            markdown=markdown,
            workers=workers,
        )
    raise typer.Exit(status)


def record(
    url: Annotated[str, typer.Argument(help="The Prometheus server.")],
    target: Annotated[Path, typer.Argument(help="The recording, a .parquet file.")],
    query: Annotated[
        str | None,
        typer.Option(help="Selector of counters, or with --rate any PromQL; Triton's by default."),
    ] = None,
    since: Annotated[str, typer.Option("--from", help="ISO 8601, epoch seconds, or -7d.")] = "-1d",
    until: Annotated[str, typer.Option("--to", help="The same, or now.")] = "now",
    step: Annotated[
        str, typer.Option(help="Length of a step; at least the scrape interval.")
    ] = "60s",
    rate: Annotated[bool, typer.Option(help="The query gives requests per second.")] = False,
    label: Annotated[
        str, typer.Option(help="Label that names the model; several with commas.")
    ] = "model",
    token_file: Annotated[Path | None, typer.Option(help="File with a bearer token.")] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="REMORA_RECORD_TOKEN", help="The token; better in the environment."),
    ] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Certificates to trust, PEM.")] = None,
) -> None:
    """Record the requests of each model from a Prometheus server; run again, it goes on."""
    from simulations.recording.command import command
    from simulations.recording.errors import RecordError
    from simulations.recording.spec import TRITON_QUERY

    with _told(RecordError, OSError):
        command(
            url,
            target,
            query=TRITON_QUERY if query is None else query,
            since=since,
            until=until,
            step=step,
            rate=rate,
            label=label,
            token_file=token_file,
            token=token,
            ca_file=ca_file,
        )


def fidelity(
    seconds: Annotated[float, typer.Option(help="How long the traffic lasts.", min=5)] = 300.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the traffic.")] = 1,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write all raw figures as JSON.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option(help="Where models, logs and the journal go.")
    ] = None,
) -> None:
    """Run the same traffic on a real Triton and in the simulator, and print both side by side."""
    from simulations.fidelity import command

    with _told(*command.ERRORS):
        command.fidelity(seconds=seconds, seed=seed, directory=directory, json_out=json_out)


COMMANDS = (simulate, compare, tune, scale, fleet_simulate, record, fidelity)


@contextmanager
def _told(*errors: type[Exception]) -> Iterator[None]:
    """Ends the command with the text of one of ``errors``, which is for whoever gave it."""
    try:
        yield
    except errors as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
