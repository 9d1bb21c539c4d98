"""The evidence behind a run: explain, provenance."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deblur.commands.answers import AsJson, Run, print_json
from deblur.errors import ConfigError


def explain(
    run: Run,
    frame: Annotated[int, typer.Option(help="Which frame, counted from 0.")],
    at: Annotated[str, typer.Option(metavar="Y,X", help="Which pixel: row and column.")],
    picture: Annotated[Path | None, typer.Option(help="Also draw it: a PNG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell where a pixel comes from: source, neighbours, motion, path, solver, weight, unit, versions."""
    from deblur.explain import explain as tell
    from deblur.explain import story_picture
    from deblur.store import find_run
    from deblur.terminal import story_lines

    sequence, chosen = find_run(run)
    story = tell(sequence, chosen, frame=frame, at=_place(at))
    if picture is not None:
        try:
            picture.write_bytes(story_picture(sequence, chosen, story))
        except OSError as error:
            raise ConfigError(f"{picture} can't be written ({error.strerror})") from None
    if as_json:
        print_json(story.groups)
    else:
        typer.echo("\n".join(story_lines(story.groups)))


class Form(StrEnum):
    """How a run's evidence is written."""

    crate = "crate"
    prov = "prov"
    bagit = "bagit"


def provenance(
    run: Run,
    output: Annotated[
        Path | None, typer.Argument(metavar="OUTPUT", help="A file, or the bag's folder.")
    ] = None,
    form: Annotated[
        Form, typer.Option("--format", help="RO-Crate metadata, PROV-JSON, or a BagIt bag of the run.")
    ] = Form.crate,
) -> None:
    """Write a run's evidence: who made it, from what, with what; or pack the whole run as a bag."""
    import json

    from deblur.exchange import prov_json, write_bag
    from deblur.provenance import CRATE
    from deblur.store import find_run

    sequence, chosen = find_run(run)
    if form is Form.bagit:
        if output is None:
            raise ConfigError("--format bagit needs a folder to write: name it after the run")
        typer.echo(f"{write_bag(sequence, chosen, output)} files in the bag {output}")
        return
    told = (
        json.dumps(prov_json(chosen), indent=1) + "\n"
        if form is Form.prov
        else (chosen.path / CRATE).read_text(encoding="utf-8")
    )
    if output is None:
        typer.echo(told, nl=False)
    else:
        output.write_text(told, encoding="utf-8")


def _place(text: str) -> tuple[int, int]:
    """ "812,440" as (812, 440)."""
    try:
        y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--at {text}: write row and column, as 812,440") from None
    return y, x
