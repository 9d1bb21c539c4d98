"""The evidence behind a run: explain."""

from __future__ import annotations

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


def _place(text: str) -> tuple[int, int]:
    """ "812,440" as (812, 440)."""
    try:
        y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--at {text}: write row and column, as 812,440") from None
    return y, x
