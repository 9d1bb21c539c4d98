"""What keeps others out: certificates for a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblur.commands.answers import AsJson, print_json


def certificates(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to write them; only you can read it.")
    ],
    host: Annotated[
        list[str] | None, typer.Option(help="A name or address of the cluster; may be repeated.")
    ] = None,
    days: Annotated[int, typer.Option(help="How long they are valid.")] = 365,
    as_json: AsJson = False,
) -> None:
    """Make the certificates that client, scheduler and workers of a cluster know each other by (TLS)."""
    from deblur.encryption import make_certificates

    made = make_certificates(folder, hosts=host or (), days=days)
    if as_json:
        print_json({key: str(path) for key, path in made.items()})
        return
    typer.echo(
        f"valid for {days} days; copy the folder to every host under the same path, and in the job file:"
    )
    typer.echo("\n".join(["[cluster]", *(f'{key} = "{path}"' for key, path in made.items())]))
