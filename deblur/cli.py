"""The `deblur` command. Heavy imports happen inside the commands, so that --help answers at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from deblur.errors import ConfigError, DeblurError

if TYPE_CHECKING:
    from deblur.outcome import Outcome


class Interrupted(DeblurError):
    """Ctrl-C: nothing that was finished is lost."""

    exit_code = 130


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # left to Typer, it becomes "Aborted!" and 1 or 130, as the version pleases
            raise Interrupted("interrupted; run the same command again to go on") from None


app = typer.Typer(
    cls=_Commands,
    help="Takes the motion blur out of whole image archives, with the evidence of how.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
JobFile = Annotated[Path, typer.Argument(metavar="JOB.toml", help="The job file; `deblur init` writes one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors that deblur raises on purpose become one line on stderr and the right exit code."""
    _one_line_warnings()
    try:
        app(arguments, prog_name="deblur")
    except DeblurError as error:
        typer.echo(f"deblur: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that may not be written to
        typer.echo(f"deblur: {error.filename or 'input or output'}: {error.strerror or error}", err=True)
        sys.exit(1)


def _one_line_warnings() -> None:
    """What the library logs comes back in the outcome, once, at the end; it must not be said twice."""
    import logging

    logging.getLogger("deblur").addHandler(logging.NullHandler())


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to work.")] = Path("deblur-demo"),
) -> None:
    """Blur a known scene, run the whole job on it, and show what came of it."""
    from deblur.demo import prepare_demo, show_demo
    from deblur.terminal import progress_bars
    from flows.attended import attended

    with progress_bars() as progress:
        config = prepare_demo(folder, progress=progress)
        with attended(progress):
            from flows.archive import archive

            outcomes = archive(config)
    typer.echo(show_demo(folder, outcomes))
    _leave(outcomes)


@app.command()
def init(path: Annotated[Path, typer.Argument(metavar="[JOB.toml]")] = Path("job.toml")) -> None:
    """Write a commented job file to start from."""
    from deblur.config import TEMPLATE

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError:
        raise ConfigError(f"{path} exists already: give another name") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be written ({error.strerror}): give another place") from None
    typer.echo(f"{path} written: name your frames in it, then `deblur plan {path}`")


@app.command()
def run(job: JobFile, as_json: AsJson = False) -> None:
    """Bring the archive up to date with its sources: ingest, plan, compute, verify, publish."""
    from deblur.config import load_job
    from deblur.terminal import progress_bars
    from flows.attended import attended

    config = load_job(job)
    with progress_bars(quiet=as_json) as progress, attended(progress):
        from flows.archive import archive

        outcomes = archive(config)
    _report(outcomes, as_json)


