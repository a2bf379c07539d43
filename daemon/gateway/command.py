"""The command `remora gateway-config`, and what it says of an option that cannot be used."""

from typing import Annotated

import typer


def gateway_config(
    pod: Annotated[
        list[str] | None,
        typer.Option(
            help="The pods: a headless Service and its --fleet-port, or one HOST:PORT each. "
            "[default: triton:9482]"
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address that Envoy listens on.")] = "0.0.0.0",
    http_port: Annotated[int, typer.Option(help="Port of clients' HTTP.")] = 9580,
    grpc_port: Annotated[int, typer.Option(help="Port of clients' gRPC.")] = 9581,
    admin_port: Annotated[int, typer.Option(help="Envoy's own page, loopback; 0: none.")] = 9590,
    balance: Annotated[
        int, typer.Option(help="A pod's most requests in flight, in % of the mean; 0: no limit.")
    ] = 300,
    body_cap: Annotated[
        str, typer.Option(help="Largest body that can be sent to another pod; largest message.")
    ] = "32MiB",
    memory: Annotated[
        str, typer.Option(help="Envoy's heap; near it, new requests are refused.")
    ] = "1GiB",
) -> None:
    """Print a bootstrap for the fleet's gateway, an Envoy in front of the pods' Envoys."""
    from daemon.bootstraps import EnvoyOptionError
    from daemon.gateway.bootstrap import GatewayOptions, bootstrap

    try:
        options = GatewayOptions(
            host=host,
            http_port=http_port,
            grpc_port=grpc_port,
            admin_port=admin_port,
            pods=tuple(pod or ("triton:9482",)),
            balance_percent=balance,
            body_cap=body_cap,
            memory=memory,
        )
    except EnvoyOptionError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(bootstrap(options), nl=False)
