"""What an archive's keeper asks of it: verify, export, reprocess."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblur.commands.answers import (
    ArchiveFolder,
    AsJson,
    JobFile,
    Settings,
    Where,
    as_setting,
    leave,
    print_json,
    print_plans,
    report_outcomes,
)
from deblur.errors import ConfigError

Sequences = Annotated[
    list[str] | None, typer.Option(metavar="ID", help="Only this sequence; may be given again.")
]


def reprocess(
    job: JobFile,
    change: Settings = None,
    sequence: Sequences = None,
    where: Where = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and what would be carried over.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compute again with changed settings: a new run, with what did not change carried over by digest."""
    from deblur import job as work
    from deblur.config import load_job, with_settings
    from deblur.terminal import progress_bars

    config = with_settings(load_job(job), dict(map(as_setting, change or ())))
    ids = work.chosen(config, tuple(sequence or ()), where=where)
    if dry_run:
        plans = work.plan(config, work.published(config, ids), action="reprocess", check=True)
        print_plans(plans, as_json, config.archive)
        return
    from flows.attended import attended

    with progress_bars(quiet=as_json) as progress, attended(progress):
        from flows.reprocess import reprocess as flow

        outcomes = flow(config, ids)
    report_outcomes(outcomes, as_json)


def verify(
    archive: ArchiveFolder,
    sequence: Sequences = None,
    sample: Annotated[
        str, typer.Option(metavar="5%", help="Read so many shards, chosen by --seed.")
    ] = "100%",
    seed: Annotated[int | None, typer.Option(help="Which sample; default: another one each day.")] = None,
    originals: Annotated[
        bool, typer.Option("--originals", help="Also the files that were ingested, where still there.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make damaged shards again, bit for bit; compute nothing else.")
    ] = False,
    job: Annotated[
        Path | None,
        typer.Option(metavar="JOB.toml", help="Repair on this job's cluster, not in one process."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check sources and runs: metadata, digests, completeness; mend what is damaged with --repair."""
    import time
    from contextlib import nullcontext

    from deblur.config import load_job
    from deblur.damage import find_damage
    from deblur.integrity import repair as mend
    from deblur.night import Crew
    from deblur.store import Archive, Sample
    from deblur.terminal import progress_bars

    store, workers = Archive.at(archive), Crew(load_job(job)) if job else nullcontext()
    picked = Sample(_share(sample), int(time.time() // 86400) if seed is None else seed)
    with progress_bars(quiet=as_json) as progress, workers as crew:
        share = crew.share if crew else None
        checked = len(sequence or store.sequences())
        damages = list(
            find_damage(store, sequence or (), sample=picked, originals=originals, progress=progress)
        )
        left = mend(store, damages, connection=share, progress=progress) if repair else damages
    mended = max(0, len(damages) - len(left))  # mended metadata may have brought more to light
    if as_json:
        print_json([str(damage) for damage in left])
    elif not left:
        done = f", {mended} repaired" if mended else ""
        read = "" if picked.share >= 1 else f" ({sample} of them were read)"
        many = "sequence" if checked == 1 else "sequences"
        typer.echo(f"{checked} {many}: every shard is there and as it was written{read}{done}")
    leave(map(str, left))


def _share(text: str) -> float:
    """ "5%" or "0.05" as 0.05."""
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise ConfigError(f"--sample {text}: write a share, as 5%")
    return share


def export(
    archive: ArchiveFolder,
    sequence: Annotated[
        str, typer.Argument(metavar="SEQUENCE", help="A sequence's id, as `deblur status` prints it.")
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT", help="A folder (PNG or TIFF), or .tif, .ome.tif, .npy, .dcm, .mp4, .mkv."
        ),
    ],
    run: Annotated[
        str | None,
        typer.Option(help="A run's id; default: the published one, and those of all its segments."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a run's frames as ordinary files, under their original names; a source that grew comes in one piece."""
    from deblur.terminal import progress_bars
    from deblur.upkeep import export_run

    with progress_bars(quiet=as_json) as progress:
        count = export_run(archive, sequence, output, run=run, progress=progress)
    if as_json:
        print_json({"frames": count, "output": str(output)})
    else:
        typer.echo(f"{count} frames written to {output}")