@app.command()
def reprocess(
    job: JobFile,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A changed setting, as restore.iterations=20."),
    ] = None,
    sequence: Annotated[
        list[str] | None, typer.Option(help="Only this sequence; may be given again.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and what would be carried over.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compute again with changed settings: a new run, with what did not change carried over by digest."""
    from deblur import job as work
    from deblur.config import load_job, with_settings
    from deblur.terminal import plan_table, progress_bars

    config = with_settings(load_job(job), dict(map(_setting, change or ())))
    if dry_run:
        outcomes = work.plan(config, work.published(config, tuple(sequence or ())), check=True)
        _print_plans(outcomes, as_json, plan_table)
        return
    from flows.attended import attended

    with progress_bars(quiet=as_json) as progress, attended(progress):
        from flows.reprocess import reprocess as flow

        outcomes = flow(config, tuple(sequence or ()))
    _report(outcomes, as_json)


@app.command()
def ingest(job: JobFile, as_json: AsJson = False) -> None:
    """Read new sources into the archive, without computing anything."""
    from deblur import job as work
    from deblur.config import load_job
    from deblur.terminal import progress_bars

    with progress_bars(quiet=as_json) as progress:
        found = work.ingest(load_job(job), progress=progress)
    lines = [s.describe() for s in found]
    typer.echo(json.dumps([s.dump() for s in found]) if as_json else "\n".join(lines))
    broken = [text for s in found for text in s.broken]
    _exit(broken)


@app.command()
def plan(job: JobFile, as_json: AsJson = False) -> None:
    """Ingest and survey what is new, then say what a run would take: units, halo, memory, time, disk."""
    from deblur import job as work
    from deblur.config import load_job
    from deblur.terminal import plan_table, progress_bars

    config = load_job(job)
    with progress_bars(quiet=as_json) as progress:
        outcomes = work.plan(config, work.ingest(config, progress=progress), progress=progress, check=True)
    _print_plans(outcomes, as_json, plan_table)


@app.command()
def warm() -> None:
    """Compile the kernels into NUMBA_CACHE_DIR: once a container image or host, not in its first unit."""
    from deblur.probe import seconds_per_megapixel

    speed = seconds_per_megapixel()
    typer.echo("kernels compiled; CPU s a megapixel: " + ", ".join(f"{k} {v:.1f}" for k, v in speed.items()))


@app.command()
def status(
    archive: Annotated[Path, typer.Argument(help="An archive's folder.")], as_json: AsJson = False
) -> None:
    """Sequences, runs and their states."""
    from deblur.terminal import status_table
    from deblur.upkeep import status as look

    rows = look(archive)
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        status_table(rows)


@app.command()
def verify(
    archive: Annotated[Path, typer.Argument(help="An archive's folder.")],
    sequence: Annotated[
        list[str] | None, typer.Option(help="Only this sequence; may be given again.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every shard of every source and run against its digest."""
    from deblur.upkeep import verify_archive

    problems = verify_archive(archive, tuple(sequence or ()))
    if as_json:
        typer.echo(json.dumps(problems))
    elif not problems:
        typer.echo("every shard is there and as it was written")
    _exit(problems)


@app.command()
def export(
    archive: Annotated[Path, typer.Argument(help="An archive's folder.")],
    sequence: Annotated[str, typer.Argument(help="A sequence's id, as `deblur status` prints it.")],
    output: Annotated[Path, typer.Argument(help="A folder (PNG or TIFF), or .tif, .npy, .mp4, .mkv.")],
    run: Annotated[str | None, typer.Option(help="A run's id; default: the published one.")] = None,
) -> None:
    """Write a run's frames as ordinary files, under their original names."""
    from deblur.terminal import progress_bars
    from deblur.upkeep import export_run

    with progress_bars() as progress:
        count = export_run(archive, sequence, output, run=run, progress=progress)
    typer.echo(f"{count} frames written to {output}")


@app.command()
def restore(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Folder, glob, video, TIFF, .npy or Zarr.")],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="A folder, or .tif, .npy, .mp4, .mkv, .zarr.")
    ],
    exposure_fraction: Annotated[
        float | None, typer.Option("--exposure-fraction", "-e", help="Exposure time × frame rate, in (0, 1].")
    ] = None,
    frame_rate: Annotated[float | None, typer.Option(help="Frames per second.")] = None,
    exposure_time: Annotated[float | None, typer.Option(help="Seconds the shutter is open.")] = None,
    transfer: Annotated[str, typer.Option(help="auto, srgb or linear.")] = "auto",
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting of a job file.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.")] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a report: one HTML file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Restore one sequence, without an orchestrator."""
    from deblur.config import parse_job, with_settings
    from deblur.single import restore_file
    from deblur.terminal import progress_bars

    told = {
        "path": str(Path(source).expanduser()),
        "exposure_fraction": exposure_fraction,
        "frame_rate": frame_rate,
        "exposure_time": exposure_time,
        "transfer": transfer,
    }
    cluster = {"kind": "serial"} if workers == 1 else {"kind": "local", "workers": workers}
    config = with_settings(
        parse_job({"archive": ".", "sources": [told], "cluster": cluster}, name="restore"),
        dict(map(_setting, change or ())),
    )
    with progress_bars(quiet=as_json) as progress:
        outcomes = restore_file(config, output, report=report, progress=progress)
    _report(outcomes, as_json)


def _setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE; the value as TOML where it is TOML, else as text."""
    import tomllib

    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: write it as KEY=VALUE")
    try:
        return key.strip(), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def _print_plans(outcomes: list[Outcome], as_json: bool, table: Any) -> None:
    if as_json:
        typer.echo(json.dumps([outcome.dump() for outcome in outcomes]))
    else:
        table(outcomes)
    _leave(outcomes)


def _report(outcomes: list[Outcome], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([outcome.dump() for outcome in outcomes]))
    else:
        for outcome in outcomes:
            typer.echo(outcome.line())
    _leave(outcomes)


def _leave(outcomes: list[Outcome]) -> None:
    _exit([text for outcome in outcomes for text in outcome.faults()])


def _exit(faults: list[str]) -> None:
    for text in faults:
        typer.echo(f"deblur: {text}", err=True)
    if faults:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
