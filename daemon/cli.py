"""The command line. Each command imports what it needs when it runs, so that the sidecar
carries nothing in memory that it does not use."""

import asyncio
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from daemon import imagining
from daemon.fleet.command import fleet
from daemon.gateway.command import gateway_config
from daemon.options import with_settings
from daemon.pulling.command import pull
from daemon.settings import PREFIX, Settings, SettingsError

app = typer.Typer(
    name="remora",
    help="Keeps the right models resident on Triton within a device-memory budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(metadata.version("remora"))
        except metadata.PackageNotFoundError as error:
            raise _fail("remora is not installed, so its version is unknown") from error
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and end."),
    ] = False,
) -> None:
    pass


def _fail(text: str) -> typer.Exit:
    typer.echo(text, err=True)
    return typer.Exit(1)


@app.command()
@with_settings(Settings, PREFIX)
def run(**values: Any) -> None:
    """Run the sidecar beside a Triton server."""
    from daemon.run import StartError, serve
    from policies.source import PolicyError

    try:
        settings = Settings(**values)
        asyncio.run(serve(settings))
    except (SettingsError, PolicyError, StartError) as error:
        raise _fail(str(error)) from None


@app.command()
def check(
    policy: Annotated[Path, typer.Argument(help="The policy file.")],
    schema: Annotated[bool, typer.Option(help="Print the JSON schema instead.")] = False,
) -> None:
    """Validate a policy and print the effective one, presets and defaults filled in."""
    import yaml

    from daemon.policyfile import PolicyFile
    from policies import schema as policy_schema
    from policies.source import PolicyError, effective

    if schema:
        typer.echo(policy_schema.text(), nl=False)
        return
    try:
        found = PolicyFile(policy).policy
    except PolicyError as error:
        raise _fail(str(error)) from None
    typer.echo(yaml.safe_dump(effective(found), sort_keys=False, allow_unicode=True), nl=False)


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="The model.")],
    url: Annotated[
        str, typer.Option(envvar="REMORA_URL", help="The sidecar's HTTP port.")
    ] = "http://127.0.0.1:9400",
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say why a model is resident or not, with the numbers."""
    from urllib.error import HTTPError, URLError
    from urllib.parse import quote
    from urllib.request import urlopen

    from policies.explain import Explanation, in_words

    address = f"{url.rstrip('/')}/v1/explain/{quote(model, safe='')}"
    try:
        with urlopen(address, timeout=5) as answer:
            found = json.load(answer)
    except HTTPError as error:
        raise _fail(json.load(error).get("error", str(error))) from None
    except (URLError, OSError, ValueError) as error:
        raise _fail(f"{url}: no sidecar answers there: {error}") from None
    typer.echo(json.dumps(found, indent=2) if as_json else in_words(Explanation(**found)))


@app.command()
def leave(
    url: Annotated[
        str, typer.Option(envvar="REMORA_URL", help="The sidecar's HTTP port.")
    ] = "http://127.0.0.1:9400",
    token: Annotated[
        str, typer.Option(envvar="REMORA_TOKEN", help="Its bearer token, where it has one.")
    ] = "",
) -> None:
    """Have a pod's work taken over, and return when the pod may end; for a preStop hook."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        with urlopen(Request(f"{url.rstrip('/')}/v1/leave", b"{}", headers)) as answer:
            found = json.load(answer)
    except HTTPError as error:
        raise _fail(json.load(error).get("error", str(error))) from None
    except (URLError, OSError, ValueError) as error:
        raise _fail(f"{url}: no sidecar answers there: {error}") from None
    alone = found["held_here_alone"]
    typer.echo(f"out; no other pod holds {', '.join(alone)}" if alone else "out")


@app.command()
def replay(
    journal: Annotated[Path, typer.Argument(help="A journal file, or a directory of them.")],
    policy: Annotated[
        Path | None, typer.Option(help="Decide by this policy instead of the recorded one.")
    ] = None,
) -> None:
    """Decide recorded ticks again and show the first divergence; exit 1 on one."""
    from daemon.journal import open_journal
    from daemon.policyfile import PolicyFile
    from daemon.replaying import told
    from policies.journal import JournalError, read
    from policies.replay import Replay
    from policies.source import PolicyError

    try:
        other = PolicyFile(policy).policy if policy else None
        ticks = Replay(read(open_journal(journal)), other)
        first = next(iter(ticks), None)
    except (JournalError, PolicyError, OSError) as error:
        raise _fail(f"{journal}: {error}") from None
    if first is not None:
        typer.echo(told(first))
        raise typer.Exit(1)
    if ticks.count == 0:
        raise _fail(f"{journal}: no tick in it")
    typer.echo(f"{ticks.count} ticks decided again, no divergence")


