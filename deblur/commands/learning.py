"""Training of the network of the method "hybrid"."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from deblur.commands.answers import AsJson, print_json
from deblur.errors import ConfigError


def train(
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PICTURES]...", help="Sharp pictures and films, or folders of them."),
    ] = None,
    output: Annotated[Path, typer.Option(help="The file of weights to write.")] = Path("hybrid.onnx"),
    archive: Annotated[
        str | None, typer.Option("--from", metavar="ARCHIVE", help="Fine-tune on this archive's own frames.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Weights to go on from; with --from the package's own.")
    ] = None,
    hours: Annotated[float, typer.Option(min=0.01, help="About how long it may take.")] = 1.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Exactly so many steps instead.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes and threads; all cores if not given.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Where pairs and state are kept, to go on from after a kill.")
    ] = None,
    note: Annotated[
        list[str] | None, typer.Option(help="A line for the model card, as the pictures' licence.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train the network that corrects physics, on sharp pictures or on an archive's own frames."""
    from dataclasses import replace

    from deblur.learned import require

    require()
    from deblur.learned.archive import lesson_of, wins
    from deblur.learned.pictures import gather
    from deblur.learned.train import Lesson, train
    from deblur.store import Archive
    from deblur.store.durable import write_atomic
    from deblur.terminal import progress_bars

    if (archive is None) == (not pictures):
        raise ConfigError("nothing to learn from: give PICTURES, or --from ARCHIVE, not both")
    if start is not None and not start.is_file():
        raise ConfigError(f"--start {start}: no such file: give weights that `deblur train` wrote")
    given = start.read_bytes() if start else None
    with progress_bars(quiet=as_json) as progress:
        if archive is not None:
            from deblur.deconv.network import shipped

            lesson = lesson_of(Archive.open(archive), start=given or shipped().data)
        else:
            lesson = Lesson(gather(pictures or []), start=given)
        recipe, course = replace(lesson.recipe, seed=seed), replace(lesson.course, seed=seed)
        notes = dict(lesson.notes or {}) | ({"notes": note} if note else {})
        made = train(
            replace(lesson, recipe=recipe, course=course, notes=notes),
            work or output.with_suffix(".training"),
            hours=hours,
            steps=steps,
            workers=workers or os.cpu_count() or 1,
            progress=progress,
        )
    score = made.card["decibels over physics, pictures set aside"]
    kept = archive is None or wins(made.gained, made.before)
    if kept:
        write_atomic(output, made.weights)
    if as_json:
        print_json({"kept": kept, "output": str(output) if kept else None, "card": made.card})
        return
    typer.echo(
        f"on pictures that were set aside: {score['mean']:+.2f} dB over physics (before {score['before']:+.2f}), "
        f"worst {score['worst']:+.2f}"
    )
    if kept:
        typer.echo(f'{output}: to use it, put under [restore]: method = "hybrid", network = "{output}"')
    else:
        typer.echo("that is no better than the weights it started from: nothing was written, keep those")
