"""The command `remora pull`, its exit codes, and what it says on the way."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from daemon.pulling.offers import Source
    from daemon.pulling.placing import Place
    from daemon.pulling.wishes import Wish

NOT_ALL = 1
"""A model could not be brought; trying again may help."""
USELESS = 2
"""The file or an option is wrong; trying again does not help."""


def pull(
    registry: Annotated[Path, typer.Argument(help="The registry file: which models, from where.")],
    model_repository: Annotated[
        Path,
        typer.Option(envvar="REMORA_MODEL_REPOSITORY", help="The model repository to fill."),
    ],
) -> None:
    """Bring models from a registry, a bucket or a folder into Triton's model repository.

    Exit 0 when the repository holds what the file wants, 1 when a model could not be brought,
    2 when the file or an option is wrong.
    """
    from daemon.pulling.placing import repository
    from daemon.pulling.wishes import read_wishes
    from policies.source import PolicyError

    try:
        wishes = read_wishes(registry)
    except PolicyError as error:
        raise _failed(str(error), USELESS) from None
    _check_environment(wishes)
    if not model_repository.is_dir():
        where = f"--model-repository (REMORA_MODEL_REPOSITORY): {str(model_repository)!r}"
        raise _failed(f"{where}; allowed: a folder that is there", USELESS)
    try:
        with repository(model_repository, typer.echo) as place:
            brought = [_is_brought(wish, place) for wish in wishes]
    except OSError as error:
        raise _failed(f"{model_repository}: {error.strerror}", NOT_ALL) from None
    if not all(brought):
        raise _failed(f"{brought.count(False)} of {len(brought)} models not brought", NOT_ALL)


def _is_brought(wish: "Wish", place: "Place") -> bool:
    """One model's trouble is no other's."""
    from daemon.pulling.bringing import Bringing
    from daemon.pulling.offers import PullError

    try:
        Bringing(wish.model, _source(wish), wish.keep, place, typer.echo).bring()
    except PullError as error:
        typer.echo(f"{wish.model}: {error}", err=True)
        return False
    except OSError as error:
        typer.echo(f"{wish.model}: {error}", err=True)
        return False
    return True


def _source(wish: "Wish") -> "Source":
    from daemon.pulling.bringing import WithConfig
    from daemon.pulling.folders import Folder
    from daemon.pulling.registered import Registered

    registered = wish.from_.startswith("models:/")
    source: Source = Registered(wish.from_) if registered else Folder(wish.from_, wish.keep)
    return source if wish.config is None else WithConfig(source, wish.config)


def _check_environment(wishes: "tuple[Wish, ...]") -> None:
    """Without an address MLflow's client makes a registry of its own, in the working directory."""
    from daemon.pulling.registered import SERVER

    wanting = [wish.from_ for wish in wishes if wish.from_.startswith("models:/")]
    server = os.environ.get(SERVER, "")
    if wanting and not server.startswith(("http://", "https://")):
        allowed = "the http:// or https:// address of the MLflow server"
        raise _failed(f"{SERVER}: {server!r}, for {wanting[0]}; allowed: {allowed}", USELESS)


def _failed(text: str, code: int) -> typer.Exit:
    typer.echo(text, err=True)
    return typer.Exit(code)