@app.command()
def envoy_config(
    host: Annotated[str, typer.Option(help="Address that Envoy listens on.")] = "0.0.0.0",
    http_port: Annotated[int, typer.Option(help="Port of clients' HTTP.")] = 9480,
    grpc_port: Annotated[int, typer.Option(help="Port of clients' gRPC.")] = 9481,
    admin_port: Annotated[int, typer.Option(help="Envoy's own page, loopback; 0: none.")] = 9490,
    triton_http: Annotated[str, typer.Option(help="Triton's HTTP address.")] = "127.0.0.1:8000",
    triton_grpc: Annotated[str, typer.Option(help="Triton's gRPC address.")] = "127.0.0.1:8001",
    door_http: Annotated[str, typer.Option(help="The sidecar's HTTP door.")] = "127.0.0.1:9410",
    door_grpc: Annotated[str, typer.Option(help="The sidecar's gRPC door.")] = "127.0.0.1:9411",
    body_cap: Annotated[
        str, typer.Option(help="Largest body that Envoy can send a second time.")
    ] = "32MiB",
    memory: Annotated[
        str, typer.Option(help="Envoy's heap; near it, new requests are refused.")
    ] = "512MiB",
    tls_certificate: Annotated[
        Path | None, typer.Option(help="Certificate chain shown to clients, PEM.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    access_log: Annotated[
        Path | None, typer.Option(help="File for JSON lines of misses, failures and a sample.")
    ] = None,
    access_log_sample: Annotated[
        float, typer.Option(help="Share of the other requests that is logged, 0 to 1.")
    ] = 0.01,
    fleet_port: Annotated[
        int, typer.Option(help="Port of both protocols, for the fleet's gateway; 0: none.")
    ] = 0,
) -> None:
    """Print a bootstrap for Envoy, which stands in front of Triton and the sidecar."""
    from daemon.bootstraps import EnvoyOptionError
    from daemon.frontdoor.envoy import EnvoyOptions, bootstrap

    try:
        options = EnvoyOptions(
            host=host,
            http_port=http_port,
            grpc_port=grpc_port,
            admin_port=admin_port,
            triton_http=triton_http,
            triton_grpc=triton_grpc,
            door_http=door_http,
            door_grpc=door_grpc,
            body_cap=body_cap,
            memory=memory,
            tls_certificate=tls_certificate,
            tls_key=tls_key,
            access_log=access_log,
            access_log_sample=access_log_sample,
            fleet_port=fleet_port,
        )
    except EnvoyOptionError as error:
        raise _fail(str(error)) from None
    typer.echo(bootstrap(options), nl=False)


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(help="How long the traffic lasts.", min=5)] = 60.0,
    directory: Annotated[
        Path | None, typer.Option(help="Where models, logs and the journal go.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the traffic.")] = 1,
    plain: Annotated[bool, typer.Option(help="Lines instead of the live view.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Keep the fullest view as an SVG.")] = None,
    chaos: Annotated[bool, typer.Option(help="Kill Triton twice, and the sidecar once.")] = False,
) -> None:
    """Show it at work: a real Triton with more models than memory, and shifting traffic.

    Exit 1 when a request failed that was not executing inside a killed process.
    """
    from simulations.demo import DemoError, run_demo

    plain = plain or not sys.stdout.isatty()
    playing = run_demo(seconds, directory, seed, plain=plain, keep=picture, chaos=chaos)
    try:
        held = asyncio.run(playing)
    except DemoError as error:
        raise _fail(str(error)) from None
    if not held:
        raise typer.Exit(1)


for _command in (fleet, gateway_config, pull, *imagining.COMMANDS):
    app.command()(_command)


if __name__ == "__main__":
    main()
